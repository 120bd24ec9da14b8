"""The portable engine in memory: packets go in by call, and come out in lists.

here, there = MemoryPath(), MemoryPath()
join(here, there)                  each is the other's peer, with a key pair
here.write(packet)                 as the kernel would, into the TUN
there.take(*here.sent.pop())       as the socket would
there.delivered                    what the kernel got
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wgpy.datapath.contract import (
    AllowedIpOperation,
    Endpoint,
    Event,
    Handle,
    NewKeyPair,
    Slot,
    Via,
)
from wgpy.datapath.endpoint import Route
from wgpy.datapath.engine import PACKET_OFFSET, VNET_OFFSET, Engine
from wgpy.ip import parse_prefix

HERE = Endpoint("192.0.2.1", 1111)
THERE = Endpoint("192.0.2.2", 2222)
START = 1000.0
ELSEWHERE = Route(("192.0.2.9", 9999))
# What the buffers hold before anything is put there: to a peer it would be earlier packets.
STALE = 0xAA
_SIZE = 1 << 18


class Driver:
    """What a test does alike with either engine in memory.

    Its random bytes count upwards; `delivered` is what the kernel got, behind vnet headers.
    """

    delivered: list[bytes]
    _drawn = 0

    def _draw(self, length: int) -> bytes:
        # Indices have four bytes. The seed of a table has more, and is not to take one.
        if length != 4:
            return bytes(length)
        self._drawn += 1
        return self._drawn.to_bytes(length, "little")

    def packets(self) -> list[bytes]:
        """What was delivered, without the vnet headers; forgets it."""
        delivered = self.delivered
        taken = [frame[10:] for frame in delivered]
        delivered.clear()
        return taken

    def peer(self, *prefixes: str, at: Endpoint | None = None) -> Handle:
        """Add a peer with these allowed IPs."""
        peer = self.add_peer()
        changes = [AllowedIpOperation("add", peer, parse_prefix(text)) for text in prefixes]
        self.set_allowed_ips(changes)
        if at is not None:
            self.set_endpoint(peer, at)
        return peer

    if TYPE_CHECKING:  # What the engine brings.

        def add_peer(self) -> Handle: ...
        def set_allowed_ips(self, changes: Sequence[AllowedIpOperation]) -> None: ...
        def set_endpoint(self, peer: Handle, endpoint: Endpoint | None) -> None: ...


class MemoryPath(Driver, Engine):
    """A data path whose time is `now`."""

    name = "memory"

    def __init__(self, *, mtu: int = 1420, vnet_header: bool = True) -> None:
        self.now = START
        self.sent: list[tuple[bytes, Route]] = []
        # How many datagrams each call of the socket took.
        self.trains: list[int] = []
        # Times to live of control datagrams, and whether they are to stay whole, if anything.
        self.manners: list[tuple[int, bool]] = []
        self.delivered: list[bytes] = []
        # What the socket answers: an errno, or None.
        self.error: int | None = None
        self.rings = 0
        super().__init__(
            vnet_header=vnet_header, mtu=mtu, clock=lambda: self.now, random=self._draw
        )
        self.tun = memoryview(bytearray([STALE]) * _SIZE)
        self.udp = memoryview(bytearray([STALE]) * _SIZE)

    # --- What an engine needs ---

    def fileno(self) -> int:
        return -1

    def drain(self, limit: int) -> list[Event]:
        return self._collect(limit)

    def close(self) -> None:
        self.set_up(False)

    def set_sockets(self, v4: int | None, v6: int | None) -> None:
        """There are none."""

    def offloads(self) -> dict[str, bool]:
        return {}

    def _close_via(self, via: Via) -> None:
        """Its descriptor is a number, and no more."""

    def _ring(self) -> None:
        self.rings += 1

    def _transmit(self, data: memoryview, segment: int, route: Route) -> int | None:
        if self.error is None:
            starts = range(0, len(data), segment)
            self.trains.append(len(starts))
            self.sent += [(bytes(data[at : at + segment]), route) for at in starts]
        return self.error

    def _transmit_control(
        self, data: bytes, route: Route, ttl: int = 0, whole: bool = False
    ) -> int | None:
        if self.error is None:
            self.sent.append((data, route))
            if ttl or whole:
                self.manners.append((ttl, whole))
        return self.error

    def _deliver(self, buffers: Sequence[memoryview | bytes | bytearray]) -> None:
        self.delivered.append(b"".join(buffers))

    # --- What a test does ---

    def write(self, packet: bytes, vnet: bytes = bytes(10)) -> None:
        """The kernel routes a packet into the TUN."""
        self.tun[VNET_OFFSET:PACKET_OFFSET] = vnet
        self.tun[PACKET_OFFSET : PACKET_OFFSET + len(packet)] = packet
        self.outbound(self.tun, len(packet), self.now)

    def take(self, data: bytes, route: Route = ELSEWHERE, segment: int = 0) -> None:
        """A datagram arrives from `route`, or a train of datagrams."""
        self.udp[: len(data)] = data
        self.inbound(self.udp, len(data), segment, route, self.now)

    def take_carried(self, data: bytes, via: Via) -> None:
        """A message arrives by the carrier of a relay."""
        self.udp[: len(data)] = data
        self.inbound_carried(self.udp, len(data), via, self.now)

    def set_send_counter(self, peer: Handle, counter: int) -> None:
        """The counter of the peer's next message."""
        session = self._roads[peer].keys.current
        assert session is not None
        session.counter = counter

    def session_count(self) -> int:
        """How many key pairs there are."""
        return len(self._indices)


