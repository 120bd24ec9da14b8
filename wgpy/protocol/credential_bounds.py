"""What strangers with credentials may cost us: budgets, and tables that cannot grow.

Whoever knows our public key can make a 0x10 whose payload opens, so no order of checks keeps the
cost down; these bounds do. Times are seconds and only their differences count, `wall_ns` is
nanoseconds since 1970, keys are 32 bytes. docs/protocol.md gives the numbers' reasons together;
credential_intake.py asks in the right order. Each bound counts what it did not let pass.
"""

import math
from typing import Final, Generic, TypeVar

from wgpy.keys import PublicKey
from wgpy.protocol import tai64n
from wgpy.protocol.constants import PEERS_PER_SECOND, STRANGERS_AT_ONCE, STRANGERS_PER_SECOND
from wgpy.protocol.ratelimit import source_of

T = TypeVar("T")

# A tenth of a core, and enough for 10,000 peers that renew their keys every two minutes, six times
# over. The plain handshake has a budget of its own: none.
HANDSHAKES_PER_SECOND: Final = 500
# Signatures cost the most, and only new or renewed credentials need one.
SIGNATURES_PER_SECOND: Final = 100
# One for each datagram that the data path lets through without one: 19 KB/s to addresses that may
# be made up. A bound of its own, for a data path that sheds nothing.
COOKIES_PER_SECOND: Final = STRANGERS_PER_SECOND + PEERS_PER_SECOND
COOKIES_AT_ONCE: Final = 2 * STRANGERS_AT_ONCE
# A budget saves up for a tenth of a second: a burst of that length costs what it would anyway.
SAVED_SECONDS: Final = 0.1
# Sums of many small steps end a little below a whole number.
_ONE: Final = 1.0 - 1e-6

# A refused peer tries again every 5 s for 90 s; it is answered by a dictionary for most of that.
REFUSED_FOR: Final = 60.0
MAX_REFUSED: Final = 4096
# Held packets wait as long (the data path's bound), and an initiator tries again after 5 s.
PENDING_FOR: Final = 5.0
MAX_PENDING: Final = 1024
# Clocks of honest peers differ by less; what is further ahead would lock its own key out.
MAX_AHEAD_NS: Final = 300 * 10**9
# As many as the rate limiter knows sources. About 200 bytes each.
MAX_STAMPS: Final = 65_536


class Budget:
    """So many a second for everyone together: a token bucket. `refused` counts vain requests."""

    __slots__ = ("_capacity", "_per_second", "_seen", "_tokens", "refused")

    def __init__(self, per_second: int, at_once: int | None = None) -> None:
        self._per_second = float(per_second)
        saved = per_second * SAVED_SECONDS if at_once is None else float(at_once)
        self._capacity = max(1.0, saved)
        self._tokens = self._capacity
        # Full at first, whatever the clock says.
        self._seen = -math.inf
        self.refused = 0

    def take(self, now: float) -> bool:
        """Spend one, if there is one."""
        if now > self._seen:
            self._fill(now)
        if self._tokens < _ONE:
            self.refused += 1
            return False
        self._tokens -= 1.0
        return True

    def wait(self, now: float) -> float:
        """Seconds until there is one to spend."""
        if now > self._seen:
            self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._per_second)

    def _fill(self, now: float) -> None:
        gained = (now - self._seen) * self._per_second
        self._tokens = min(self._capacity, self._tokens + gained)
        self._seen = now


class RefusedLately:
    """Static keys that proved themselves and were refused, and where they were then.

    The source (IPv4 address or IPv6 /64) belongs to the entry because a recorded 0x10 with a
    credential that has since expired can be replayed: from elsewhere that must not shut its owner
    out. `hits` counts what was dropped for an entry, `evicted` entries that made room early.
    """

    __slots__ = ("_capacity", "_until", "evicted", "hits")

    def __init__(self, capacity: int = MAX_REFUSED) -> None:
        self._capacity = capacity
        # All last equally long, so the first is always the one that ends first.
        self._until: dict[tuple[PublicKey, bytes], float] = {}
        self.hits = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._until)

    def add(self, key: PublicKey, address: bytes, now: float) -> None:
        """Refuse this key at this address, of 4 or 16 bytes, for a minute from now."""
        entry = (key, source_of(address))
        self._until.pop(entry, None)
        while self._until:
            first = next(iter(self._until))
            if self._until[first] > now:
                if len(self._until) < self._capacity:
                    break
                self.evicted += 1
            del self._until[first]
        self._until[entry] = now + REFUSED_FOR

    def has(self, key: PublicKey, address: bytes, now: float) -> bool:
        """Whether this key was refused at this address lately."""
        if not self._until:
            return False
        until = self._until.get((key, source_of(address)))
        if until is None or until <= now:
            return False
        self.hits += 1
        return True

    def clear(self) -> None:
        """Called when what is trusted changed: everybody may ask again."""
        self._until.clear()


