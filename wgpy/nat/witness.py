"""Which of the addresses that peers see us at may be told to others.

A reply to a probe says where the probe came from, and a peer may say there what it likes. If we
told it to others they would send probes there. So an address and port of ours that no STUN server
saw is told only when two peers see us there.
"""

from collections import Counter
from typing import Final

from wgpy.keys import PublicKey

Address = tuple[str, int]

# A NAT's mapping that nobody has seen for this long is commonly gone.
REMEMBERED_SECONDS: Final = 120.0
# Honest peers see us at one address or a few for each socket.
MAX_ADDRESSES: Final = 64
MAX_PEERS: Final = 8


class Witnesses:
    """Who saw us where, of late. Time is an argument, in seconds."""

    __slots__ = ("_seen", "counters")

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        # Address -> peer -> when; the address that was seen longest ago first.
        self._seen: dict[Address, dict[PublicKey, float]] = {}

    def seen(self, by: PublicKey, at: Address, now: float) -> None:
        """A peer's reply says that a probe came from there."""
        peers = self._seen.pop(at, {})
        while len(self._seen) >= MAX_ADDRESSES:
            del self._seen[next(iter(self._seen))]
            self.counters["addresses_displaced"] += 1
        if len(peers) < MAX_PEERS or by in peers:
            peers[by] = now
        self._seen[at] = peers

    def agreed(self, by_stun: frozenset[Address], now: float) -> tuple[Address, ...]:
        """Addresses that may be told: what STUN saw of late, and what two peers or more did."""
        found = list(by_stun)
        for address, peers in self._seen.items():
            recent = sum(now - when <= REMEMBERED_SECONDS for when in peers.values())
            if recent >= 2 and address not in by_stun:
                found.append(address)
        return tuple(found)

    def forget(self) -> None:
        """Called when the network changed."""
        self._seen.clear()
