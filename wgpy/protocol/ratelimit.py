"""How many handshake messages one source may cost us (whitepaper 5.3)."""

from typing import Final

from wgpy.protocol.constants import SOURCE_AT_ONCE, SOURCE_PER_SECOND

# A bucket is full again after 0.25 s, so forgetting a source after a second forgets nothing.
FORGET_AFTER: Final = 1.0
# Sources known at a time, the kernel's number. Each costs about 250 bytes, so a flood from made-up
# addresses costs 16 MB at the most; and it must prove its addresses by cookie to get this far.
MAX_SOURCES: Final = 65_536

_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"


def source_of(address: bytes) -> bytes:
    """IPv4 addresses count one by one, IPv6 by /64: a host is commonly given a whole /64."""
    if len(address) == 4:
        return address
    if address.startswith(_MAPPED_PREFIX):
        return address[12:]
    return address[:8]


class RateLimiter:
    """A token bucket for each source: `burst` at once, then `per_second`.
    `refused` and `table_full` count what was not allowed.

    Sources are kept in two generations that change places every FORGET_AFTER, so forgetting costs
    nothing for each source, however many a flood brings; one is known for one to two seconds.
    """

    __slots__ = (
        "_burst",
        "_capacity",
        "_old",
        "_per_second",
        "_turned",
        "_young",
        "refused",
        "table_full",
    )

    def __init__(
        self,
        capacity: int = MAX_SOURCES,
        *,
        per_second: float = SOURCE_PER_SECOND,
        burst: float = SOURCE_AT_ONCE,
    ) -> None:
        """Raises ValueError for a bucket that would be forgotten before it is full again."""
        if burst > per_second * FORGET_AFTER:
            raise ValueError(f"a bucket must be full again after {FORGET_AFTER} s")
        self._capacity = capacity
        self._per_second = float(per_second)
        self._burst = float(burst)
        # Source to (when last seen, tokens then).
        self._young: dict[bytes, tuple[float, float]] = {}
        self._old: dict[bytes, tuple[float, float]] = {}
        self._turned = 0.0
        self.refused = 0
        self.table_full = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def allow(self, address: bytes, now: float) -> bool:
        """Whether one more message from an address of 4 or 16 bytes may be worked on.

        A new source is refused when the table is full, and counted in `table_full`.
        """
        age = now - self._turned
        if age >= FORGET_AFTER:
            self._forget(now, age)
        source = address if len(address) == 4 else source_of(address)
        bucket = self._young.get(source) or self._old.pop(source, None)
        if bucket is None:
            if len(self._young) + len(self._old) >= self._capacity:
                self.table_full += 1
                return False
            tokens = self._burst
        else:
            seen, left = bucket
            tokens = min(self._burst, left + max(0.0, now - seen) * self._per_second)
        allowed = tokens >= 1.0
        self._young[source] = (now, tokens - 1.0 if allowed else tokens)
        if not allowed:
            self.refused += 1
        return allowed

    def _forget(self, now: float, age: float) -> None:
        # After two periods without a call, what was young is past its time as well.
        self._old = self._young if age < 2 * FORGET_AFTER else {}
        self._young = {}
        self._turned = now
