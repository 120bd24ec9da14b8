"""What a pathfinder wants done, in the order in which `take` gives it, and what it is told.

`Send` of place.py is one of the orders, and by far the most frequent.
"""

from enum import Enum
from typing import Final, NamedTuple

from wgpy.nat.candidates import Candidate
from wgpy.nat.place import Place, Send


class Use(NamedTuple):
    """The tunnel's packets to the peer go there from now on, those that come within `hold` seconds
    after they have passed (`set_endpoint` of the data path)."""

    place: Place
    hold: float


class Unuse(NamedTuple):
    """There is no way to the peer that is known to work: its endpoint is void."""


class Ask(NamedTuple):
    """A sealed signal for the peer, 353 bytes."""

    data: bytes


class WantSockets(NamedTuple):
    """Open `number` more UDP sockets of this IP version on ports of their own, ask a STUN server
    from each, unless there are more than 16, and call `sockets`. Beyond a second nobody waits."""

    number: int
    family: int


class DropSockets(NamedTuple):
    """These sockets, by what `sockets` called them, are of no more use."""

    vias: tuple[int, ...]


class PathIds(NamedTuple):
    """Datagrams of types 0x12 and 0x13 with these path ids, 8 bytes each, are this pathfinder's;
    all others no longer."""

    ids: tuple[bytes, ...]


class Remote(NamedTuple):
    """What the peer says of itself, filtered. Those that are RELAYED are the ones to bind a channel
    to, if there is a relay of ours: then call `relay`."""

    candidates: tuple[Candidate, ...]


class DoubtRelay(NamedTuple):
    """A path through this relay of ours is silent: its server is to be asked whether it still
    relays for us."""

    via: int


class Observed(NamedTuple):
    """The peer sees us at this address and port, when we send from socket `via`. One peer's word
    (see witness.py)."""

    host: str
    port: int
    via: int


class Mtu(NamedTuple):
    """Datagrams of `length` bytes of UDP payload pass to this place unfragmented, and none of the
    next size that was tried. A packet inside may have 32 bytes less (transport header and tag)."""

    place: Place
    length: int


class Carrier(Enum):
    """What carries the peer's packets: nothing, and nothing is done about it; nothing yet; or one
    of two."""

    NONE = "none"
    SEARCHING = "searching"
    RELAY = "relay"
    DIRECT = "direct"


class Report(NamedTuple):
    """For people: what carries packets now, and why, or what is being tried."""

    carrier: Carrier
    why: str


Order = (
    Send
    | Use
    | Unuse
    | Ask
    | WantSockets
    | DropSockets
    | PathIds
    | Remote
    | DoubtRelay
    | Observed
    | Mtu
    | Report
)


class Opened(NamedTuple):
    """A socket that was wanted: what the shell calls it, its port, and the address and port that a
    STUN server saw; None if it was not asked or has not answered."""

    via: int
    local_port: int
    reflexive: tuple[str, int] | None = None


class Status(NamedTuple):
    """How the path to a peer is now. Seconds; `loss` is a share; `mtu` is that of `Mtu`, or 0."""

    carrier: Carrier
    place: Place | None
    round_trip: float | None
    loss: float
    mtu: int
    why: str


class Options(NamedTuple):
    """What an operator says, and what the shell knows from the start.

    `patient`: signals are pasted by people, so they live for ten minutes and none is repeated.
    `keepalive` is how often an idle path is asked: less than the lifetime of the NAT's mappings.
    """

    relay_only: bool = False
    patient: bool = False
    # RFC 4787 wants mappings to last 2 minutes, Linux keeps an unanswered one for 30 s.
    keepalive: float = 20.0


DEFAULTS: Final = Options()
