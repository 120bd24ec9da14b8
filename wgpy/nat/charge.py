"""One managed peer in the agent's charge: its pathfinder, and what its orders come to.

The pathfinder says what it wants; here it is done by the device's roads, the sockets, the relays
and the office. A peer that nobody talks to has no pathfinder, and costs nothing. Where the operator
has said where the peer may be, plain initiations are tried there as well: it may know nothing of
probes and signals.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from wgpy.datapath.contract import Endpoint
from wgpy.device.paths import PathKind, PathState, TurnUri
from wgpy.device.roads import Roads
from wgpy.device.uapi import Address
from wgpy.device.ways import WayError
from wgpy.keys import PublicKey
from wgpy.nat.blob import BlobError, pack_blob, parse_blob
from wgpy.nat.budget import Budget
from wgpy.nat.candidates import MAX_CANDIDATES, NOTHING, Candidate, Refused
from wgpy.nat.facts import UNKNOWN, NatFacts
from wgpy.nat.orders import (
    Ask,
    Carrier,
    DoubtRelay,
    DropSockets,
    Mtu,
    Observed,
    Opened,
    Order,
    PathIds,
    Remote,
    Report,
    Unuse,
    Use,
    WantSockets,
)
from wgpy.nat.pathfinder import Pathfinder
from wgpy.nat.place import Place, Send
from wgpy.nat.plain import Initiate, PlainPath
from wgpy.nat.signal_message import sender_of
from wgpy.protocol.messages import ParseError

# Traffic is looked at this often while there is some, and this often while there is none: what
# begins in between is noticed by the first probe that goes unanswered.
BUSY: Final = 1.0
IDLE: Final = 5.0
# A peer that answers nothing for so long is asked elsewhere: when WireGuard wants new keys
# (KEEPALIVE_TIMEOUT and REKEY_TIMEOUT).
DEAF_SECONDS: Final = 15.0
# What a transport message adds to a packet: header and tag.
OVERHEAD: Final = 32
# Signals that come before it is known where we may be found.
MAX_EARLY: Final = 4
# An offer that a person carries lives for 600 s; the last minute is for the way.
OFFER_SECONDS: Final = 540.0

_KINDS: Final = {
    Carrier.NONE: PathKind.NONE,
    Carrier.SEARCHING: PathKind.SEARCHING,
    Carrier.RELAY: PathKind.RELAY,
    Carrier.DIRECT: PathKind.DIRECT,
}


def to_endpoint(place: Place) -> Endpoint:
    """A place as the data path takes it."""
    return Endpoint(place.host, place.port, via=place.via, channel=place.channel)


def to_place(endpoint: Endpoint) -> Place:
    """A place as the data path gives it."""
    return Place(endpoint.address, endpoint.port, endpoint.via, endpoint.channel)


class Standing(NamedTuple):
    """What is told to every pathfinder: where we may be found, and how it is to be looked for."""

    candidates: tuple[Candidate, ...] = ()
    facts: NatFacts = UNKNOWN
    refused: Refused = NOTHING
    link_mtu: int = 1500
    relay_only: bool = False
    keepalive: float = 20.0


@dataclass(frozen=True, slots=True)
class Hands:
    """What a charge does its orders with; the agent's."""

    send: Callable[[Send], None]
    # What the data path calls a place, once packets are to go there.
    outward: Callable[[Place], Place | None]
    post: Callable[[PublicKey, bytes], None]
    want_sockets: Callable[[PublicKey, WantSockets, float], None]
    drop_sockets: Callable[[tuple[int, ...]], None]
    path_ids: Callable[[PublicKey, tuple[bytes, ...]], None]
    remote: Callable[[PublicKey, tuple[Candidate, ...], float], None]
    doubt_relay: Callable[[int], None]
    observed: Callable[[PublicKey, Observed], None]
    # The largest packet inside that fits the way in use, 0 if it is not known.
    mtu: Callable[[PublicKey, int], None]
    log: Callable[[str], None]


