"""What wgpy wants to reach against the latest wireguard-go, and whether a run shows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.contenders import LATEST
from bench.measures.tcp import FLOWS
from bench.measures.udp import SIZES
from bench.results import Results
from bench.stats import Spread, ratio, spread


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of ours over that of `against`, or alone where that is None.

    `least` is the goal, `aim` what is hoped for; where lower is better both are upper bounds.
    """

    title: str
    measure: str
    figure: str
    goal: float
    aim: float | None = None
    higher_is_better: bool = True
    against: str | None = LATEST.name

    def reaches(self, value: float, bound: float) -> bool:
        """Whether a value is on the good side of a bound."""
        return value >= bound if self.higher_is_better else value <= bound


def _flows(count: int) -> str:
    return "1 flow" if count == 1 else f"{count} flows"


TARGETS = (
    *(Target(f"TCP, {_flows(n)}", f"tcp-{n}", "throughput", 1.7, 2.0) for n in FLOWS),
    *(
        Target(f"UDP without loss, plain sender, {size} bytes", f"udp-plain-{size}", "rate", 2.5, 4)
        for size in SIZES
    ),
    *(
        Target(
            f"UDP without loss, sender with UDP_SEGMENT, {size} bytes",
            f"udp-segment-{size}",
            "rate",
            1.8,
            2.3,
        )
        for size in SIZES
    ),
    *(
        Target(f"CPU seconds per GB, {_flows(n)} of TCP", f"tcp-{n}", "cpu", 0.6, 0.45, False)
        for n in FLOWS
    ),
    Target("idle round trip, p50", "rtt", "p50", 0.7, higher_is_better=False),
    Target("idle round trip, p99", "rtt", "p99", 0.7, higher_is_better=False),
    Target("throughput with 10,000 peers over ours with one", "crowd", "share", 0.95, against=None),
    Target("resident memory, one peer, idle", "peers-1", "rss", 0.5, higher_is_better=False),
    Target("resident memory, one peer, after TCP", "tcp-1", "rss", 0.5, higher_is_better=False),
)


def found(results: Results, target: Target) -> Spread | None:
    """What the run shows of a target; None where a side was not measured."""
    measure = results.measures.get(target.measure)
    if measure is None:
        return None
    ours = measure.values(results.ours, target.figure)
    if target.against is None:
        return spread(ours) if ours else None
    ours, theirs = measure.pairs(results.ours, target.against, target.figure)
    # A rate of zero is one that was not found: there is nothing to divide by.
    return ratio(ours, theirs) if any(theirs) else None


def verdict(target: Target, value: float) -> str:
    """Whether the goal is reached, and the aim, and by what share of the goal it is missed."""
    beyond = abs(value / target.goal - 1)
    if not target.reaches(value, target.goal):
        return f"NOT reached, {beyond:.0%} too {'little' if target.higher_is_better else 'much'}"
    if target.aim is not None and target.reaches(value, target.aim):
        return f"reached by {beyond:.0%}, and the aim"
    return f"reached by {beyond:.0%}"


def rows(results: Results) -> Sequence[tuple[Target, Spread | None]]:
    """Every target with what the run shows of it."""
    return [(target, found(results, target)) for target in TARGETS]
