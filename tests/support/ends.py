"""Data paths with real sockets, of either kind, and a pair of sockets for the TUN.

    here, there = End("portable"), End("native")
    join_ends(here, there)
    here.write(packet)
    there.frames(1)

A pair of AF_UNIX datagram sockets keeps packets apart as a TUN does, and needs no root. The native
data path moves packets by itself; the portable one when its `fileno()` is readable and somebody
drains it, which is what `pump` does for both.
"""

import select
import socket
import time
from collections.abc import Callable

from tests.support.memory_path import key_pair
from wgpy.datapath.contract import AllowedIpOperation, DataPath, Endpoint, Event, Handle, Slot
from wgpy.datapath.portable import Portable
from wgpy.ip import parse_prefix
from wgpy.linux.udp import bind

NO_VNET = bytes(10)
# What a test waits for something that must come.
PATIENCE = 10.0
_BUFFER = 1 << 20


def boottime() -> float:
    """The clock of both data paths."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class End:
    """A data path of a `kind`, `portable` or `native`, up, with two sockets of its own.

    `kernel` is the other end of its TUN; `events` is what it reported, as far as it was pumped.
    """

    def __init__(self, kind: str, *, vnet_header: bool = True, mtu: int = 1420) -> None:
        self.kernel, self._tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (self.kernel, self._tun):
            sock.setblocking(False)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        self.path = open_path(kind, self._tun.fileno(), vnet_header=vnet_header, mtu=mtu)
        self.events: list[Event] = []
        bound = bind(0, 0)
        self.path.set_sockets(bound.v4, bound.v6)
        self.port = bound.port
        self.path.set_up(True)

    def write(self, packet: bytes, vnet: bytes = NO_VNET) -> None:
        """The kernel sends a packet."""
        self.kernel.send(vnet + packet)

    def frames(self, count: int, *others: "End") -> list[bytes]:
        """The next frames for the kernel, vnet header first; `others` are pumped meanwhile."""
        found: list[bytes] = []

        def enough() -> bool:
            while len(found) < count:
                try:
                    found.append(self.kernel.recv(1 << 17))
                except BlockingIOError:
                    return False
            return True

        pump(enough, self, *others)
        return found

    def close(self) -> None:
        self.path.close()
        self.kernel.close()
        self._tun.close()


def open_path(kind: str, tun: int, *, vnet_header: bool, mtu: int) -> DataPath:
    """A data path of a kind over the descriptor of a TUN."""
    if kind == "portable":
        return Portable(tun, vnet_header=vnet_header, mtu=mtu, clock=boottime)
    from wgpy.datapath.native import Native

    return Native(tun, vnet_header=vnet_header, mtu=mtu)


def pump(until: Callable[[], bool], *ends: End, patience: float = PATIENCE) -> None:
    """Let these ends do their work until something is so. AssertionError if it never is."""
    deadline = time.monotonic() + patience
    while not until():
        left = deadline - time.monotonic()
        assert left > 0, f"it did not happen in {patience:g} s"
        # A frame of the native one comes without an event: so it is looked again soon.
        ready = select.select([end.path.fileno() for end in ends], [], [], min(left, 0.02))[0]
        for end in ends:
            if end.path.fileno() in ready:
                end.events += end.path.drain(64)


def join_ends(here: End, there: End, host: str = "127.0.0.1") -> tuple[Handle, Handle]:
    """Each the other's peer: 10.0.0.1 is here, 10.0.0.2 there. Returns the handles."""
    peers = []
    indices = here.path.reserve_index(), there.path.reserve_index()
    keys = (b"a" * 32, b"b" * 32)
    for number, (end, other) in enumerate(((here, there), (there, here))):
        peer = end.path.add_peer()
        prefix = parse_prefix(f"10.0.0.{2 - number}")
        end.path.set_allowed_ips([AllowedIpOperation("add", peer, prefix)])
        end.path.set_endpoint(peer, Endpoint(host, other.port))
        pair = key_pair(
            keys[number], keys[1 - number], indices[number], indices[1 - number], created=boottime()
        )
        end.path.install(peer, Slot.CURRENT, pair, kick=False)
        peers.append(peer)
    return peers[0], peers[1]
