"""What is known of one path: a place, its round trip, and whether it still answers.

A path is *proved* once a probe of ours was answered from there, and until it is found dead.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from wgpy.nat import candidates
from wgpy.nat.candidates import Rank
from wgpy.nat.place import Place

# Smoothing of the round trip and its variation (RFC 6298, section 2).
_ALPHA: Final = 1 / 8
_BETA: Final = 1 / 4
# Of so many probes it is remembered whether they were answered: half a minute of a busy path.
REMEMBERED: Final = 20

# --- How a path is watched ---

# While packets pass, a path is asked this often.
BUSY_INTERVAL: Final = 1.5
# After a probe without an answer the next ones follow at twice the round trip, within these bounds:
# less would call a queue of half a second a death.
MIN_SPACING: Final = 0.5
MAX_SPACING: Final = 1.0
# So many unanswered are a death: at the latest 1.5 + 3 * 1.0 = 4.5 s after the last sign of life.
DEAD_AFTER: Final = 3
# Where authentic packets still come from there, after what was under way has arrived, loss is as
# likely as death, so it gets this long from the first of them: until 1.5 + 3.0 = 4.5 s as well.
DEAD_AFTER_HEARD: Final = 3.0
# Unanswered so often, a path is not worth staying on when another one answers.
FALTERS_AFTER: Final = 2


class Health(Enum):
    """What `Path.look` says."""

    WELL = "well"
    ASK = "ask"
    DEAD = "dead"


@dataclass(eq=False, slots=True)
class Path:
    """One way to the peer: a socket or relay of ours, and an address and port of theirs.

    Times are in seconds. `told` is whether the peer named this place; others were seen when probes
    came from there.
    """

    place: Place
    rank: Rank
    told: bool = True
    proved: bool = False
    round_trip: float = 0.0
    variation: float = 0.0
    last_asked: float | None = None
    last_answer: float | None = None
    last_heard: float | None = None
    # When the probes were sent that may still be answered, the oldest first.
    waiting: list[float] = field(default_factory=list)
    answers: deque[bool] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @property
    def destination(self) -> tuple[str, int]:
        """The address and port that datagrams reach."""
        return self.place.host, self.place.port

    @property
    def cost(self) -> tuple[int, float]:
        """The lower the better (candidates.cost)."""
        return candidates.cost(self.rank, self.round_trip)

    @property
    def loss(self) -> float:
        """Of the last probes that were answered or given up, the share without an answer."""
        return 1.0 - sum(self.answers) / len(self.answers) if self.answers else 0.0

    @property
    def falters(self) -> bool:
        """Whether it has left several questions unanswered."""
        return len(self.waiting) >= FALTERS_AFTER

    def asked(self, now: float) -> None:
        """Called when a probe went there that says whether the path lives."""
        self.last_asked = now
        self.waiting.append(now)
        if len(self.waiting) > REMEMBERED:
            del self.waiting[0]
            self.answers.append(False)

    def answered(self, asked_at: float, now: float) -> None:
        """Called when a probe that was sent at `asked_at` was answered."""
        sample = max(0.0, now - asked_at)
        if self.last_answer is None:
            self.round_trip, self.variation = sample, sample / 2
        else:
            self.variation += _BETA * (abs(self.round_trip - sample) - self.variation)
            self.round_trip += _ALPHA * (sample - self.round_trip)
        self.last_answer = self.last_heard = now
        self.proved = True
        earlier = [when for when in self.waiting if when < asked_at]
        self.answers.extend([False] * len(earlier) + [True])
        # What was asked before that and was not answered is lost or late; it says nothing now.
        self.waiting = [when for when in self.waiting if when > asked_at]

    def forget(self) -> None:
        """What was measured is void: the network is another one, or the path is dead."""
        self.proved = False
        self.answers.extend([False] * len(self.waiting))
        self.waiting.clear()
        self.last_answer = None

    @property
    def spacing(self) -> float:
        """How long an answer is waited for before the next question."""
        expected = 2 * (self.round_trip + 2 * self.variation)
        return min(max(expected, MIN_SPACING), MAX_SPACING)

    def ask_at(self, interval: float) -> float:
        """When a proved path is asked next, or given up, if it is asked every `interval`."""
        last = self.last_asked
        if last is None:
            return 0.0
        if self.waiting:
            following = self.waiting[-1] + min(self.spacing, interval)
            if len(self.waiting) < DEAD_AFTER:
                return following
            last_word = self.waiting[DEAD_AFTER - 1] + self.spacing
            return min(following, max(self.waiting[0] + DEAD_AFTER_HEARD, last_word))
        return max(last, self.last_answer or last) + interval

    def look(self, interval: float, now: float) -> Health:
        """What to do about a proved path that is asked every `interval` seconds."""
        if now < self.ask_at(interval):
            return Health.WELL
        if len(self.waiting) < DEAD_AFTER:
            return Health.ASK
        heard = self.last_heard is not None and self.last_heard > self.waiting[1]
        if heard and now - self.waiting[0] < DEAD_AFTER_HEARD:
            return Health.ASK
        return Health.DEAD
