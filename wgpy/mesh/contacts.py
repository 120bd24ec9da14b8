"""Which coordinator a node turns to, where, and when: a state machine without a clock.

The coordinators stand in an order that follows from the node's own key, so that a thousand nodes
spread over them. Each endpoint of each is tried in turn. When all have failed there is a pause,
which doubles from 1 s to 60 s and is never quite the same, so that a coordinator that comes back is
not met by everybody at once.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from wgpy.keys import PublicKey
from wgpy.mesh.line import Endpoint

LEAST_PAUSE: Final = 1.0
MOST_PAUSE: Final = 60.0
# A pause is this part of itself at the least, at random.
_LEAST_PART: Final = 0.5
# Who was connected for so long was connected: the next failure is the first.
STEADY: Final = 30.0


@dataclass(frozen=True, slots=True)
class Whom:
    """A coordinator. `addresses` are its own inside the tunnel, 4 or 16 bytes each."""

    key: PublicKey
    name: str | None
    endpoints: tuple[Endpoint, ...]
    addresses: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Turn to `whom` at `endpoint`; None for one that needs none, which is ourselves."""

    whom: Whom
    endpoint: Endpoint | None


class Contacts:
    """The coordinators of the node whose key is `own`. `chance` gives numbers from 0 to 1; times
    are in seconds of one clock that never goes back."""

    def __init__(self, own: PublicKey, chance: Callable[[], float]) -> None:
        self._own = own
        self._chance = chance
        self._round: list[Attempt] = []
        self._at = 0
        self._failures = 0
        self._not_before = 0.0
        self._since: float | None = None

    @property
    def all(self) -> tuple[Whom, ...]:
        """The coordinators, in our order."""
        return tuple(dict.fromkeys(attempt.whom for attempt in self._round))

    @property
    def current(self) -> Attempt | None:
        """Whom to turn to now; None if nobody is known."""
        return self._round[self._at] if self._round else None

    def set(self, coordinators: Sequence[Whom]) -> None:
        """These are the coordinators. The one that we are at stays, where it still is."""
        former = self.current
        ordered = sorted(coordinators, key=self._weight)
        self._round = [
            Attempt(whom, endpoint)
            for whom in ordered
            for endpoint in (whom.endpoints if whom.key != self._own else (None,))
        ]
        self._at = 0
        for number, attempt in enumerate(self._round):
            same = former is not None and attempt.whom.key == former.whom.key
            if same and former is not None and attempt.endpoint == former.endpoint:
                self._at = number

    def _weight(self, whom: Whom) -> bytes:
        # On a coordinator its own service is the nearest.
        if whom.key == self._own:
            return b""
        return hashlib.sha256(bytes(self._own) + bytes(whom.key)).digest()

    def next_at(self) -> float:
        """When the current one may be tried; in the past for now."""
        return self._not_before

    def connected(self, now: float) -> None:
        """The current one answers."""
        self._since = now

    def lost(self, now: float) -> None:
        """The current one does not answer, or not any more: the next one's turn."""
        if self._since is not None and now - self._since >= STEADY:
            self._failures = 0
        self._since = None
        if not self._round:
            self._not_before = now + LEAST_PAUSE
            return
        self._at = (self._at + 1) % len(self._round)
        self._failures += 1
        rounds, rest = divmod(self._failures, len(self._round))
        if rest == 0:
            pause = min(MOST_PAUSE, LEAST_PAUSE * 2.0 ** min(rounds - 1, 16))
            self._not_before = now + pause * (_LEAST_PART + (1 - _LEAST_PART) * self._chance())

    def again(self) -> None:
        """The network is another one, or somebody wants it now: no more waiting."""
        self._failures = 0
        self._not_before = 0.0
