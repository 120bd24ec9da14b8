"""A node of the fake internet: it drives a real Pathfinder as the real shell does, and is short.

It has sockets, asks STUN servers, has a relay if it is given one, carries numbered packets as a
tunnel would, and keeps books of what it sent to whom before that had answered.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from tests.support.fake_nat import Address, Host, Host6, Packet, Reflector, World
from wgpy.keys import PrivateKey, PublicKey
from wgpy.nat.budget import Budget
from wgpy.nat.candidates import Candidate, Kind, Refused
from wgpy.nat.facts import UNKNOWN, NatFacts
from wgpy.nat.orders import (
    DEFAULTS,
    Ask,
    Carrier,
    DropSockets,
    Mtu,
    Observed,
    Opened,
    Options,
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
from wgpy.nat.sealed import path_keys
from wgpy.nat.signal import Post
from wgpy.protocol.handshake import Local
from wgpy.protocol.handshake import Remote as RemoteKey

PORT = 51820
RELAY_VIA = 1000
CHANNEL = 0x4000
PROBE, REPLY = 0x12, 0x13
# The packets of the tunnel in these tests: a type of WireGuard's, and a number.
DATA = b"\x04\0\0\0"


class FakePost(Post):
    """Carries signals on the world's clock."""

    def __init__(self, world: World, **weather: float):
        super().__init__(lambda: world.now, world.random.random, **weather)
        self._world = world

    def take(self, peer: PublicKey, data: bytes) -> None:
        super().take(peer, data)
        self._plan()

    def deliver(self) -> None:
        super().deliver()
        self._plan()

    def _plan(self) -> None:
        due = self.due()
        if due is not None:
            self._world.at(due, self.deliver)


class Relay:
    """Lends addresses, and takes datagrams from one to the other: 30 ms to it and 30 ms from it."""

    def __init__(self, world: World, address: str = "198.51.100.200"):
        self.world = world
        self.address = address
        self.alive = True
        self._nodes: dict[int, Node] = {}

    def lend(self, node: "Node") -> Address:
        port = 50000 + len(self._nodes)
        self._nodes[port] = node
        return self.address, port

    def carry(self, source: Address, target: Address, data: bytes) -> None:
        node = self._nodes.get(target[1])
        if not self.alive or node is None or source not in node.relay_lets_in:
            return
        place = Place(*source, RELAY_VIA, CHANNEL)
        self.world.after(2 * self.world.delay, lambda: node.arrive(data, place))


@dataclass
class Books:
    """What a node sent, and when, to addresses and ports that had not answered it before."""

    probes: list[tuple[float, Address]]
    answers: list[tuple[float, Address]]


