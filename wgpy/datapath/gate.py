"""Gated key pairs: they open packets, which wait here until the control plane has decided.

A key pair is installed gated when its handshake proved a key, and who that key is must still be
settled. Its packets are opened, authenticated and remembered by the replay window as any; then they
are held. `release` lets them go on as if they had come a moment later; `refuse` leaves no trace.
"""

import math
from collections import deque
from collections.abc import Iterator

from wgpy.datapath.contract import Handle
from wgpy.datapath.endpoint import Route
from wgpy.datapath.session import Session

# Packets held for a peer: the first of a connection or two, and a handful of pings. What comes
# after them is dropped, for the sender repeats what was never answered.
GATE_PACKETS = 32
# Bytes held for a peer: one packet of the greatest length, or GATE_PACKETS of 2,048.
GATE_BYTES = 65_536
# Bytes held for all peers, so that 1,024 pending ones cost no 64 MB. One peer takes 1/128 of it.
GATE_TOTAL_BYTES = 8 << 20
# Seconds from the first packet on. The decision takes some milliseconds; a control plane that has
# not decided by then never will.
GATE_SECONDS = 5.0


class Gate:
    """A gated key pair, what it opened, and where its peer was last."""

    __slots__ = ("deadline", "held", "held_bytes", "route", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        # Infinity until the first packet.
        self.deadline = math.inf
        self.route: Route | None = None
        self.held: list[bytearray] = []
        self.held_bytes = 0

    @property
    def confirmed(self) -> bool:
        """Whether a packet was opened with the pair."""
        return self.deadline < math.inf


class Gates:
    """What is held for all peers together, and until when."""

    def __init__(self) -> None:
        self.held_bytes = 0
        # In the order of their deadlines, for all wait equally long. Some were decided meanwhile.
        self._waiting: deque[tuple[float, Handle]] = deque()

    def begin(self, peer: Handle, gate: Gate, now: float) -> None:
        """The first packet came: from now on time runs."""
        gate.deadline = now + GATE_SECONDS
        self._waiting.append((gate.deadline, peer))

    def hold(self, gate: Gate, packet: memoryview) -> str | None:
        """Keep a packet, or the name of the counter that says why not."""
        if len(gate.held) == GATE_PACKETS or gate.held_bytes + len(packet) > GATE_BYTES:
            return "gate_full"
        if self.held_bytes + len(packet) > GATE_TOTAL_BYTES:
            return "gate_memory"
        gate.held.append(bytearray(packet))
        gate.held_bytes += len(packet)
        self.held_bytes += len(packet)
        return None

    def empty(self, gate: Gate) -> int:
        """Wipe what is held. How many packets that were."""
        count = len(gate.held)
        for packet in gate.held:
            packet[:] = bytes(len(packet))
        gate.held.clear()
        self.held_bytes -= gate.held_bytes
        gate.held_bytes = 0
        return count

    def expired(self, now: float) -> Iterator[tuple[float, Handle]]:
        """The deadlines that passed. A gate that has another one by now is not meant."""
        while self._waiting and self._waiting[0][0] <= now:
            yield self._waiting.popleft()
