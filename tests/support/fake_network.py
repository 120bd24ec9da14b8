"""A network, a clock and machines that exist in memory only.

    alice = Machine(world, "192.0.2.1")          alice ── world ── bob
    bob = Machine(world, "192.0.2.2")            delay, loss, duplication, reordering, a cut
    befriend(alice, bob)
    alice.send(bob)
    world.run(10)

Each machine is the real `Device` over the real engine of the portable data path; only the sockets,
the TUN and the clock are made up. Three minutes of protocol take milliseconds, and the same seed
gives the same run.
"""

import heapq
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wgpy.datapath.contract import Endpoint, Event, Via
from wgpy.datapath.endpoint import Route
from wgpy.datapath.engine import PACKET_OFFSET, Engine
from wgpy.device.device import Device
from wgpy.device.guard import Guard
from wgpy.device.roads import Roads
from wgpy.device.trust import Trust
from wgpy.device.uapi import Address, AllowedIpChange, DeviceChange, PeerChange
from wgpy.device.ways import Ways
from wgpy.identity.admissions import Admissions as Ledger
from wgpy.ip import parse_prefix
from wgpy.keys import PresharedKey, PrivateKey

PORT = 51820
# The wall clock at the start of every run: some day in 2026, in nanoseconds.
EPOCH_NS = 1_790_000_000 * 10**9
# The boot clock at the start: zero means "never" to the data path.
START = 1000.0


@dataclass(slots=True)
class Weather:
    """What the network does to datagrams: seconds, and probabilities."""

    delay: float = 0.010
    # Up to this much is added at random, which reorders what follows closely.
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0


@dataclass(slots=True)
class Sent:
    """One datagram that a machine put on the wire."""

    when: float
    source: str
    target: str
    data: bytes
    source_port: int = PORT
    target_port: int = PORT

    @property
    def kind(self) -> int:
        return self.data[0]


class World:
    """The clock, the wire and everyone on it."""

    def __init__(self, seed: int = 1, weather: Weather | None = None) -> None:
        self.now = START
        self.random = random.Random(seed)
        self.weather = weather or Weather()
        self.cut = False
        # Seconds by which somebody set the wall clock.
        self.wall_step = 0.0
        self.log: list[Sent] = []
        self._machines: dict[str, Machine] = {}
        self._wire: list[tuple[float, int, Sent]] = []
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def add(self, machine: "Machine") -> None:
        self._machines[machine.address] = machine

    def clock(self) -> float:
        return self.now

    def wall_ns(self) -> int:
        return EPOCH_NS + int((self.now - START + self.wall_step) * 1e9)

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Plan an action for `when` seconds after the start."""
        self._order += 1
        heapq.heappush(self._plans, (START + when, self._order, action))

    def transmit(
        self,
        source: str,
        target: str,
        data: bytes,
        source_port: int = PORT,
        target_port: int = PORT,
    ) -> None:
        sent = Sent(self.now - START, source, target, data, source_port, target_port)
        self.log.append(sent)
        weather = self.weather
        copies = 2 if self.random.random() < weather.duplication else 1
        for _ in range(copies):
            if self.cut or self.random.random() < weather.loss:
                continue
            self._order += 1
            arrival = self.now + weather.delay + self.random.random() * weather.jitter
            heapq.heappush(self._wire, (arrival, self._order, sent))

    def run(self, seconds: float) -> None:
        """Let `seconds` pass."""
        end = self.now + seconds
        while True:
            self._settle()
            moments = [machine.wakes_at for machine in self._machines.values()]
            moments += [self._wire[0][0]] if self._wire else []
            moments += [self._plans[0][0]] if self._plans else []
            moment = min((m for m in moments if m is not None), default=end)
            if moment > end:
                break
            self.now = max(self.now, moment)
            while self._plans and self._plans[0][0] <= self.now:
                heapq.heappop(self._plans)[2]()
            while self._wire and self._wire[0][0] <= self.now:
                sent = heapq.heappop(self._wire)[2]
                if sent.target in self._machines:
                    self._machines[sent.target].datapath.arrive(sent)
            if moment == end and not self._wire:
                self._settle()
                break
        self.now = end
        self._settle()

    def _settle(self) -> None:
        for machine in self._machines.values():
            machine.settle()

    def sent(self, kind: int, source: "Machine") -> list[float]:
        """When a machine sent messages of one type, in seconds after the start."""
        return [s.when for s in self.log if s.kind == kind and s.source == source.address]


def port_of(via: Via) -> int:
    """The port of a machine's socket: PORT for the pair, and others for those that were added."""
    return PORT + via


