"""An internet of NATs that exists in memory only, on a clock of its own.

    world = World(seed=1)                       host ── NAT ──┐
    home = Nat(world, "203.0.113.1", ...)                     ├── the core: delay, loss, hops
    laptop = Host(world, "192.168.1.2", home)   host ── NAT ──┘
    laptop.bind(51820, callback)
    laptop.send(51820, ("198.51.100.7", 9), b"...")
    world.run(5)

NATs have the mapping and the filtering of RFC 4787, three ways of choosing ports, and stand one
behind the other. `Masquerade` is the plain Linux rule, which takes early packets for its own.
Nothing is encrypted or fragmented, and what is longer than `World.mtu` and may not be is dropped.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

Address = tuple[str, int]

# The hop limit of usual datagrams, and how many routers the core has between any two networks.
USUAL_TTL = 64
CORE_HOPS = 5
LAN_DELAY = 0.0005
HEADERS = {4: 28, 6: 48}


@dataclass(frozen=True, slots=True)
class Packet:
    source: Address
    target: Address
    data: bytes
    ttl: int = USUAL_TTL
    whole: bool = False

    @property
    def length(self) -> int:
        """On the wire, IP and UDP headers included."""
        return len(self.data) + HEADERS[6 if ":" in self.target[0] else 4]


class World:
    """The clock, what is planned, and the core of the network."""

    def __init__(
        self, seed: int = 1, *, delay: float = 0.03, jitter: float = 0.0, loss: float = 0.0
    ):
        self.now = 1000.0
        self.random = random.Random(seed)
        self.delay = delay
        self.jitter = jitter
        self.loss = loss
        self.mtu = 1500
        self.counters: Counter[str] = Counter()
        # Everything that reached the core: when, and what.
        self.log: list[tuple[float, Packet]] = []
        # Pairs of public addresses between which nothing passes.
        self.cut: set[frozenset[str]] = set()
        self._edges: dict[str, Any] = {}
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._plans, (max(when, self.now), self._order, action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(self.now + seconds, action)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Let time pass; with `until`, no longer than until that is true."""
        end = self.now + seconds
        while self._plans and self._plans[0][0] <= end:
            if until is not None and until():
                return
            when, _, action = heapq.heappop(self._plans)
            self.now = max(self.now, when)
            action()
        self.now = end

    def attach(self, address: str, edge: Any) -> None:
        """Whoever has this public address."""
        self._edges[address] = edge

    def carry(self, packet: Packet) -> None:
        """From one edge of the core to another."""
        self.log.append((self.now, packet))
        edge = self._edges.get(packet.target[0])
        if edge is None:
            self.counters["no_such_address"] += 1
        elif packet.ttl <= CORE_HOPS:
            self.counters["ttl_exceeded"] += 1
        elif packet.whole and packet.length > self.mtu:
            self.counters["too_big"] += 1
        elif frozenset((packet.source[0], packet.target[0])) in self.cut:
            self.counters["cut"] += 1
        elif self.random.random() < self.loss:
            self.counters["lost"] += 1
        else:
            arrived = replace(packet, ttl=packet.ttl - CORE_HOPS)
            delay = self.delay + self.jitter * self.random.random()
            self.after(delay, lambda: edge.come_in(arrived))


class Host:
    """A machine with sockets, behind a NAT or, with none, with a public address."""

    def __init__(self, world: World, address: str, gateway: "Nat | None" = None):
        self.world = world
        self.address = address
        self.gateway = gateway
        self.sockets: dict[int, Callable[[Packet], None]] = {}
        if gateway is None:
            world.attach(address, self)
        else:
            gateway.inside[address] = self

    def leave(self) -> None:
        """It has this address no more."""
        self.sockets = {}
        if self.gateway is not None:
            self.gateway.inside.pop(self.address, None)

    def bind(self, port: int, callback: Callable[[Packet], None]) -> int:
        while port == 0 or port in self.sockets:
            port = self.world.random.randrange(32768, 61000)
        self.sockets[port] = callback
        return port

    def unbind(self, port: int) -> None:
        self.sockets.pop(port, None)

    def send(
        self, port: int, target: Address, data: bytes, ttl: int = 0, whole: bool = False
    ) -> None:
        packet = Packet((self.address, port), target, data, ttl or USUAL_TTL, whole)
        if self.gateway is None:
            self.world.carry(packet)
        else:
            self.gateway.go_out(packet)

    def come_in(self, packet: Packet) -> None:
        callback = self.sockets.get(packet.target[1])
        if callback is not None:
            callback(packet)


