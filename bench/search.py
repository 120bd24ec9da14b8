"""The searches of RFC 2544, as pure functions over trials: the rate, or the burst, without loss."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

# The highest loss of a trial that counts as none, as a share: a machine that is shared pauses
# now and then, and the same is granted to everyone.
MAX_LOSS = 1e-4
# A trial that lost no more than this is taken once more: such a loss may have been a pause of
# the machine, and a rate far above what can be carried loses more.
DOUBT = 0.05
# What arrives later than this share of a trial after its end was in a queue, and not through the
# tunnel: RFC 2544, section 23, waits 2 seconds after 60. In a trial of one second a queue of some
# hundred milliseconds would make a rate that the tunnel cannot hold for two.
GRACE = 0.05
# A sender that reached less than this share of what it was asked for is itself the limit.
SHORT = 0.9


@dataclass(frozen=True, slots=True)
class Trial:
    """What one trial sent and what arrived.

    `wanted` is what was asked of it (packets a second, or packets of a burst), `seconds` how long
    the sender took, `span` how long it was from the first arrival to the last; the latencies are
    in milliseconds. What is of arrivals is zero where nothing arrived.
    """

    wanted: float
    sent: int
    arrived: int
    seconds: float
    span: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    longest: float = 0.0
    # Further counts of the sender and the sink, for the raw numbers alone.
    more: dict[str, int] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """The share of the packets that did not arrive; 1 where none was sent."""
        return 1 - self.arrived / self.sent if self.sent else 1.0

    @property
    def passed(self) -> bool:
        """Whether the tunnel carried the rate: hardly a loss, and the last packet in time."""
        return self.loss <= MAX_LOSS and self.span <= self.seconds * (1 + GRACE)

    @property
    def rate(self) -> float:
        """Packets a second that were sent."""
        return self.sent / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where to search: from `floor` to `ceiling`, to `resolution` (0.03 is 3 %), in so many
    trials at the most, those that verify what was found not counted."""

    floor: float
    ceiling: float
    resolution: float
    trials: int


