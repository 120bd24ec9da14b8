"""Packets to a peer that has moved to a faster path: they wait for those on the slower one.

They are kept as the TUN gave them, and are sealed when they go: so their counters are in order
with those of whatever was sent meanwhile.
"""

from wgpy.datapath.contract import DataPathError

# Seconds. The difference between two paths is some 50 ms, and under a second by the worst relay.
MAX_HOLD = 5.0
# TUN reads kept for a peer: 50 ms at 80,000 a second.
HOLD_PACKETS = 4096
# Bytes kept for a peer, for most of them may be large ones: 50 ms at 1.3 Gb/s.
HOLD_BYTES = 8 << 20
# Bytes kept for all peers, of which few move at a time.
HOLD_TOTAL_BYTES = 64 << 20
# A TUN read is at most so long, its vnet header not counted: what must still fit.
_LONGEST = 65_535


class Hold:
    """What is kept of one peer, and until when: each with its vnet header before it."""

    __slots__ = ("deadline", "kept", "kept_bytes")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.kept: list[bytes] = []
        self.kept_bytes = 0


class Holds:
    """What is kept for all peers together."""

    def __init__(self) -> None:
        self.kept_bytes = 0

    def keep(self, hold: Hold, vnet: bytes | memoryview, packet: memoryview) -> bool:
        """Keep a packet. False if no further one of any length would fit."""
        hold.kept.append(bytes(vnet) + bytes(packet))
        hold.kept_bytes += len(packet)
        self.kept_bytes += len(packet)
        return (
            len(hold.kept) < HOLD_PACKETS
            and hold.kept_bytes + _LONGEST <= HOLD_BYTES
            and self.kept_bytes + _LONGEST <= HOLD_TOTAL_BYTES
        )

    def end(self, hold: Hold) -> list[bytes]:
        """Keep them no more."""
        self.kept_bytes -= hold.kept_bytes
        return hold.kept


def check_hold(hold: float) -> None:
    """Whether packets may wait so long. Raises DataPathError."""
    if not 0.0 <= hold <= MAX_HOLD:
        raise DataPathError(f"packets wait {MAX_HOLD:g} s at the most, not {hold}")