class Host6(Host):
    """A machine with a public IPv6 address, and a firewall that lets in what was asked for."""

    def __init__(self, world: World, address: str):
        super().__init__(world, address)
        self._asked: dict[tuple[int, Address], float] = {}

    def send(
        self, port: int, target: Address, data: bytes, ttl: int = 0, whole: bool = False
    ) -> None:
        self._asked[port, target] = self.world.now
        super().send(port, target, data, ttl, whole)

    def come_in(self, packet: Packet) -> None:
        if self.world.now - self._asked.get((packet.target[1], packet.source), -1e9) < 120:
            super().come_in(packet)


class Behaviour(Enum):
    """Of mapping and of filtering (RFC 4787)."""

    INDEPENDENT = 1
    ADDRESS = 2
    ADDRESS_AND_PORT = 3


class Ports(Enum):
    PRESERVED = "preserved"
    RANDOM = "random"
    SEQUENTIAL = "sequential"


@dataclass(slots=True)
class Mapping:
    inner: Address
    port: int
    used: float
    answered: bool = False
    # To whom it was used, and when.
    remotes: dict[Address, float] = field(default_factory=dict)


def part(remote: Address, behaviour: Behaviour) -> object:
    """What of a remote address matters."""
    if behaviour is Behaviour.INDEPENDENT:
        return None
    return remote[0] if behaviour is Behaviour.ADDRESS else remote


class Nat:
    """A router with one public address, and its inside: hosts, and other NATs."""

    UNANSWERED = 30.0
    ANSWERED = 120.0

    def __init__(
        self,
        world: World,
        public: str,
        mapping: Behaviour = Behaviour.INDEPENDENT,
        filtering: Behaviour = Behaviour.ADDRESS_AND_PORT,
        ports: Ports = Ports.PRESERVED,
        *,
        step: int = 1,
        hairpin: bool = False,
        blocked: bool = False,
        upstream: "Nat | None" = None,
    ):
        self.world = world
        self.public = public
        self.mapping = mapping
        self.filtering = filtering
        self.ports = ports
        self.step = step
        self.hairpin = hairpin
        self.blocked = blocked
        self.upstream = upstream
        self.inside: dict[str, Any] = {}
        self.counters: Counter[str] = Counter()
        self._mappings: dict[object, Mapping] = {}
        self._by_port: dict[int, Mapping] = {}
        self._forwarded: set[int] = set()
        self._next = world.random.randrange(20000, 40000)
        if upstream is None:
            world.attach(public, self)
        else:
            upstream.inside[public] = self

    def reboot(self) -> None:
        """Everything is forgotten."""
        self._mappings.clear()
        self._by_port.clear()

    def forward(self, port: int, inner: Address) -> None:
        """A port that somebody asked to be forwarded (PCP and the like)."""
        mapping = Mapping(inner, port, float("inf"))
        self._by_port[port] = mapping
        self._forwarded.add(port)

    def go_out(self, packet: Packet) -> None:
        """A packet from inside."""
        if packet.target[0] in self.inside:
            neighbour = self.inside[packet.target[0]]
            self.world.after(LAN_DELAY, lambda: neighbour.come_in(packet))
            return
        if packet.ttl <= 1:
            self.counters["ttl_exceeded"] += 1
            return
        if self.blocked or (_is_private(packet.target[0]) and self.upstream is None):
            self.counters["blocked"] += 1
            return
        port = self.translate(packet)
        out = replace(packet, source=(self.public, port), ttl=packet.ttl - 1)
        if packet.target[0] == self.public:
            if self.hairpin:
                self.come_in(out)
            return
        if self.upstream is not None:
            self.upstream.go_out(out)
        else:
            self.world.carry(out)

    def translate(self, packet: Packet) -> int:
        """The public port of a packet that goes out, and what may come back is remembered."""
        key = (packet.source, part(packet.target, self.mapping))
        found = self._mappings.get(key)
        if found is None or self._is_over(found):
            found = Mapping(packet.source, self._free_port(packet.source[1]), self.world.now)
            self._mappings[key] = self._by_port[found.port] = found
        found.used = self.world.now
        found.remotes[packet.target] = self.world.now
        return found.port

    def _is_over(self, mapping: Mapping) -> bool:
        limit = self.ANSWERED if mapping.answered else self.UNANSWERED
        return self.world.now - mapping.used >= limit

    def _free_port(self, wanted: int) -> int:
        if self.ports is Ports.SEQUENTIAL:
            self._next += self.step
            return self._next
        while self.ports is Ports.RANDOM or (
            wanted in self._by_port and not self._is_over(self._by_port[wanted])
        ):
            wanted = self.world.random.randrange(1024, 65536)
            if wanted not in self._by_port:
                break
        return wanted

    def come_in(self, packet: Packet) -> None:
        """A packet for our public address."""
        found = self._by_port.get(packet.target[1])
        if found is not None and packet.target[1] in self._forwarded:
            # What comes by it is answered from it.
            self._mappings[found.inner, part(packet.source, self.mapping)] = found
            self.deliver(packet, found.inner)
            return
        if found is None or self._is_over(found) or not self._lets_in(found, packet.source):
            self.counters["filtered"] += 1
            return
        found.answered = True
        found.used = self.world.now
        self.deliver(packet, found.inner)

    def _lets_in(self, mapping: Mapping, source: Address) -> bool:
        wanted = part(source, self.filtering)
        return any(
            part(remote, self.filtering) == wanted and self.world.now - when < self.ANSWERED
            for remote, when in mapping.remotes.items()
        )

    def deliver(self, packet: Packet, inner: Address) -> None:
        if packet.ttl <= 1:
            self.counters["ttl_exceeded"] += 1
            return
        inside = self.inside.get(inner[0])
        if inside is not None:
            forwarded = replace(packet, target=inner, ttl=packet.ttl - 1)
            self.world.after(LAN_DELAY, lambda: inside.come_in(forwarded))