@dataclass(frozen=True, slots=True)
class Joined:
    """The handles that two engines have of each other, and the keys in both directions."""

    here: Handle
    there: Handle
    key_out: bytes
    key_back: bytes


def key_pair(
    send: bytes,
    receive: bytes,
    local: int,
    remote: int,
    *,
    created: float = START,
    life: float = 180.0,
    rekey_send: float = math.inf,
    rekey_receive: float = math.inf,
) -> NewKeyPair:
    """A key pair made at `created`, its times counted from there."""
    return NewKeyPair(
        bytearray(send),
        bytearray(receive),
        local,
        remote,
        created,
        created + life,
        created + rekey_send,
        created + rekey_receive,
    )


def share_keys(
    here: MemoryPath,
    there: MemoryPath,
    peers: tuple[Handle, Handle],
    *,
    slots: tuple[Slot, Slot] = (Slot.CURRENT, Slot.CURRENT),
    seed: int = 1,
    kick: bool = False,
    rekey_send: float = math.inf,
    rekey_receive: float = math.inf,
) -> tuple[bytes, bytes]:
    """Install a key pair on both sides; the rekey times are those of `here`."""
    out, back = bytes([seed]) * 32, bytes([seed + 100]) * 32
    local, remote = here.reserve_index(), there.reserve_index()
    answer = key_pair(back, out, remote, local, created=there.now)
    there.install(peers[1], slots[1], answer, kick=kick)
    ours = key_pair(
        out,
        back,
        local,
        remote,
        created=here.now,
        rekey_send=rekey_send,
        rekey_receive=rekey_receive,
    )
    here.install(peers[0], slots[0], ours, kick=kick)
    return out, back


def join(
    here: MemoryPath,
    there: MemoryPath,
    *,
    slots: tuple[Slot, Slot] = (Slot.CURRENT, Slot.CURRENT),
    rekey_send: float = math.inf,
    rekey_receive: float = math.inf,
) -> Joined:
    """Make each the other's peer: 10.0.0.1 and fd00::1 are here, 10.0.0.2 and fd00::2 there."""
    one = here.peer("10.0.0.2", "fd00::2", at=THERE)
    other = there.peer("10.0.0.1", "fd00::1", at=HERE)
    out, back = share_keys(
        here,
        there,
        (one, other),
        slots=slots,
        rekey_send=rekey_send,
        rekey_receive=rekey_receive,
    )
    return Joined(one, other, out, back)
