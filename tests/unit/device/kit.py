"""A device over the engine in memory, and strangers who speak the protocol with it."""

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.memory_path import MemoryPath
from wgpy.datapath.endpoint import Route
from wgpy.device.device import Device
from wgpy.device.roads import Roads
from wgpy.device.uapi import Address, AllowedIpChange, DeviceChange, PeerChange, PeerState
from wgpy.device.ways import Ways
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey, PublicKey
from wgpy.protocol import messages
from wgpy.protocol.constants import TYPE_INITIATION
from wgpy.protocol.handshake import Local, TransportKeys, read_initiation
from wgpy.protocol.peer import Peer

WALL = 1_790_000_000 * 10**9
PRIVATE = PrivateKey(bytes(range(32)))
# Peers of whom nothing but the key matters.
KEYS = [PublicKey(bytes([n]) * 32) for n in range(1, 6)]


@dataclass
class Bound:
    """What a bind returned."""

    port: int
    mark: int
    v4: int | None = 0
    v6: int | None = 0
    refuse_mark: bool = False

    def set_mark(self, mark: int) -> None:
        if self.refuse_mark:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        self.mark = mark


@dataclass
class Kit:
    """One device with a key. Ports in `taken` cannot be bound; names asked for are in `asked`."""

    path: MemoryPath = field(default_factory=MemoryPath)
    bound: list[Bound] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    asked: list[tuple[PublicKey, str, int]] = field(default_factory=list)
    private: PrivateKey | None = PRIVATE
    make_ways: Callable[[Roads], Ways] | None = None

    def __post_init__(self) -> None:
        self.random: Callable[[int], bytes] = random.Random(1).randbytes
        self.device = Device(
            self.path,
            self._bind,
            clock=lambda: self.path.now,
            wall_ns=self.wall_ns,
            random=lambda length: self.random(length),
            ask_name=lambda *what: self.asked.append(what),
            ways=self.make_ways,
        )
        if self.private is not None:
            self.device.apply(DeviceChange(private_key=self.private))

    def _bind(self, port: int, mark: int) -> Bound:
        if port in self.taken:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.bound.append(Bound(port or 40_000 + len(self.bound), mark))
        return self.bound[-1]

    def wall_ns(self) -> int:
        return WALL + int((self.path.now - 1000) * 10**9)

    def up(self) -> "Kit":
        """Bring the link up; returns itself."""
        self.device.set_up(True)
        return self

    def settle(self) -> None:
        """Let the device act on every event and every timer that is due."""
        while events := self.path.drain(32):
            self.device.process(events)
        self.device.wake()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in steps in which the device wakes when it asked for it."""
        end = self.path.now + seconds
        while True:
            self.settle()
            when = self.device.wake()
            if when is None or when > end:
                break
            self.path.now = max(when, self.path.now)
        self.path.now = end
        self.settle()

    def peer(self, key: PublicKey, **fields: object) -> None:
        """Change one peer."""
        self.device.apply(DeviceChange(peers=[PeerChange(key, **fields)]))  # type: ignore[arg-type]

    def shown(self) -> dict[PublicKey, PeerState]:
        """The peers that `get=1` shows."""
        return {peer.public_key: peer for peer in self.device.state().peers}

    def sent(self, kind: int) -> list[tuple[bytes, Route]]:
        """The datagrams of one type that were sent; forgets all."""
        found = [(data, route) for data, route in self.path.sent if data[0] == kind]
        self.path.sent.clear()
        return found

    def counters(self) -> dict[str, int]:
        return self.device.state().counters

    def sessions(self) -> int:
        """How many key pairs the data path holds."""
        return len(self.path._indices)


class Stranger:
    """The other end of a handshake, at an address of its own."""

    def __init__(self, kit: Kit, number: int = 1, *, private: PrivateKey | None = None) -> None:
        self.kit = kit
        self.private = private or PrivateKey(bytes([number, number + 1]) * 16)
        self.route = Route((f"192.0.2.{number}", 1000 + number))
        self.local = Local(self.private)
        self.wall = WALL
        self.peer = Peer(self.local, PRIVATE.public(), None, lambda: 0.0)

    @property
    def key(self) -> PublicKey:
        return self.local.public

    def befriend(self, *allowed: str, endpoint: bool = False, **fields: object) -> None:
        """Become a peer of the device."""
        self.kit.peer(
            self.key,
            allowed_ips=[AllowedIpChange(parse_prefix(text)) for text in allowed],
            endpoint=Address(*self.route.address[:2]) if endpoint else None,
            **fields,
        )

    def initiation(self, index: int = 77) -> bytes:
        """A fresh initiation, 50 ms of wall time after the one before."""
        self.wall += 50_000_000
        return self.peer.initiation(
            index=index, ephemeral=os.urandom(32), wall_ns=self.wall, now=self.kit.path.now
        )

    def send(self, data: bytes) -> None:
        """Let a datagram arrive; the device has not yet acted on it."""
        self.kit.path.take(data, self.route)

    def finish(self, answer: bytes) -> TransportKeys:
        """Take the device's response."""
        return self.peer.consume_response(messages.parse_response(answer), self.kit.path.now)[0]

    def answer(self, initiation: bytes, index: int = 88) -> tuple[bytes, TransportKeys]:
        """The response to an initiation of the device."""
        responder = read_initiation(self.local, messages.parse_initiation(initiation))
        self.peer.accept_initiation(responder, self.kit.path.now)
        return self.peer.response(
            responder, index=index, ephemeral=os.urandom(32), now=self.kit.path.now
        )


def with_session(kit: Kit, number: int = 1) -> Stranger:
    """A stranger whom the device has called, and who has answered."""
    stranger = Stranger(kit, number)
    stranger.befriend(f"10.0.0.{number}", endpoint=True, persistent_keepalive=25)
    kit.settle()
    (data, _) = kit.sent(TYPE_INITIATION)[-1]
    stranger.send(stranger.answer(data, index=number)[0])
    kit.settle()
    kit.path.sent.clear()
    return stranger