class Charge:
    """One peer. `run` after each call of the pathfinder's, and when `due` says so."""

    def __init__(self, key: PublicKey, roads: Roads, hands: Hands, budget: Budget) -> None:
        self.key = key
        self.finder: Pathfinder | None = None
        # Whether the pathfinder was told where we may be found.
        self._is_told = False
        self._early: list[bytes] = []
        self._hints: dict[Place, None] = {}
        self._plain = PlainPath(budget)
        # People carry the signals of this peer.
        self.is_talking = False
        # What they are to carry, and until when it is good.
        self._offer: tuple[str, float] | None = None
        self._roads = roads
        self._hands = hands
        self._place: Place | None = None
        self._let_go_at: float | None = None
        self._look_at = 0.0
        self._seen = (0.0, 0.0)
        self._busy_until = 0.0

    @property
    def destination(self) -> Place | None:
        """The address and port that packets to the peer reach, by whichever socket or relay."""
        return None if self._place is None else Place(self._place.host, self._place.port)

    # --- Driving the pathfinder ---

    def run(self, now: float) -> None:
        """Do what is due, and what the pathfinder wants."""
        if self._let_go_at is not None and now >= self._let_go_at:
            self._let_go_at = None
            self._roads.let_go(self.key)
        self._plain.tick(now)
        for step in self._plain.take():
            if isinstance(step, Initiate):
                self._roads.call(self.key, to_endpoint(step.place))
            elif self._place is None:
                self._roads.use(self.key, to_endpoint(step.place))
        finder = self.finder
        if now >= self._look_at:
            self._look(finder, now)
        if finder is None:
            return
        finder.tick(now)
        for order in finder.take():
            self._do(order, now)

    def due(self) -> float | None:
        """When `run` has something to do."""
        moments = [self._let_go_at, self._plain.due()]
        if self.finder is not None:
            moments.append(self.finder.due())
        if self.finder is not None or self._plain.used is not None:
            moments.append(self._look_at)
        return min((each for each in moments if each is not None), default=None)

    def stop(self, now: float) -> None:
        """Nothing is looked for any more. Where the peer is stays as it is."""
        if self._let_go_at is not None:
            self._let_go_at = None
            self._roads.let_go(self.key)
        self._is_told, self._early = False, []
        finder, self.finder = self.finder, None
        if finder is not None:
            finder.stop(now)
            for order in finder.take():
                if not isinstance(order, Use | Unuse | Ask):
                    self._do(order, now)
        self._place, self.is_talking, self._offer = None, False, None
        self._hands.mtu(self.key, 0)

    # --- What comes for it ---

    def local(self, standing: Standing, now: float) -> None:
        """Where we may be found."""
        self._plain.candidates(tuple(self._hints), standing.refused)
        if self.finder is None:
            return
        self.finder.keepalive(standing.keepalive)
        self.finder.local(
            standing.candidates,
            standing.facts,
            now,
            refused=standing.refused,
            link_mtu=standing.link_mtu,
        )
        self._is_told = True
        early, self._early = self._early, []
        for data in early:
            self.finder.signal(data, now)

    def signal(self, data: bytes, now: float) -> None:
        """A sealed signal of the peer's; it waits until we know what to answer."""
        if self.finder is not None and self._is_told:
            self.finder.signal(data, now)
        elif self.finder is not None and len(self._early) < MAX_EARLY:
            self._early.append(data)

    def hint(self, place: Place) -> None:
        """The peer may be there, says the operator."""
        self._hints.pop(place, None)
        while len(self._hints) >= MAX_CANDIDATES:
            del self._hints[next(iter(self._hints))]
        self._hints[place] = None

    def want(self, now: float) -> None:
        """A handshake is wanted, and no packet of the peer's has come for a while."""
        if self._place is None:
            self._plain.want(now)

    def heard(self, place: Place, now: float) -> None:
        """Authentic packets came from there."""
        # A peer that answers probes is not asked by handshakes. Further sockets are for those only.
        if self._place is None and place.via >= 0:
            self._plain.heard(place, now)
        if self.finder is not None:
            self.finder.heard(place, now)

    def active(self, now: float) -> None:
        """Packets pass."""
        if self.finder is not None:
            self.finder.active(now)

    def sockets(self, opened: Iterable[Opened], now: float) -> None:
        """The sockets that were wanted."""
        if self.finder is not None:
            self.finder.sockets(tuple(opened), now)

    # --- People who carry signals ---

    def talk(self) -> None:
        """Signals are offered to people from now on."""
        self.is_talking, self._offer = True, None

    def offered(self, now: float) -> str | None:
        """The text to carry to the other side, while it is good."""
        return None if self._offer is None or now >= self._offer[1] else self._offer[0]

    def read(self, text: str) -> bytes:
        """The signal in a text that the other side printed. Raises WayError."""
        try:
            data = parse_blob(text)
            sender = sender_of(data)
        except (BlobError, ParseError) as error:
            raise WayError(str(error)) from None
        if sender != self.key:
            raise WayError("this was printed by another peer")
        return data

    def _post(self, data: bytes, now: float) -> None:
        if self.is_talking:
            self._offer = (pack_blob(data), now + OFFER_SECONDS)
        else:
            self._hands.post(self.key, data)

    # --- What passes ---

    def _look(self, finder: Pathfinder | None, now: float) -> None:
        """Tell the pathfinder what passed since the last look."""
        activity = self._roads.activity(self.key)
        if activity is None:
            return
        silence = activity.first_data_sent_unanswered
        if self._place is None and silence and now - silence > DEAF_SECONDS:
            # Where a plain peer was, it is no more.
            self._plain.want(now)
        self._look_at = now + IDLE
        if finder is None:
            return
        sent, received = activity.last_data_sent, activity.last_received
        if sent > self._seen[0] or activity.last_data_received > self._seen[1]:
            self._busy_until = now + 2 * IDLE
            finder.active(now)
        if received > self._seen[1] and self._place is not None:
            finder.heard(self._place, now)
        self._seen = (sent, received)
        self._look_at = now + (BUSY if now < self._busy_until else IDLE)

    # --- What it wants ---

    def _do(self, order: Order, now: float) -> None:
        hands = self._hands
        if isinstance(order, Send):
            hands.send(order)
        elif isinstance(order, Use):
            self._use(order, now)
        elif isinstance(order, Unuse):
            self._place = None
            self._roads.use(self.key, None)
            hands.mtu(self.key, 0)
        elif isinstance(order, Ask):
            self._post(order.data, now)
        elif isinstance(order, WantSockets):
            hands.want_sockets(self.key, order, now)
        elif isinstance(order, DropSockets):
            hands.drop_sockets(order.vias)
        elif isinstance(order, PathIds):
            hands.path_ids(self.key, order.ids)
        elif isinstance(order, Remote):
            hands.remote(self.key, order.candidates, now)
        elif isinstance(order, DoubtRelay):
            hands.doubt_relay(order.via)
        elif isinstance(order, Observed):
            hands.observed(self.key, order)
        elif isinstance(order, Mtu):
            hands.mtu(self.key, order.length - OVERHEAD)
        elif isinstance(order, Report):
            self._tell(order)

    def _tell(self, report: Report) -> None:
        """A line for people: which peer, what is now, and where that is."""
        text = f"{self.key.base64()[:8]}: {report.why}"
        if report.carrier is Carrier.DIRECT and self._place is not None:
            text += f": {self._place}"
        self._hands.log(text)

    def _use(self, order: Use, now: float) -> None:
        place = self._hands.outward(order.place)
        if place is None:
            return
        self._place = order.place
        if order.hold > 0:
            self._let_go_at = now + order.hold
        self._roads.use(self.key, to_endpoint(place), order.hold)
        self._look_at = now

    # --- What is shown ---

    def describe(self, relay_of: Callable[[int], TurnUri | None]) -> PathState:
        """The way now."""
        if self.finder is None:
            return PathState(PathKind.NONE, reason="nobody has asked for it")
        status = self.finder.status()
        place = status.place
        relay = relay_of(place.via) if place is not None and place.channel else None
        return PathState(
            _KINDS[status.carrier],
            place=None if place is None else Address(place.host, place.port),
            relay=relay,
            round_trip=status.round_trip,
            loss=status.loss,
            mtu=max(status.mtu - OVERHEAD, 0),
            reason=status.why,
        )
