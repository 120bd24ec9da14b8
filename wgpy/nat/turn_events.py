"""What a TURN client tells its owner, and how long it waits after each way to fail."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from wgpy.nat.place import Place


class Reason(Enum):
    """Why there is no allocation, or none any more."""

    # No answer in all the time that RFC 8489 gives to one.
    SILENT = "silent"
    # The stream to the server ended, or was never there.
    DISCONNECTED = "disconnected"
    # The server does not know the allocation (437): it was restarted, or a NAT in between was.
    GONE = "gone"
    # Its time was over before a refresh was answered: the machine slept, or the network was away.
    EXPIRED = "expired"
    # The server says that our address and port have an allocation already (437), and it could not
    # be deleted: another socket would do.
    MISMATCH = "mismatch"
    # User name or password are wrong (401), or not those of the allocation (441).
    UNAUTHORIZED = "unauthorized"
    # The same, but there are good ones of another user name: they need an allocation of their own.
    USER_CHANGED = "user-changed"
    # There are no credentials to answer the server's challenge with.
    NO_CREDENTIALS = "no-credentials"
    # One nonce after the other is stale (438).
    NONCE = "nonce"
    # The server does not want to serve us (403).
    FORBIDDEN = "forbidden"
    # As many allocations as this user may have (486), or as the server has room for (508).
    QUOTA = "quota"
    CAPACITY = "capacity"
    # The server cannot do what we ask: an address family (440), a transport (442), an attribute
    # (420).
    UNSUPPORTED = "unsupported"
    # It names another server (300). That is told and not followed: it need not be signed, so who is
    # on the way could choose where our packets go. Which servers there are, the operator says.
    REDIRECTED = "redirected"
    # It has a fault (500 and above), or takes us to have one (400 and what else there is).
    SERVER_ERROR = "server-error"
    BAD_REQUEST = "bad-request"
    # An answer that cannot be true, or is not signed: see the counters.
    LIED = "lied"


# What is told to people.
WORDS: Final[Mapping[Reason, str]] = {
    Reason.SILENT: "no answer",
    Reason.DISCONNECTED: "not connected",
    Reason.GONE: "it has forgotten us",
    Reason.EXPIRED: "out of reach for so long that the relayed address is lost",
    Reason.MISMATCH: "it holds another relayed address for our port",
    Reason.UNAUTHORIZED: "user name or password are wrong",
    Reason.USER_CHANGED: "there is another user name from now on",
    Reason.NO_CREDENTIALS: "there are no credentials for it",
    Reason.NONCE: "it takes none of the nonces that it gives",
    Reason.FORBIDDEN: "it does not want to serve us",
    Reason.QUOTA: "this user has as many relayed addresses as it may have",
    Reason.CAPACITY: "it has no room for more",
    Reason.UNSUPPORTED: "it cannot do what is needed",
    Reason.REDIRECTED: "it names another server, which is not followed",
    Reason.SERVER_ERROR: "it has a fault",
    Reason.BAD_REQUEST: "it does not understand us",
    Reason.LIED: "its answers cannot be true, or are not signed",
}

# The first pause after each, in seconds. Each failure after the other doubles it, up to MAX_PAUSE,
# and at random up to a quarter is added, so that not all ask at once a server that comes back.
FIRST_PAUSE: Final[Mapping[Reason, float]] = {
    # Forty seconds of asking are a pause already.
    Reason.SILENT: 1.0,
    Reason.DISCONNECTED: 0.5,
    # What was there a moment ago is asked for at once, and once only without a pause.
    Reason.GONE: 0.0,
    Reason.EXPIRED: 0.0,
    Reason.USER_CHANGED: 0.0,
    # RFC 8656, section 7.4: two minutes, and one for 486 and 508; not at all what does not change.
    Reason.MISMATCH: 120.0,
    Reason.QUOTA: 60.0,
    Reason.CAPACITY: 60.0,
    Reason.FORBIDDEN: 300.0,
    Reason.UNAUTHORIZED: 300.0,
    Reason.UNSUPPORTED: 600.0,
    Reason.REDIRECTED: 300.0,
    # Set_credentials ends it.
    Reason.NO_CREDENTIALS: 60.0,
    Reason.NONCE: 10.0,
    Reason.SERVER_ERROR: 5.0,
    Reason.BAD_REQUEST: 60.0,
    Reason.LIED: 300.0,
}
MAX_PAUSE: Final = 600.0
# What doubles where the first pause is none.
LEAST_PAUSE: Final = 1.0


def pause(reason: Reason, before: int, random: int) -> float:
    """Seconds to wait after a failure, when `before` others came before it without success between.
    `random` is one byte."""
    first = FIRST_PAUSE[reason]
    if before == 0 and first == 0.0:
        return 0.0
    # Eleven doublings pass MAX_PAUSE from any of them.
    grown = max(first, LEAST_PAUSE / 2) * 2 ** min(before, 11)
    return float(min(grown, MAX_PAUSE) * (1 + random / 1024))


@dataclass(frozen=True, slots=True)
class Allocated:
    """The server relays for us. `relayed` is where peers send to, `mapped` where the server sees us
    come from if it says something sensible, `lifetime` in seconds."""

    relayed: Place
    mapped: Place | None
    lifetime: float


@dataclass(frozen=True, slots=True)
class Bound:
    """ChannelData with this number goes to the peer and comes from it, from now on."""

    peer: Place
    channel: int


@dataclass(frozen=True, slots=True)
class PermissionRefused:
    """The server does not relay to or from this peer; `code` is what it said. It is asked again
    after a pause, until the peer is released. `channel` is 0 for a permission (port 0) alone."""

    peer: Place
    channel: int
    code: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """A datagram from a peer that has a permission but no channel: from another port than was
    expected, as behind a NAT with a mapping for each destination. Who sent it is not proved."""

    peer: Place
    data: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no allocation, for now: the attempt failed, or what was there is gone. No channel is
    bound any more; those that are not released are Bound again, with their numbers, in the next.

    `code` is the server's error, 0 for none. `again` is when the next attempt is made. `until` is
    how long the server may still keep the old allocation for this address and port, if it does: an
    allocation from another socket need not wait for it. `alternate` is the server that it names.
    """

    reason: Reason
    code: int
    again: float
    until: float | None = None
    alternate: Place | None = None


class Need(Enum):
    """Why credentials are needed."""

    NONE = "none"
    EXPIRING = "expiring"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class CredentialsNeeded:
    """The source has none (or only those that were refused): call `set_credentials`. EXPIRING says
    so a minute before, and what is there keeps working meanwhile."""

    why: Need


Event = Allocated | Bound | PermissionRefused | Arrived | Lost | CredentialsNeeded
