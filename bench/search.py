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
DOUBT = 0.1
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
    trials at the most."""

    floor: float
    ceiling: float
    resolution: float
    trials: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: the best trial that passed (None if none did), and all of them.

    `short` says that the sender, and not what was measured, was the limit.
    """

    best: Trial | None
    trials: list[Trial]
    short: bool = False


def throughput(run: Callable[[float], Trial], bounds: Bounds) -> Found:
    """The highest rate that is carried without loss, as `Trial.passed` has it (RFC 2544, 26.1).

    `run` takes packets a second. The rate that was found is that of the best trial's sender,
    which may have been slower than it was asked to be.
    """
    trials: list[Trial] = []
    best: Trial | None = None
    low, high = bounds.floor, bounds.ceiling
    while high / low > 1 + bounds.resolution and len(trials) < bounds.trials:
        wanted = math.sqrt(low * high)
        trial = _surely(functools.partial(run, wanted), trials, bounds.trials, _judge_rate)
        if not trial.passed:
            # A sender that was far from what it was asked for showed more than it was asked.
            high = max(low, min(wanted, 1.5 * trial.rate))
            continue
        low = wanted
        improved = best is None or trial.rate > best.rate * (1 + bounds.resolution)
        if best is None or trial.rate > best.rate:
            best = trial
        if trial.rate < SHORT * wanted and not improved:
            # Asked for more, it sends no more.
            return Found(best, trials, short=True)
    return Found(best, trials, short=_at_ceiling(best, bounds))


def longest_burst(run: Callable[[int], Trial], bounds: Bounds) -> Found:
    """The longest burst of which nothing is lost (RFC 2544, section 26.4)."""
    trials: list[Trial] = []
    best: Trial | None = None
    low, high = bounds.floor, bounds.ceiling
    while high / low > 1 + bounds.resolution and len(trials) < bounds.trials:
        wanted = math.sqrt(low * high)
        trial = _surely(functools.partial(run, round(wanted)), trials, bounds.trials, _judge_burst)
        if trial.loss > 0:
            high = wanted
        else:
            low, best = wanted, trial
    return Found(best, trials, short=_at_ceiling(best, bounds))


def _at_ceiling(best: Trial | None, bounds: Bounds) -> bool:
    """Whether nothing failed on the way up: the limit is above what was tried."""
    return best is not None and best.wanted * (1 + bounds.resolution) ** 2 >= bounds.ceiling


class _Verdict(Enum):
    """What a trial says; a doubtful one may say the other thing the next time."""

    FAILED = 0
    PERHAPS_FAILED = 1
    PERHAPS_PASSED = 2
    PASSED = 3


def _judge_rate(trial: Trial) -> _Verdict:
    if not trial.passed:
        return _Verdict.FAILED if trial.loss > DOUBT else _Verdict.PERHAPS_FAILED
    # The sender was too slow: it may have been held up.
    return _Verdict.PERHAPS_PASSED if trial.rate < SHORT * trial.wanted else _Verdict.PASSED


def _judge_burst(trial: Trial) -> _Verdict:
    if trial.loss > 0:
        return _Verdict.FAILED if trial.loss > DOUBT else _Verdict.PERHAPS_FAILED
    return _Verdict.PASSED


def _surely(
    run: Callable[[], Trial], trials: list[Trial], most: int, judge: Callable[[Trial], _Verdict]
) -> Trial:
    """A trial; where it leaves a doubt a second one, and then the better of both."""
    first = run()
    trials.append(first)
    if judge(first) in (_Verdict.FAILED, _Verdict.PASSED) or len(trials) >= most:
        return first
    second = run()
    trials.append(second)
    return max(first, second, key=lambda trial: (judge(trial).value, trial.rate))
