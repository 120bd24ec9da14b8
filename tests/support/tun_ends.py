"""Tunnels between namespaces whose data paths a test drives itself, without a device.

    left                          hub                          right
  ┌────────────────────┐     ┌─────────────┐     ┌────────────────────┐
  │ IF  10.77.0.1      │     │   a relay   │     │ IF  10.77.0.2      │
  │     fd77::1        │     │             │     │     fd77::2        │
  │ veth0 10.91.0.1 ───┼─────┼── 10.91.0.2 │     │                    │
  │                    │     │ 10.92.0.2 ──┼─────┼── veth1 10.92.0.1  │
  │ veth2 10.93.0.1 ───┼─────┼─────────────┼─────┼── veth2 10.93.0.2  │
  └────────────────────┘     └─────────────┘     └────────────────────┘

Each end is served by a thread of its own, in which every call to its data path is made, for the
portable one belongs to one thread.
"""

import contextlib
import os
import queue
import select
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from tests.support.ends import boottime, open_path
from tests.support.memory_path import key_pair
from tests.support.netns import Namespace, join, link_name
from wgpy.datapath.contract import AllowedIpOperation, DataPath, Endpoint, Event, Slot
from wgpy.ip import parse_prefix
from wgpy.linux.tun import open_tun
from wgpy.linux.udp import bind

Result = TypeVar("Result")

# How often a thread looks whether it is to end, and whether something was kept for too long.
_TICK = 0.02
# The keys outlive every test.
_LIFE = 100_000.0
_MTU = 1420


class TunEnd:
    """One end: a TUN, the pair of sockets on a free port, and one peer, with a key pair for it."""

    def __init__(self, kind: str, space: Namespace, number: int) -> None:
        self.space = space
        self.address = f"10.77.0.{number}"
        self.events: list[Event] = []
        name = link_name()
        self._tun = space.inside(lambda: open_tun(name))
        self._path = open_path(kind, self._tun.fd, vnet_header=True, mtu=_MTU)
        bound = space.inside(lambda: bind(0, 0))
        self.port = bound.port
        self._path.set_sockets(bound.v4, bound.v6)
        self.peer = self._path.add_peer()
        other = 3 - number
        self._path.set_allowed_ips(
            AllowedIpOperation("add", self.peer, parse_prefix(text))
            for text in (f"10.77.0.{other}", f"fd77::{other}")
        )
        keys = bytes([number]) * 32, bytes([other]) * 32
        index = self._path.reserve_index()
        self._index, self._keys = index, keys
        space.add_address(name, f"{self.address}/24", f"fd77::{number}/64")
        space.ip("link", "set", name, "up")
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self, other: "TunEnd") -> None:
        """Take the other's index into the key pair, and begin."""
        pair = key_pair(*self._keys, self._index, other._index, created=boottime(), life=_LIFE)
        self._path.install(self.peer, Slot.CURRENT, pair, kick=False)
        self._path.set_up(True)
        self._thread.start()

    def call(self, act: Callable[[DataPath], Result]) -> Result:
        """Do something with the data path, in its thread."""
        done: queue.SimpleQueue[Result | Exception] = queue.SimpleQueue()

        def here() -> None:
            try:
                done.put(act(self._path))
            except Exception as error:
                done.put(error)

        self._calls.put(here)
        os.eventfd_write(self._wake, 1)
        result = done.get()
        if isinstance(result, Exception):
            raise result
        return result

    def use(self, endpoint: Endpoint, hold: float = 0.0) -> None:
        """The peer is there."""
        self.call(lambda path: path.set_endpoint(self.peer, endpoint, hold))

    def counters(self) -> dict[str, int]:
        return self.call(lambda path: path.counters())

    def _run(self) -> None:
        while not self._ending.is_set():
            ready = select.select([self._path.fileno(), self._wake], [], [], _TICK)[0]
            if self._wake in ready:
                os.eventfd_read(self._wake)
            while not self._calls.empty():
                self._calls.get()()
            self.events += self._path.drain(64)

    def close(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._path.close()
        self._tun.close()
        os.close(self._wake)


@contextlib.contextmanager
def tun_ends(kind: str) -> Iterator[tuple[TunEnd, Namespace, TunEnd]]:
    """The drawing of the module, up, with no endpoint known to anybody; gone at the end."""
    with Namespace("left") as left, Namespace("hub") as hub, Namespace("right") as right:
        join(left, hub, number=0)
        join(right, hub, number=1)
        join(left, right, number=2)
        with contextlib.ExitStack() as stack:
            one, other = TunEnd(kind, left, 1), TunEnd(kind, right, 2)
            stack.callback(one.close)
            stack.callback(other.close)
            one.start(other)
            other.start(one)
            yield one, hub, other
