"""What control datagrams that are dear to answer may cost: a queue of their own, and rates.

Anybody who knows our public key can make datagrams that pass mac1, as many and from as many made-up
addresses as the line carries. Their number is bounded here, before Python is woken for any of them.
Those that carry the mac2 of a cookie of ours have proved their address and are bounded apart, so
that a flood of the others does not shut them out (whitepaper 5.3); so are those that seem to come
from where a peer is, for a peer renews its keys in a flood as well.
"""

import hmac
from collections import deque
from collections.abc import Sequence
from hashlib import blake2s

from wgpy.datapath.contract import Budget, Datagram
from wgpy.datapath.endpoint import Route, place_of

MAC_LENGTH = 16
# Buckets for sources, for each standing. Sources share them by a keyed hash: a flood from made-up
# addresses must come at 160,000 a second before another source's bucket runs dry by it.
SOURCES = 4096
# What the sender of a datagram has shown, as a place in the lists of a lane.
_PROVEN, _PEER, _UNPROVEN = range(3)
_STANDINGS = 3
# The queue is divided by these for each standing: half of it is left to those that have proved
# their address, and nobody else may fill more than three quarters.
_RESERVED = ((1, 1), (3, 4), (1, 2))
_NO_MAC = bytes(MAC_LENGTH)


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s of 16 bytes."""
    return blake2s(data, digest_size=MAC_LENGTH, key=key).digest()


class Rate:
    """A token bucket in one number: the moment at which it is full again."""

    __slots__ = ("_interval", "_most")

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1.0 / rate
        # Half a token of slack, so that rounding takes none away.
        self._most = (burst - 0.5) / rate

    def allows(self, full_at: float, now: float) -> bool:
        """Whether there is a token."""
        return full_at - now <= self._most

    def take(self, full_at: float, now: float) -> float:
        """The bucket with a token less."""
        return max(full_at, now) + self._interval


class Places:
    """Where the peers are: how many at each place."""

    def __init__(self) -> None:
        self._count: dict[tuple[str | int, int], int] = {}

    def __len__(self) -> int:
        return len(self._count)

    def moved(self, before: Route | None, after: Route | None) -> None:
        """A peer is elsewhere than before; None for nowhere."""
        if after is not None:
            place = _place(after)
            self._count[place] = self._count.get(place, 0) + 1
        if before is None:
            return
        place = _place(before)
        left = self._count.get(place, 1) - 1
        if left:
            self._count[place] = left
        else:
            self._count.pop(place, None)

    def has(self, route: Route) -> bool:
        """Whether a peer is where a datagram says that it comes from."""
        return _place(route) in self._count


def _place(route: Route) -> tuple[str | int, int]:
    return (route.via, route.channel) if route.channel else place_of(route)


class Lane:
    """The queue and the buckets of one type of datagram."""

    def __init__(self, seed: bytes) -> None:
        self.queue: deque[Datagram] = deque()
        self._seed = seed
        # Each number is the moment at which a bucket is full.
        self._sources = [0.0] * (_STANDINGS * SOURCES)
        self._full_at = [0.0] * _STANDINGS
        # The bucket of those that proved nothing ran dry, and is filled up before it gives again.
        self._dry = False

    def set(self, budget: Budget) -> None:
        """From now on this much; what was used up stays so."""
        self._length = budget.queue
        self._source = Rate(budget.source_rate, budget.source_burst)
        self._rates = (
            Rate(budget.proven_rate, budget.queue),
            Rate(budget.peer_rate, budget.unproven_burst),
            Rate(budget.unproven_rate, budget.unproven_burst),
        )

    @property
    def is_full(self) -> bool:
        """Whether nothing more may come."""
        return len(self.queue) >= self._length

    def is_dry(self, now: float) -> bool:
        """Whether nothing passes that proved nothing: the bucket ran dry, and is not full again.

        So the control plane is woken in a flood for a burst of them now and then, not for each.
        """
        return self._dry and self._full_at[_UNPROVEN] > now

    def refusal(self, address: bytes, *, proven: bool, is_peer: bool, now: float) -> str | None:
        """Why a datagram from an address, or through a relay, is dropped: the name of a counter.

        Its sender proved its address, or is where a peer is, or neither; what the peers' bucket
        does not take may still go as any other.
        """
        if proven:
            return self._take(_PROVEN, address, now)
        if is_peer and self._take(_PEER, address, now) is None:
            return None
        if self.is_dry(now):
            return "shed_unproven"
        self._dry = False
        return self._take(_UNPROVEN, address, now)

    def _take(self, standing: int, address: bytes, now: float) -> str | None:
        part, whole = _RESERVED[standing]
        if len(self.queue) >= self._length * part // whole:
            return "shed_queue"
        if not self._rates[standing].allows(self._full_at[standing], now):
            self._dry |= standing == _UNPROVEN
            return "shed_rate" if standing == _PROVEN else "shed_unproven"
        # A host commonly has a whole /64.
        source = address[:8]
        slot = int.from_bytes(mac(self._seed, source)[:4], "little") % SOURCES + standing * SOURCES
        if not self._source.allows(self._sources[slot], now):
            return "shed_source"
        self._sources[slot] = self._source.take(self._sources[slot], now)
        self._full_at[standing] = self._rates[standing].take(self._full_at[standing], now)
        return None


def is_proven(secrets: Sequence[bytes], source: bytes, data: bytes, mac2_at: int) -> bool:
    """Whether the mac2 at `mac2_at` is that of a cookie which `source` got (whitepaper 5.4.4)."""
    mac2 = data[mac2_at : mac2_at + MAC_LENGTH]
    if mac2 == _NO_MAC:
        return False
    return any(
        hmac.compare_digest(mac(mac(secret, source), data[:mac2_at]), mac2) for secret in secrets
    )


def shares(lengths: Sequence[int], limit: int) -> list[int]:
    """How many of `limit` datagrams each queue gives, the common one first.

    Every queue of its own has a quarter of the limit at the least, as long as there is room; what
    nobody else needs is given out in order.
    """
    left = limit
    given = [0] * len(lengths)
    for number in range(1, len(lengths)):
        given[number] = min(lengths[number], -(-limit // 4), left)
        left -= given[number]
    for number, length in enumerate(lengths):
        more = min(length - given[number], left)
        given[number] += more
        left -= more
    return given
