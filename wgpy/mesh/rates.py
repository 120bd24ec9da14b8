"""How often somebody may do something: a bucket of tokens for each, and a bound on the buckets."""

from collections import OrderedDict
from collections.abc import Hashable


class Rates:
    """`rate` a second, and `burst` at once, for each of `most` parties; `now` never goes back."""

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        # What each had left, and when; who was not here for longest is first.
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def allow(self, who: Hashable, now: float) -> bool:
        """Whether it may do one more now; that is then counted."""
        left, at = self._left.pop(who, (self._burst, now))
        left = min(self._burst, left + self._rate * (now - at))
        allowed = left >= 1.0
        self._left[who] = (left - 1.0 if allowed else left, now)
        if len(self._left) > self._most:
            # It has waited for longest, so its bucket is the fullest, and nearest to a new one.
            self._left.popitem(last=False)
        return allowed
