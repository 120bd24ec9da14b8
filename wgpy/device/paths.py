"""What an operator says about ways through NATs, and what is shown of them.

The device itself finds no ways. Whoever does (wgpy/nat/agent.py) is told these settings, moves the
endpoints of peers, and fills the states; a device without one refuses the settings.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # It has these types in its own.
    from wgpy.device.uapi import Address


# Two servers tell how a NAT behaves, and a third and a fourth that they are right; these are all
# asked at once. Each may have several addresses: the data path follows 64.
MAX_STUN_SERVERS: Final = 8
# The data path has room for 16 relays: each way to each server may become one.
MAX_TURN_SERVERS: Final = 4
MAX_TURN_URIS: Final = 4
# RFC 8489 section 14.3: less than 509 bytes.
MAX_USERNAME_LENGTH: Final = 508
# An offer is a datagram in base64, and some characters before it.
MAX_OFFER_LENGTH: Final = 2048


class Transport(Enum):
    """How a TURN server is reached (RFC 7065): `turn:` by UDP or TCP, `turns:` by TLS."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class TurnUri:
    """One way to a TURN server, as a URI says it (RFC 7065; servers.py reads and writes it).

    `host` is a name or an address, without brackets.
    """

    host: str
    port: int
    transport: Transport = Transport.UDP


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """One TURN server: the ways to it, in the order in which they are tried, and the credential.

    With `secret_file`, credentials are made from a secret shared with the server, hold for a
    limited time, and carry `username`, which may be empty; with `password_file` they are `username`
    and the password in the file. It has one of the two. Files are named by absolute paths.
    """

    uris: tuple[TurnUri, ...]
    username: str = ""
    password_file: str | None = None
    secret_file: str | None = None
    # Whom to trust for TLS; None is whom the machine trusts.
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class NatSettings:
    """The `[nat]` of an interface."""

    # Servers that tell the address that they see, host and port.
    stun: tuple[tuple[str, int], ...] = ()
    turn: tuple[TurnSettings, ...] = ()
    # Ask the router for a port, by PCP, NAT-PMP or UPnP.
    portmap: bool = True
    # A directory that the peers share, through which they tell each other where they are; its
    # absolute path.
    signal: str | None = None
    # The birthday method: hundreds of probes to one peer behind a NAT with random ports.
    birthday: bool = False
    # Never tell or take a direct way: all goes through the relay.
    relay_only: bool = False


class PathKind(Enum):
    """What carries a peer's packets now: nothing, which nobody minds or somebody works on, a relay,
    or the network alone."""

    NONE = "none"
    SEARCHING = "searching"
    RELAY = "relay"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class PathState:
    """The way to one peer. Times are in seconds."""

    kind: PathKind
    # Where the peer is; through a relay, the peer's address as the relay knows it.
    place: "Address | None" = None
    # The way to the TURN server that carries it.
    relay: TurnUri | None = None
    round_trip: float | None = None
    # Of the last probes, the share that was not answered.
    loss: float = 0.0
    # What an IP packet inside may have, 0 if it is not known.
    mtu: int = 0
    # For a person: what is being tried, or why nothing better was found.
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NatState:
    """What is known of the way out of this machine."""

    # Where others may find us, and how each was learned: `host`, `mapped`, `reflexive`, `relayed`.
    candidates: tuple[tuple[str, "Address"], ...] = ()
    # The mapping behaviour in the words of RFC 4787, empty if it is not known.
    mapping: str = ""
    # The service that forwards a port to us, empty for none.
    portmap: str = ""
    # How often the NAT's mapping needs a packet, in seconds, by what was measured; 0 for unknown.
    keepalive: float = 0.0
