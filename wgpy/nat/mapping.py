"""What the protocols of port mapping have in common: answers, and what is believed of them."""

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from wgpy.nat.candidates import is_private, place_fault
from wgpy.nat.place import Place

# PCP and NAT-PMP share the server's port, and the port and groups of what it says unasked
# (RFC 6887, 19.1; RFC 6886, 3.2.1).
SERVER_PORT: Final = 5351
ANNOUNCE_PORT: Final = 5350
ANNOUNCE_V4: Final = "224.0.0.1"
ANNOUNCE_V6: Final = "ff02::1"

# A longer promise is taken for this, a day, as RFC 6887, 7.2, advises: routers are replaced.
MAX_LIFETIME: Final = 86_400
# Nobody renews more often than each 4 s (RFC 6887, 11.2.1), and half of a lifetime must be left for
# a renewal that is lost.
MIN_LIFETIME: Final = 10
# For how long a refusal is heeded, whatever it says (RFC 6887, 8.3 and 7.4).
MAX_REFUSAL: Final = 1_800


class Service(Enum):
    """What asks a router for a port; the value is its name for people. In the order of choice."""

    PCP = "PCP"
    NAT_PMP = "NAT-PMP"
    UPNP = "UPnP"


class Granted(NamedTuple):
    """The router forwards `host` and `port` to us for `lifetime` seconds.

    `host` is empty where the protocol tells it apart; a lifetime of 0 means until it is removed.
    """

    host: str
    port: int
    lifetime: int


class Present(NamedTuple):
    """The service is there. `host` is the router's external address, empty if it was not told."""

    host: str = ""


class Removed(NamedTuple):
    """The router forwards the port no more."""


class Refused(NamedTuple):
    """The service will not. `pause` is for how many seconds that holds, 0 if it did not say.

    `absent`: the server speaks another protocol, so this service is not there at all.
    """

    reason: str
    pause: int = 0
    absent: bool = False


Content = Granted | Present | Removed | Refused


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a server. `epoch` is since when, in seconds, it remembers its mappings."""

    service: Service
    epoch: int
    content: Content


@dataclass(frozen=True, slots=True)
class Mapping:
    """A port at a router that leads to ours. `expires` is a moment of the clock that times were
    given in, None if the mapping holds until it is removed."""

    external: Place
    service: Service
    expires: float | None
    gateway: str


class Changed(NamedTuple):
    """The mapping is another from now on, or gone, and why in words."""

    mapping: Mapping | None
    reason: str


class Epoch:
    """The epoch of one server: whether it went on as time did, or the mappings were lost.

    `strict` also takes one that ran ahead for a loss (RFC 6887, 8.5); NAT-PMP looks only for one
    that fell behind (RFC 6886, 3.6).
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._seen: tuple[int, float] | None = None

    def has_lost(self, epoch: int, now: float) -> bool:
        """Whether mappings were lost since the last `note`."""
        if self._seen is None:
            return False
        before, then = self._seen
        if self._strict:
            if epoch + 1 < before:
                return True
            theirs, ours = epoch - before, now - then
            # A clock may be off by a sixteenth, and by 2 s for what rounding and the network do.
            return ours + 2 < theirs - theirs / 16 or theirs + 2 < ours - ours / 16
        return epoch + 2 < before + (now - then) * 7 / 8

    def note(self, epoch: int, now: float) -> bool:
        """Remember what an answer said; returns `has_lost` of it."""
        lost = self.has_lost(epoch, now)
        self._seen = (epoch, now)
        return lost


def is_public(host: str) -> bool:
    """Whether an address is unicast, and not one that NATs give away."""
    return place_fault(host, 1) is None and not is_private(host)


def why_unusable(host: str, port: int) -> str:
    """Why nobody outside could reach us there, in words; empty if somebody could."""
    if port == 0:
        return "the router grants port 0"
    if is_private(host):
        return f"the router's external address {host} is private: there is another NAT before it"
    if not is_public(host):
        return f"the router's external address {host} is none of the Internet"
    return ""
