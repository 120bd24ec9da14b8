"""The native engine in memory, as `memory_path.MemoryPath` and `fake_network.FakeDataPath` are the
portable one: the same surface, so that a test drives either.

The module `wgpy._native` must be there; `needs_native` skips a test without it.
"""

from collections.abc import Sequence

import pytest

from tests.support.fake_network import PORT, Sent, World, port_of
from tests.support.memory_path import START, Driver
from wgpy.datapath.choose import has_native
from wgpy.datapath.contract import Endpoint, Event, Handle, Via
from wgpy.datapath.endpoint import Route, to_endpoint, to_route

needs_native = pytest.mark.skipif(
    not has_native(), reason="no native data path: install again where cargo is"
)

if has_native():
    from wgpy import _native
    from wgpy.datapath.native import Control, pack, unpack
else:
    Control = object

_SOMEWHERE = Route(("192.0.2.9", 9999))


class NativeMemoryPath(Driver, Control):
    """`MemoryPath` over the native engine. With `udp`, UDP is segmented and merged too."""

    name = "native-memory"

    def __init__(self, *, mtu: int = 1420, vnet_header: bool = True, udp: bool = False) -> None:
        self.vnet_header = vnet_header
        self._now = START
        self._error: int | None = None
        self._sent: list[tuple[bytes, Route]] = []
        self._trains: list[int] = []
        self._manners: list[tuple[int, bool]] = []
        self._delivered: list[bytes] = []
        super().__init__(_native.MemoryPath(vnet_header, mtu, START, udp), self._draw)

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now
        self._inner.set_now(now)

    @property
    def error(self) -> int | None:
        return self._error

    @error.setter
    def error(self, error: int | None) -> None:
        self._error = error
        self._inner.set_errors(error or 0, 0)

    def refuse_large(self, error: int) -> None:
        """The TUN answers so to packets that were merged."""
        self._inner.set_errors(self._error or 0, error)

    @property
    def sent(self) -> list[tuple[bytes, Route]]:
        self._sent += [(data, to_route(unpack(to))) for data, to in self._inner.sent()]
        return self._sent

    @property
    def trains(self) -> list[int]:
        self._trains += self._inner.trains()
        return self._trains

    @property
    def manners(self) -> list[tuple[int, bool]]:
        self._manners += self._inner.manners()
        return self._manners

    @property
    def delivered(self) -> list[bytes]:
        """Each packet behind ten bytes of vnet header, whether the TUN has one or not."""
        self._delivered += self._inner.delivered()
        return self._delivered

    def reserve_index(self) -> int:
        draws = [int.from_bytes(self._random(4), "little") for _ in range(1)]
        index: int = self._inner.reserve_index(draws)
        return index

    def reserve_this(self, index: int) -> int:
        """Reserve the index that the portable engine drew."""
        taken: int = self._inner.reserve_index([index])
        return taken

    def close(self) -> None:
        self.set_up(False)

    def write(self, packet: bytes, vnet: bytes = bytes(10)) -> None:
        """The kernel routes a packet into the TUN."""
        self.write_batch([(packet, vnet)])

    def write_batch(self, reads: Sequence[tuple[bytes, bytes]]) -> None:
        """The kernel has several packets when we look: (packet, vnet header)."""
        skip = 0 if self.vnet_header else 10
        self._inner.write([(vnet + packet)[skip:] for packet, vnet in reads])

    def take(self, data: bytes, route: Route = _SOMEWHERE, segment: int = 0) -> None:
        """A datagram arrives from `route`, or a train of datagrams."""
        self.take_batch([(data, segment, route)])

    def take_batch(self, batch: Sequence[tuple[bytes, int, Route]]) -> None:
        """Several arrive at once."""
        self._inner.take(
            [(data, segment, pack(to_endpoint(route))) for data, segment, route in batch]
        )

    def take_carried(self, data: bytes, via: Via) -> None:
        """A message arrives by the carrier of a relay."""
        self._inner.take_carried(data, via)

    def set_send_counter(self, peer: Handle, counter: int) -> None:
        """The counter of the peer's next message."""
        self._inner.set_send_counter(peer, counter)

    def session_count(self) -> int:
        """How many key pairs there are."""
        count: int = self._inner.session_count()
        return count


class NativeFakeDataPath(NativeMemoryPath):
    """`FakeDataPath` over the native engine: the world is its wire and its clock."""

    name = "native-fake"

    def __init__(self, world: World, address: str) -> None:
        super().__init__(vnet_header=False)
        self._world = world
        self._address = address
        self._bound = False
        self._added: set[Via] = set()
        self._got: list[bytes] = []
        self._inner.set_now(world.now)

    def __getattribute__(self, name: str) -> object:
        # Whatever is asked of it is asked at the world's time.
        if name == "_inner":
            inner = object.__getattribute__(self, "__dict__")["_inner"]
            world = object.__getattribute__(self, "__dict__").get("_world")
            if world is not None:
                inner.set_now(world.now)
            return inner
        return object.__getattribute__(self, name)

    def fileno(self) -> int:
        return -1

    def set_sockets(self, v4: int | None, v6: int | None) -> None:
        self._bound = v4 is not None

    def reserve_index(self) -> int:
        draws = [int.from_bytes(self._world.random.randbytes(4), "little") for _ in range(1)]
        index: int = self._inner.reserve_index(draws)
        return index

    def drain(self, limit: int) -> list[Event]:
        events = super().drain(limit)
        self._wire()
        return events

    def send(
        self,
        data: bytes,
        *,
        to: Endpoint | None = None,
        peer: Handle | None = None,
        ttl: int = 0,
        whole: bool = False,
    ) -> int | None:
        error = super().send(data, to=to, peer=peer, ttl=ttl, whole=whole)
        self._wire()
        return error

    def install(self, peer, slot, pair, *, kick, gated=False):  # type: ignore[no-untyped-def]
        super().install(peer, slot, pair, kick=kick, gated=gated)
        self._wire()

    def release(self, peer: Handle) -> bool:
        released = super().release(peer)
        self._wire()
        return released

    def send_keepalive(self, peer: Handle) -> None:
        super().send_keepalive(peer)
        self._wire()

    def add_socket(self, fd: int) -> Via:
        via = super().add_socket(fd)
        self._added.add(via)
        return via

    def remove_via(self, via: Via) -> None:
        super().remove_via(via)
        self._wire()
        self._added.discard(via)

    def set_endpoint(self, peer: Handle, endpoint: Endpoint | None, hold: float = 0.0) -> None:
        super().set_endpoint(peer, endpoint, hold)
        self._wire()

    def let_go(self, peer: Handle) -> None:
        super().let_go(peer)
        self._wire()

    def arrive(self, sent: Sent) -> None:
        via = sent.target_port - PORT
        if via in self._added if via else self._bound:
            self.take(sent.data, Route((sent.source, sent.source_port), b"", via))
            self._wire()

    def write(self, packet: bytes, vnet: bytes = bytes(10)) -> None:
        super().write(packet, vnet)
        self._wire()

    def _wire(self) -> None:
        """What was sent meets the world's weather."""
        for data, packed in self._inner.sent():
            to = unpack(packed)
            self._world.transmit(self._address, to.address, data, port_of(to.via), to.port)

    @property
    def delivered(self) -> list[bytes]:
        self._got += [frame[10:] for frame in self._inner.delivered()]
        return self._got