class Node:
    """One side. `befriend` makes two of them peers."""

    def __init__(
        self,
        world: World,
        host: Host,
        post: Post,
        seed: bytes,
        *,
        facts: NatFacts = UNKNOWN,
        options: Options = DEFAULTS,
        servers: Iterable[Reflector] = (),
        relay: Relay | None = None,
        host6: Host6 | None = None,
        budget: Budget | None = None,
        mapped: Candidate | None = None,
    ):
        self.world = world
        self.host = host
        self.host6 = host6
        self.facts = facts
        self.options = options
        self.servers = list(servers)
        self.local_key = Local(PrivateKey(seed * 32))
        self.key = self.local_key.public
        self.signal = post.box(self.key)
        self.signal.listen(self._on_signal)
        self.budget = budget or Budget()
        self.relay = relay
        self.relayed = relay.lend(self) if relay is not None else None
        self.relay_lets_in: set[Address] = set()
        self.mapped = mapped
        self.finder: Pathfinder
        # What happened.
        self.reports: list[tuple[float, Report]] = []
        self.uses: list[tuple[float, Use]] = []
        self.observed: list[Observed] = []
        self.mtus: list[Mtu] = []
        self.sent: list[tuple[float, Send]] = []
        self.books = Books([], [])
        # Places from where a reply came, be it genuine or not.
        self.answered_from: set[Place] = set()
        self.received: list[int] = []
        self.arrivals: list[float] = []
        self.used: Place | None = None
        self.path_ids: tuple[bytes, ...] = ()
        self.opened: dict[int, int] = {}
        self._answered: set[Address] = set()
        self._vias = 0
        self._held: deque[bytes] | None = None
        self._hold_number = 0
        self._stun: dict[bytes, tuple[int, float]] = {}
        self._seen: dict[int, Address] = {}
        self._wake_at: float | None = None
        self._paused = False
        self.fails_to_open = False
        host.bind(PORT, lambda packet: self._on_packet(0, packet))
        if host6 is not None:
            host6.bind(PORT, lambda packet: self._on_packet(0, packet))

    def befriend(self, other: "Node") -> None:
        for one, two in ((self, other), (other, self)):
            keys = path_keys(RemoteKey(one.local_key, two.key, None))
            one.peer = two
            one.finder = Pathfinder(
                keys,
                one.world.random.randbytes,
                one.budget,
                1_790_000_000_000 + int(one.world.now * 1000),
                one.options,
            )

    def move(self, host: Host, facts: NatFacts) -> None:
        """To another network: the old address is gone, the sockets are the same."""
        for port in (PORT, *self.opened.values()):
            host.bind(port, self.host.sockets[port])
        self.host.leave()
        self.host, self.facts = host, facts
        self._seen.clear()
        self.finder.network_changed(self.world.now)
        self.settle()
        self.start()

    # --- Finding out who we are ---

    def start(self) -> None:
        """Ask the STUN servers, and tell the pathfinder."""
        self.ask_stun(0)
        self.world.after(4 * self.world.delay + 0.01, self.tell)

    def ask_stun(self, via: int) -> None:
        for number, server in enumerate(self.servers):
            question = b"?%d-%d" % (via, number)
            port = PORT if via == 0 else self.opened[via]
            # One after the other, so that the last answer is the latest mapping.
            self.world.after(
                number * 0.005,
                lambda to=server, what=question, port=port: self.host.send(
                    port, (to.address, to.PORT), what
                ),
            )

    def tell(self) -> None:
        """Our candidates as they are now."""
        self.finder.local(self.candidates(), self.facts, self.world.now, refused=self.refused)
        self.settle()

    refused = Refused()

    def candidates(self) -> list[Candidate]:
        found = [Candidate(Kind.HOST, self.host.address, PORT)]
        if self.host6 is not None:
            found.append(Candidate(Kind.HOST, self.host6.address, PORT))
        if self.mapped is not None:
            found.append(self.mapped)
        if 0 in self._seen:
            found.append(Candidate(Kind.REFLEXIVE, *self._seen[0]))
        if self.relayed is not None:
            found.append(Candidate(Kind.RELAYED, *self.relayed))
        return found

    # --- What comes in ---

    def paste(self, data: bytes) -> None:
        """A person brings a signal."""
        self._on_signal(data)

    def _on_signal(self, data: bytes) -> None:
        if not self._paused:
            self.finder.signal(data, self.world.now)
            self.settle()

    def _on_packet(self, via: int, packet: Packet) -> None:
        if packet.data.startswith(b"?"):
            _, host, port = packet.data.decode().split()
            self._seen[via] = (host, int(port))
            return
        self.arrive(packet.data, Place(*packet.source, via))

    def arrive(self, data: bytes, place: Place) -> None:
        if self._paused:
            return
        if data.startswith(DATA):
            self.received.append(int.from_bytes(data[4:12], "little"))
            self.arrivals.append(self.world.now)
            self.finder.heard(place, self.world.now)
        elif data[4:12] in self.path_ids:
            if data[0] == REPLY:
                self._answered.add((place.host, place.port))
                self.answered_from.add(place)
            self.finder.receive(data, place, self.world.now)
        self.settle()

    # --- What goes out ---

    def settle(self) -> None:
        """Do what the pathfinder wants, and wake it when it wants."""
        if self._paused:
            return
        self.finder.tick(self.world.now)
        orders = self.finder.take()
        while orders:
            for order in orders:
                self._do(order)
            orders = self.finder.take()
        due = self.finder.due()
        assert due is None or due > self.world.now, "a shell would turn in circles"
        if due is not None and (self._wake_at is None or due < self._wake_at):
            self._wake_at = due
            self.world.at(due, lambda when=self._wake_at: self._wake(when))

    def _wake(self, when: float) -> None:
        if self._wake_at == when:
            self._wake_at = None
            self.settle()

    def pause(self, paused: bool) -> None:
        """The machine sleeps, or wakes up."""
        self._paused = paused
        if not paused:
            self._wake_at = None
            self.settle()

    def _do(self, order: Order) -> None:
        now = self.world.now
        if isinstance(order, Send):
            self._book(order)
            self.send(order)
        elif isinstance(order, Ask):
            self.signal.send(self.peer.key, order.data)
        elif isinstance(order, Use):
            assert order.place in self.answered_from, "packets to a place that did not answer"
            self.uses.append((now, order))
            self._use(order)
        elif isinstance(order, Unuse):
            self.used = None
        elif isinstance(order, PathIds):
            self.path_ids = order.ids
        elif isinstance(order, WantSockets):
            self._open(order)
        elif isinstance(order, DropSockets):
            for via in order.vias:
                self.host.unbind(self.opened.pop(via))
        elif isinstance(order, Remote):
            self._bind_relay(order.candidates)
        elif isinstance(order, Observed):
            self.observed.append(order)
        elif isinstance(order, Mtu):
            self.mtus.append(order)
        elif isinstance(order, Report):
            self.reports.append((now, order))

    def send(self, order: Send) -> None:
        place = order.to
        if place.via == RELAY_VIA:
            if self.relay is not None and self.relayed is not None:
                self.relay.carry(self.relayed, (place.host, place.port), order.data)
            return
        port = PORT if place.via == 0 else self.opened[place.via]
        host = self.host6 if place.is_v6 else self.host
        if host is not None:
            host.send(port, (place.host, place.port), order.data, order.ttl, order.whole)

    def _book(self, order: Send) -> None:
        self.sent.append((self.world.now, order))
        to = (order.to.host, order.to.port)
        if to not in self._answered:
            books = self.books.probes if order.data[0] == PROBE else self.books.answers
            books.append((self.world.now, to))

    def _open(self, order: WantSockets) -> None:
        made: list[int] = []
        for _ in range(0 if self.fails_to_open else order.number):
            self._vias += 1
            via = self._vias
            self.opened[via] = self.host.bind(
                0, lambda packet, via=via: self._on_packet(via, packet)
            )
            made.append(via)
        if order.number <= 16:
            for via in made:
                self.ask_stun(via)
        wait = 2 * self.world.delay + 0.02 if order.number <= 16 else 0.0
        self.world.after(wait, lambda: self._tell_opened(made))

    def _tell_opened(self, made: list[int]) -> None:
        opened = [
            Opened(via, self.opened[via], self._seen.get(via)) for via in made if via in self.opened
        ]
        self.finder.sockets(opened, self.world.now)
        self.settle()

    def _bind_relay(self, told: tuple[Candidate, ...]) -> None:
        """Permission and channel take a round trip to our relay."""
        for candidate in told:
            if candidate.kind is Kind.RELAYED and self.relay is not None:
                self.world.after(
                    2 * self.world.delay,
                    lambda to=(candidate.host, candidate.port): self._bound(to),
                )

    def _bound(self, to: Address) -> None:
        self.relay_lets_in.add(to)
        self.finder.relay(Place(*to, RELAY_VIA, CHANNEL), self.world.now)
        self.settle()

    # --- Packets of the tunnel ---

    def _use(self, order: Use) -> None:
        self.used = order.place
        if order.hold > 0:
            self._held = deque() if self._held is None else self._held
            self._hold_number += 1
            self.world.after(order.hold, lambda number=self._hold_number: self._let_go(number))
        else:
            self._let_go(self._hold_number)

    def _let_go(self, number: int) -> None:
        if number == self._hold_number and self._held is not None:
            held, self._held = self._held, None
            for data in held:
                self._send_data(data)

    def send_packet(self, number: int, length: int = 100) -> bool:
        """One packet of the tunnel; False if it has nowhere to go."""
        if self.used is None:
            return False
        data = (DATA + number.to_bytes(8, "little")).ljust(length, b"\0")
        self.finder.active(self.world.now)
        if self._held is not None:
            self._held.append(data)
        else:
            self._send_data(data)
        self.settle()
        return True

    def _send_data(self, data: bytes) -> None:
        if self.used is not None:
            self.send(Send(data, self.used))

    @property
    def carrier(self) -> Carrier:
        return self.finder.status().carrier