class Masquerade(Nat):
    """Plain Linux `masquerade` with no rule about what comes in: by flows, not by mappings.

    What comes for no flow is taken for the router's own, and is a flow of it from then on; our own
    flow to where it came from then has to take another port, as long as it is remembered.
    """

    def __init__(self, world: World, public: str, **more: Any):
        super().__init__(world, public, **more)
        # (inner, remote) -> public port; (public port, remote) -> inner, None for the router's own.
        self._out: dict[tuple[Address, Address], int] = {}
        self._in: dict[tuple[int, Address], Address | None] = {}
        self._used: dict[tuple[int, Address], float] = {}

    def reboot(self) -> None:
        self._out.clear()
        self._in.clear()
        self._used.clear()

    def _is_live(self, port: int, remote: Address) -> bool:
        return (port, remote) in self._in and (
            self.world.now - self._used[port, remote] < self.UNANSWERED
        )

    def translate(self, packet: Packet) -> int:
        key = (packet.source, packet.target)
        port = self._out.get(key)
        if port is None or not self._is_live(port, packet.target):
            port = packet.source[1]
            while self._is_live(port, packet.target):
                self.counters["remapped"] += 1
                port = self.world.random.randrange(1024, 65536)
            self._out[key] = port
            self._in[port, packet.target] = packet.source
        self._used[port, packet.target] = self.world.now
        return port

    def come_in(self, packet: Packet) -> None:
        port, remote = packet.target[1], packet.source
        inner = self._in.get((port, remote)) if self._is_live(port, remote) else None
        self._used[port, remote] = self.world.now
        if inner is None:
            self._in[port, remote] = None
            self.counters["taken_for_its_own"] += 1
            return
        self.deliver(packet, inner)


def _is_private(address: str) -> bool:
    return address.startswith(("10.", "192.168.", "172.16.", "100.64."))


class Reflector(Host):
    """A STUN server, as far as the tests need one: it says who asked."""

    PORT = 3478

    def __init__(self, world: World, address: str):
        super().__init__(world, address)
        self.bind(self.PORT, self._answer)

    def _answer(self, packet: Packet) -> None:
        host, port = packet.source
        self.send(self.PORT, packet.source, packet.data + f" {host} {port}".encode())