@dataclass(frozen=True, slots=True)
class Start:
    """Where a search begins, and the factor of its first step up or down.

    Each further step in the same direction is the square of the one before, up to MAX_STEP: a
    good guess costs two trials and a halving, a bad one some more, and both end at the same rate.
    """

    wanted: float
    step: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: the trial that verified it (None if nothing was carried), and all.

    `short` says that the sender, and not what was measured, was the limit.
    """

    best: Trial | None
    trials: list[Trial]
    short: bool = False


# The steps of a search that begins where nothing is known.
COLD_STEP = 2.0
MAX_STEP = 4.0
# Down to what came through of a trial that failed, a search goes so many steps at once at the most.
LEAP = 4
# So many rates are verified at the most: the second is this share less than the first, the third
# twice as much less than the second, and so on. Where none of them holds there is no rate.
VERIFICATIONS = 6
BACK = 0.03


def throughput(
    run: Callable[[float], Trial],
    verify: Callable[[float], Trial],
    bounds: Bounds,
    start: Start | None = None,
) -> Found:
    """The highest rate that is carried without loss, as `Trial.passed` has it (RFC 2544, 26.1).

    `run` takes packets a second, and so does `verify`, whose trials are longer: the rate that
    was found is that of a trial of it that passed. That is the rate of its sender, which may have
    been slower than it was asked to be.
    """
    climb = _Climb(run, bounds, _judge_rate, lambda trial: trial.rate)
    best, short = climb.search(start or _middle(bounds))
    if best is not None:
        best = _verified(verify, best.rate, climb.trials, _judge_rate)
    return Found(best, climb.trials, short=short)


def longest_burst(run: Callable[[int], Trial], bounds: Bounds, start: Start | None = None) -> Found:
    """The longest burst of which nothing is lost, twice (RFC 2544, section 26.4)."""

    def whole(wanted: float) -> Trial:
        return run(max(1, round(wanted)))

    climb = _Climb(whole, bounds, _judge_burst, lambda trial: trial.sent)
    best, short = climb.search(start or _middle(bounds))
    if best is not None:
        best = _verified(whole, best.sent, climb.trials, _judge_burst)
    return Found(best, climb.trials, short=short)


def _middle(bounds: Bounds) -> Start:
    return Start(math.sqrt(bounds.floor * bounds.ceiling), COLD_STEP)


class _Verdict(Enum):
    """What a trial says; a doubtful one may say the other thing the next time."""

    FAILED = 0
    PERHAPS_FAILED = 1
    PERHAPS_PASSED = 2
    PASSED = 3


Judge = Callable[[Trial], _Verdict]


def _judge_rate(trial: Trial) -> _Verdict:
    if not trial.passed:
        return _Verdict.FAILED if trial.loss > DOUBT else _Verdict.PERHAPS_FAILED
    # The sender was too slow: it may have been held up.
    return _Verdict.PERHAPS_PASSED if trial.rate < SHORT * trial.wanted else _Verdict.PASSED


def _judge_burst(trial: Trial) -> _Verdict:
    if trial.loss > 0:
        return _Verdict.FAILED if trial.loss > DOUBT else _Verdict.PERHAPS_FAILED
    return _Verdict.PASSED


def _has_passed(trial: Trial, judge: Judge) -> bool:
    return judge(trial) in (_Verdict.PASSED, _Verdict.PERHAPS_PASSED)


class _Climb:
    """Steps up or down until one trial passed and one failed, then halves between them."""

    def __init__(
        self,
        run: Callable[[float], Trial],
        bounds: Bounds,
        judge: Judge,
        worth: Callable[[Trial], float],
    ) -> None:
        self.trials: list[Trial] = []
        self._run = run
        self._bounds = bounds
        self._judge = judge
        # What is searched of a trial: its rate, or the packets of its burst.
        self._worth = worth
        # What passed and what failed so far: the limit is between them.
        self._low: float | None = None
        self._high: float | None = None

    def search(self, start: Start) -> tuple[Trial | None, bool]:
        """The best trial that passed, and whether the sender or the ceiling was the limit."""
        bounds, step = self._bounds, start.step
        wanted = min(max(start.wanted, bounds.floor), bounds.ceiling)
        best: Trial | None = None
        while len(self.trials) < bounds.trials:
            once = functools.partial(self._run, wanted)
            trial = _surely(once, self.trials, bounds.trials, self._judge)
            if _has_passed(trial, self._judge):
                self._low = wanted
                worth, most = self._worth(trial), self._worth(best) if best else 0.0
                if worth > most:
                    best = trial
                if worth < SHORT * wanted and worth <= most * (1 + bounds.resolution):
                    # Asked for more, it sends no more.
                    return best, True
            else:
                # A sender that was far from what it was asked for showed more than it was asked.
                reached = min(wanted, 1.5 * self._worth(trial))
                self._high = max(self._low or bounds.floor, reached)
            following = self._next(trial, step)
            if following is None:
                break
            wanted, step = following, min(step * step, MAX_STEP)
        return best, best is not None and self._high is None

    def _next(self, last: Trial, step: float) -> float | None:
        """What to try next; None where there is nothing left between the bounds."""
        low, high, bounds = self._low, self._high, self._bounds
        if low is not None and high is not None:
            return math.sqrt(low * high) if high / low > 1 + bounds.resolution else None
        if high is None:
            assert low is not None
            return min(low * step, bounds.ceiling) if low < bounds.ceiling else None
        if high <= bounds.floor:
            return None
        # What came through of too much is a guess as well; never far below, for a tunnel that is
        # given too much may carry less than it can, and the machine may have paused.
        through = last.wanted * (1 - last.loss)
        return max(bounds.floor, min(high / step, max(through, high / step**LEAP)))


def _verified(
    verify: Callable[[float], Trial], wanted: float, trials: list[Trial], judge: Judge
) -> Trial | None:
    """A further trial of what was found; what does not hold twice is taken back a little."""
    back = BACK
    for _ in range(VERIFICATIONS):
        trial = _surely(functools.partial(verify, wanted), trials, len(trials) + 2, judge)
        if _has_passed(trial, judge):
            return trial
        wanted, back = wanted * (1 - back), back * 2
    return None


def _surely(run: Callable[[], Trial], trials: list[Trial], most: int, judge: Judge) -> Trial:
    """A trial; where it leaves a doubt a second one, and then the better of both."""
    first = run()
    trials.append(first)
    if judge(first) in (_Verdict.FAILED, _Verdict.PASSED) or len(trials) >= most:
        return first
    second = run()
    trials.append(second)
    return max(first, second, key=lambda trial: (judge(trial).value, trial.rate))
