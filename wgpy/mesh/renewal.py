"""When a certificate is renewed: after two thirds of its life, at once when rights change. Pure.

A part at random comes before, so that nodes that joined together do not renew together. After a
failure the pauses grow, but there are always many tries left before the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# The part of a life after which a certificate is renewed (identity/own.py has the same).
RENEW_AFTER: Final = 2 / 3
# The part of a life, before that, over which nodes spread.
SPREAD: Final = 1 / 20
LEAST_PAUSE: Final = 5.0
MOST_PAUSE: Final = 3600.0
# Of the time that is left, at the most so much between two tries.
_PART_LEFT: Final = 1 / 20
# Rights that the coordinator says are new may not come into the certificate: a CA that may not give
# them. To ask again at once would go on for ever.
_AGAIN: Final = 600.0


@dataclass(slots=True)
class Renewal:
    """The renewals of one certificate after the other. `chance` gives numbers from 0 to 1; times
    are seconds of the wall clock."""

    chance: Callable[[], float]
    _due: float | None = None
    _failures: int = 0
    _asked_for: object = None
    _asked_at: float = 0.0
    _end: float = 0.0

    def issued(self, not_before: float, not_after: float) -> None:
        """There is a new certificate."""
        life = not_after - not_before
        self._due = not_before + life * (RENEW_AFTER - SPREAD * self.chance())
        self._end = not_after
        self._failures = 0

    def rights_differ(self, now: float, wanted: object) -> None:
        """The certificate does not say what we may have now: `wanted`, to be told from others."""
        if wanted == self._asked_for and 0 <= now - self._asked_at < _AGAIN:
            return
        self._asked_for, self._asked_at = wanted, now
        self._due = now

    def failed(self, now: float) -> None:
        """It was to be renewed, and was not."""
        self._failures += 1
        pause = min(MOST_PAUSE, LEAST_PAUSE * 2.0 ** min(self._failures - 1, 16))
        left = max(LEAST_PAUSE, (self._end - now) * _PART_LEFT)
        self._due = now + min(pause, left) * (0.5 + 0.5 * self.chance())

    def due_at(self) -> float | None:
        """When to ask; in the past for now, None before there is a certificate."""
        return self._due