class Stamps:
    """The greatest TAI64N stamp of each key that brought a good credential, the latest 65,536 keys.

    An entry is made only then, so that made-up keys displace nobody. A displaced entry costs one
    answer to a replay and no more: a session begins with a packet that the replayer cannot make.
    """

    __slots__ = ("_capacity", "_greatest", "ahead", "evicted", "replayed")

    def __init__(self, capacity: int = MAX_STAMPS) -> None:
        self._capacity = capacity
        # From the longest unused to the latest.
        self._greatest: dict[PublicKey, bytes] = {}
        self.ahead = 0
        self.evicted = 0
        self.replayed = 0

    def __len__(self) -> int:
        return len(self._greatest)

    def fault(
        self, key: PublicKey, stamp: bytes, wall_ns: int, floor: bytes | None = None
    ) -> str | None:
        """Why a stamp of 12 bytes is refused, or None. `floor` is a mark kept elsewhere: that of a
        key in the configuration, which both kinds of initiation raise (Peer.greatest_stamp)."""
        mark = self._greatest.get(key)
        if (mark is not None and stamp <= mark) or (floor is not None and stamp <= floor):
            self.replayed += 1
            return "replayed_timestamp"
        if tai64n.to_ns(stamp) > wall_ns + MAX_AHEAD_NS:
            self.ahead += 1
            return "future_timestamp"
        return None

    def record(self, key: PublicKey, stamp: bytes) -> None:
        """Called when the credential that came with the stamp was accepted."""
        known = self._greatest.pop(key, stamp)
        if len(self._greatest) >= self._capacity:
            del self._greatest[next(iter(self._greatest))]
            self.evicted += 1
        self._greatest[key] = max(known, stamp)

    def greatest(self, key: PublicKey) -> bytes | None:
        """The mark of a key, for one that enters the configuration."""
        return self._greatest.get(key)


class Pending(Generic[T]):
    """Answered, and not yet confirmed by a packet: one for each static key, 1,024 in all, 5 s.

    `full` counts what found no room, `expired` what was never confirmed.
    """

    __slots__ = ("_capacity", "_items", "expired", "full")

    def __init__(self, capacity: int = MAX_PENDING) -> None:
        self._capacity = capacity
        # All last equally long, so the first is always the one that ends first.
        self._items: dict[PublicKey, tuple[float, T]] = {}
        self.full = 0
        self.expired = 0

    def __len__(self) -> int:
        return len(self._items)

    def has_room(self, key: PublicKey) -> bool:
        """Whether `add` would succeed: a key's next handshake takes the place of its last."""
        return len(self._items) < self._capacity or key in self._items

    def add(self, key: PublicKey, item: T, now: float) -> bool:
        """Keep an item for 5 s; False if there is no room. Whoever has one already takes it out
        first (`remove`), for it has keys to wipe."""
        if key in self._items or len(self._items) >= self._capacity:
            self.full += 1
            return False
        self._items[key] = (now + PENDING_FOR, item)
        return True

    def remove(self, key: PublicKey) -> T | None:
        """Called at confirmation, and when the key's next handshake takes its place."""
        found = self._items.pop(key, None)
        return None if found is None else found[1]

    def expire(self, now: float) -> list[T]:
        """Take out what was not confirmed in time, for its keys to be wiped."""
        out = []
        while self._items:
            key = next(iter(self._items))
            until, item = self._items[key]
            if until > now:
                break
            del self._items[key]
            self.expired += 1
            out.append(item)
        return out

    def next_deadline(self) -> float | None:
        """When `expire` has something to do, or None."""
        return next(iter(self._items.values()))[0] if self._items else None