class FakeDataPath(Engine):
    """The portable engine with the world for its sockets, and a list for its TUN."""

    name = "fake"

    def __init__(self, world: World, address: str) -> None:
        super().__init__(
            vnet_header=False, mtu=1420, clock=world.clock, random=world.random.randbytes
        )
        self._world = world
        self._address = address
        self._bound = False
        self.delivered: list[bytes] = []
        self._tun = memoryview(bytearray(1 << 17))
        self._udp = memoryview(bytearray(1 << 17))

    def fileno(self) -> int:
        return -1

    def session_count(self) -> int:
        return len(self._indices)

    def close(self) -> None:
        self.set_up(False)

    def offloads(self) -> dict[str, bool]:
        return {}

    def set_sockets(self, v4: int | None, v6: int | None) -> None:
        self._bound = v4 is not None

    def add_relay(self, server: Endpoint, carrier: int | None = None) -> Via:
        assert carrier is None, "the world has sockets only"
        return super().add_relay(server)

    def drain(self, limit: int) -> list[Event]:
        return self._collect(limit)

    def arrive(self, sent: Sent) -> None:
        via = sent.target_port - PORT
        if via in self._vias.sockets if via else self._bound:
            self._udp[: len(sent.data)] = sent.data
            route = Route((sent.source, sent.source_port), b"", via)
            self.inbound(self._udp, len(sent.data), 0, route, self._world.now)

    def write(self, packet: bytes) -> None:
        """What the kernel would do with a packet that is routed into the tunnel."""
        self._tun[:PACKET_OFFSET] = bytes(PACKET_OFFSET)
        self._tun[PACKET_OFFSET : PACKET_OFFSET + len(packet)] = packet
        self.outbound(self._tun, len(packet), self._world.now)

    def _close_via(self, via: Via) -> None:
        """Its descriptor is a number, and no more."""

    def _ring(self) -> None:
        """The world asks every machine after every step."""

    def _transmit(self, data: memoryview, segment: int, route: Route) -> int | None:
        for start in range(0, len(data), segment):
            self._wire(bytes(data[start : start + segment]), route)
        return None

    def _transmit_control(
        self, data: bytes, route: Route, ttl: int = 0, whole: bool = False
    ) -> int | None:
        self._wire(data, route)
        return None

    def _wire(self, data: bytes, route: Route) -> None:
        host, port = route.address[:2]
        self._world.transmit(self._address, host, data, port_of(route.via), port)

    def _deliver(self, buffers: Sequence[memoryview | bytes | bytearray]) -> None:
        self.delivered.append(b"".join(buffers)[10:])


@dataclass(slots=True)
class FakeSockets:
    """What a real bind would return."""

    port: int
    v4: int | None = 0
    v6: int | None = None
    marks: list[int] = field(default_factory=list)

    def set_mark(self, mark: int) -> None:
        self.marks.append(mark)


class Machine:
    """One host with one interface, up, with a fresh key."""

    def __init__(
        self,
        world: World,
        address: str,
        *,
        ledger: Path | None = None,
        gate: Guard | None = None,
        ways: Callable[[Roads], Ways] | None = None,
    ) -> None:
        """With `ledger`, a file to be made, peers can be admitted by their credentials; with
        `ways`, their ways be found."""
        self.world = world
        self.address = address
        self.inner = "10.0.0." + address.rpartition(".")[2]
        self.private = PrivateKey(world.random.randbytes(32))
        # Seconds by which somebody set the wall clock of this one.
        self.wall_step = 0.0
        self.datapath = FakeDataPath(world, address)
        self.device = Device(
            self.datapath,
            lambda port, mark: FakeSockets(port or PORT),
            clock=world.clock,
            wall_ns=self.wall_ns,
            random=world.random.randbytes,
            trust=None if ledger is None else Trust(lambda: Ledger(ledger), self.wall_ns),
            guard=gate,
            ways=ways,
        )
        self.device.apply(DeviceChange(private_key=self.private, listen_port=PORT))
        self.device.set_up(True)
        self.wakes_at: float | None = None
        self._serial = 0
        world.add(self)

    def wall_ns(self) -> int:
        """Its wall clock, in nanoseconds since the epoch."""
        return self.world.wall_ns() + int(self.wall_step * 1e9)

    def add_peer(
        self, other: "Machine", *, keepalive: int = 0, psk: PresharedKey | None = None
    ) -> None:
        prefix = parse_prefix(other.inner)
        self.device.apply(
            DeviceChange(
                peers=[
                    PeerChange(
                        public_key=other.private.public(),
                        endpoint=Address(other.address, PORT),
                        allowed_ips=[AllowedIpChange(prefix)],
                        persistent_keepalive=keepalive,
                        preshared_key=psk,
                    )
                ]
            )
        )

    def settle(self) -> None:
        while events := self.datapath.drain(32):
            self.device.process(events)
        self.wakes_at = self.device.wake()

    def send(self, other: "Machine") -> bytes:
        """Route one packet to another machine's inner address. Returns the packet."""
        self._serial += 1
        body = struct.pack("!IQ", self._serial, self.world.random.getrandbits(64))
        source, target = parse_prefix(self.inner).address, parse_prefix(other.inner).address
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, 253, 0, source, target
        )
        self.datapath.write(head + body)
        return head + body

    def session_count(self) -> int:
        """How many key pairs it holds."""
        return self.datapath.session_count()


def befriend(one: Machine, other: Machine, psk: PresharedKey | None = None) -> None:
    """Make two machines peers of each other."""
    one.add_peer(other, psk=psk)
    other.add_peer(one, psk=psk)
