"""A wire between two namespaces that loses, repeats, delays and reorders frames, and keeps them.

      left                       the wire's own namespace                     right
    ┌──────────────┐   veth   ┌─────────────────────────────┐   veth   ┌──────────────┐
    │ veth0 ───────┼──────────┤ end0 ── this process ── end1 ├──────────┼─────── veth0 │
    │ 10.91.0.1    │          └─────────────────────────────┘          │ 10.91.0.2    │
    │ fd91::1      │                                                    │ fd91::2      │
    └──────────────┘                                                    └──────────────┘

    with faulty_pair(Faults(loss=0.1)) as (net, wire):
        net.left.ping(net.right.v4)

What happens to a frame is drawn from a seed, so that a run can be repeated. ARP and neighbour
discovery suffer like all the rest. Every frame passes through this process: a few ten thousand
in a second.
"""

import contextlib
import heapq
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.support.netns import Namespace, Pair

# linux/if_ether.h and linux/if_packet.h.
ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23

FRAME_SIZE = 65_535
# Frames kept in `Wire.frames`, and frames on their way at most; more are lost, and counted.
MAX_KEPT = 100_000
MAX_DELAYED = 10_000
# The wire goes dead after so long whatever happens.
LIFE = 120.0
# How often it looks whether it is to end.
TICK = 0.05


@dataclass(frozen=True, slots=True)
class Faults:
    """What befalls frames: probabilities from 0 to 1, times in seconds.

    A frame that is `reordered` waits for `reorder_by` longer than the others.
    """

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    reorder_by: float = 0.01
    delay: float = 0.0


@dataclass(slots=True)
class Counts:
    """What befell the frames so far."""

    carried: int = 0
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    overflow: int = 0


class Wire:
    """Carries frames between two packet sockets in a thread of its own; a context manager.

    `faults` may be changed while it runs. `drop`, where set, is asked for each frame, with the
    index of the end where it came in (0 left, 1 right), and takes away those it is true for.
    """

    def __init__(
        self, ends: tuple[socket.socket, socket.socket], faults: Faults, seed: int
    ) -> None:
        self.faults = faults
        self.drop: Callable[[int, bytes], bool] | None = None
        self.counts = Counts()
        self.frames: list[tuple[float, bytes]] = []
        self._ends = ends
        self._random = random.Random(seed)
        self._delayed: list[tuple[float, int, int, bytes]] = []
        self._sequence = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to carry."""
        self._thread.start()

    def stop(self) -> None:
        """Carry no more; what is on its way is lost."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        end_of_life = time.monotonic() + LIFE
        while not self._ending.is_set() and time.monotonic() < end_of_life:
            wait = TICK
            if self._delayed:
                wait = min(wait, max(0.0, self._delayed[0][0] - time.monotonic()))
            for end in select.select(self._ends, (), (), wait)[0]:
                self._take(self._ends.index(end))
            self._deliver()

    def _take(self, origin: int) -> None:
        # The link may be taken down, or the frame be gone, between select and recv.
        with contextlib.suppress(OSError):
            frame = self._ends[origin].recv(FRAME_SIZE, socket.MSG_DONTWAIT)
            if len(self.frames) < MAX_KEPT:
                self.frames.append((time.time(), frame))
            self._decide(origin, frame)

    def _decide(self, origin: int, frame: bytes) -> None:
        faults, draw = self.faults, self._random.random
        if (self.drop is not None and self.drop(origin, frame)) or draw() < faults.loss:
            self.counts.lost += 1
            return
        delay = faults.delay
        if draw() < faults.reordering:
            self.counts.reordered += 1
            delay += faults.reorder_by
        copies = 1
        if draw() < faults.duplication:
            self.counts.repeated += 1
            copies = 2
        for _ in range(copies):
            if len(self._delayed) >= MAX_DELAYED:
                self.counts.overflow += 1
                return
            self._sequence += 1
            due = time.monotonic() + delay
            heapq.heappush(self._delayed, (due, self._sequence, 1 - origin, frame))

    def _deliver(self) -> None:
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(self._delayed)
            # A link that is down, or a queue that is full, loses frames as wires do.
            try:
                self._ends[target].send(frame)
            except OSError:
                self.counts.lost += 1
            else:
                self.counts.carried += 1


def _open_end(link: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    # What we put on the link ourselves is not to come back to us.
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.bind((link, ETH_P_ALL))
    return end


@contextlib.contextmanager
def faulty_pair(
    faults: Faults = Faults(), *, seed: int = 1, mtu: int = 1500
) -> Iterator[tuple[Pair, Wire]]:
    """Two namespaces as `pair` makes them, with a wire between (the module's drawing)."""
    with (
        Namespace("left") as left,
        Namespace("wire") as middle,
        Namespace("right") as right,
        contextlib.ExitStack() as stack,
    ):
        ends = []
        for host, side in enumerate((left, right), start=1):
            link = f"end{host - 1}"
            peer = ("peer", "name", "veth0", "netns", side.name)
            middle.ip("link", "add", link, "type", "veth", *peer)
            middle.run("sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=1")
            middle.ip("link", "set", link, "mtu", str(mtu), "up")
            # Checksums and segments are made before a frame comes to us: we only copy.
            side.disable_offloads("veth0")
            side.ip("link", "set", "veth0", "mtu", str(mtu), "up")
            side.add_address("veth0", f"10.91.0.{host}/24", f"fd91::{host}/64")
            side.link, side.v4, side.v6 = "veth0", f"10.91.0.{host}", f"fd91::{host}"

            def open_this(name: str = link) -> socket.socket:
                return _open_end(name)

            ends.append(stack.enter_context(middle.inside(open_this)))
        wire = Wire((ends[0], ends[1]), faults, seed)
        wire.start()
        stack.callback(wire.stop)
        yield Pair(left, right), wire
