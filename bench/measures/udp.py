"""UDP after RFC 2544, section 26: throughput without loss, latency at that rate, frame loss
rate, and back-to-back bursts; by a sender that gives packets one by one, and by one that gives
the kernel many as one (UDP_SEGMENT)."""

import dataclasses
import functools
from typing import Any

from bench import search, trial
from bench.contenders import Contender
from bench.lab import MTU
from bench.measures.measure import Figure, Measure, Sample
from bench.plan import Rank
from bench.search import Bounds, Trial
from bench.session import Session

# Bytes of the IP packets inside: those of RFC 2544, section 9.1, up to what fits without fragments.
SIZES = (64, 128, 256, 512, 1024, 1280, MTU)
# What is measured unless more is asked for: the smallest, the middle, the largest.
USUAL = (64, 512, MTU)
SENDERS = ("plain", "segment")

# One trial of a search, and the one that verifies what it found. RFC 2544 wants 60 seconds of
# each: that would make a week of a run.
SECONDS = 0.5
LONG_SECONDS = 1.0
# Packets a second; no sender here gets to the ceiling. 3 % steps between them take 9 trials, and
# 18 leave room for those that are taken twice.
RATES = {
    "plain": Bounds(floor=500, ceiling=1_000_000, resolution=0.03, trials=18),
    "segment": Bounds(floor=500, ceiling=3_000_000, resolution=0.03, trials=18),
}
# The maximum of the loss curve, in packets a second, and its steps.
FULL = {"plain": 250_000, "segment": 1_000_000}
STEPS = tuple(range(100, 0, -10))
STEP_SECONDS = 0.25
# Packets in a burst: the ceiling is what the sink's buffer surely holds.
BURSTS = Bounds(floor=16, ceiling=65_536, resolution=0.05, trials=18)


def take_throughput(contender: Contender, session: Session, size: int, sender: str) -> Sample:
    """The search, and the latency in the trial that verified the rate that it found."""
    segment, what = sender == "segment", f"udp-{sender}"

    with session.road(contender) as road:

        def run(seconds: float, rate: float) -> Trial:
            return trial.paced(road, rate, size, seconds, segment=segment)

        found = search.throughput(
            functools.partial(run, SECONDS),
            functools.partial(run, LONG_SECONDS),
            RATES[sender],
            session.start(contender, what, size),
        )
    best = found.best
    if best is None:
        return Sample({"rate": 0.0, "goodput": 0.0}, _raw(found.trials))
    session.remember(contender, what, size, best.rate)
    figures = {
        "rate": best.rate / 1e3,
        "goodput": best.rate * size * 8 / 1e9,
        "p50": best.p50,
        "p99": best.p99,
        "longest": best.longest,
        "short": float(found.short),
    }
    return Sample(figures, _raw(found.trials))


def take_loss(contender: Contender, session: Session, size: int, sender: str) -> Sample:
    """The loss at each step from the maximum down; none where the sender was too slow for it.

    Two steps in a row without any loss end it (RFC 2544, section 26.3).
    """
    segment = sender == "segment"
    figures, trials = {}, list[Trial]()
    with session.road(contender) as road:
        for step in STEPS:
            if len(trials) > 1 and not any(each.loss for each in trials[-2:]):
                break
            rate = FULL[sender] * step / 100
            done = trial.paced(road, rate, size, STEP_SECONDS, segment=segment)
            trials.append(done)
            if done.rate >= search.SHORT * rate:
                figures[f"at-{step}"] = done.loss * 100
    return Sample(figures, _raw(trials))


def take_burst(contender: Contender, session: Session, size: int, sender: str) -> Sample:
    """The longest burst of which nothing is lost."""
    segment, what = sender == "segment", f"burst-{sender}"
    with session.road(contender) as road:
        found = search.longest_burst(
            lambda count: trial.burst(road, count, size, segment=segment),
            BURSTS,
            session.start(contender, what, size),
        )
    longest = float(found.best.sent) if found.best else 0.0
    session.remember(contender, what, size, longest)
    return Sample({"burst": longest, "short": float(found.short)}, _raw(found.trials))


def _raw(trials: list[Trial]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(each) for each in trials]


def _how(sender: str) -> str:
    if sender == "plain":
        return "a sender that gives packets one by one (sendmmsg)"
    return "a sender that gives the kernel up to 64 packets as one (UDP_SEGMENT)"


def _throughput(size: int, sender: str) -> Measure:
    title = f"{size} bytes"
    return Measure(
        name=f"udp-{sender}-{size}",
        what=f"highest rate of IP packets of {size} bytes at which at most "
        f"{search.MAX_LOSS:.2%} is lost or later than {search.GRACE:.0%} of the trial, by binary "
        f"search to 3 % in trials of {SECONDS:g} s, with {_how(sender)}, and verified by one of "
        f"{LONG_SECONDS:g} s, whose one-way latency it is",
        figures={
            "rate": Figure(f"throughput, {title}", "1000/s", higher_is_better=True),
            "goodput": Figure(f"in bits, {title}", "Gbit/s", higher_is_better=True),
            "p50": Figure(f"latency p50, {title}", "ms"),
            "p99": Figure(f"latency p99, {title}", "ms"),
            "longest": Figure(f"latency max, {title}", "ms"),
            "short": Figure(f"the sender was the limit, {title}", "1 = yes", compared=False),
        },
        take=functools.partial(take_throughput, size=size, sender=sender),
        group="udp",
        bare=True,
        section=f"UDP without loss, {sender} sender",
        x=size,
        extra=size not in USUAL,
        rank=Rank.EVERYONE if size in USUAL else Rank.FIRST_TWO,
        seconds=5.0,
        missing=trial.missing,
    )


def _loss(size: int, sender: str) -> Measure:
    return Measure(
        name=f"loss-{sender}-{size}",
        what=f"loss of IP packets of {size} bytes at steps down from {FULL[sender]:,} a second, "
        f"{STEP_SECONDS:g} s each, with {_how(sender)}, until two of them lost nothing; a step "
        "that the sender did not reach is left out",
        figures={f"at-{step}": Figure(f"loss at {step} %, {size} bytes", "%") for step in STEPS},
        take=functools.partial(take_loss, size=size, sender=sender),
        group="loss",
        bare=True,
        section=f"UDP loss in %, {sender} sender, by steps down from {FULL[sender]:,} a second",
        x=size,
        extra=True,
        rank=Rank.SPARE,
        seconds=3.0,
        missing=trial.missing,
    )


def _burst(size: int, sender: str) -> Measure:
    return Measure(
        name=f"burst-{sender}-{size}",
        what=f"longest burst of IP packets of {size} bytes of which none is lost, up to "
        f"{BURSTS.ceiling:,.0f}, by binary search to 5 %, with {_how(sender)}",
        figures={
            "burst": Figure(f"back-to-back, {size} bytes", "packets", higher_is_better=True),
            "short": Figure(f"more than was tried, {size} bytes", "1 = yes", compared=False),
        },
        take=functools.partial(take_burst, size=size, sender=sender),
        group="burst",
        bare=True,
        section=f"UDP back-to-back, {sender} sender",
        x=size,
        extra=True,
        rank=Rank.SPARE,
        seconds=3.0,
        missing=trial.missing,
    )


MEASURES = tuple(
    make(size, sender)
    for make in (_throughput, _loss, _burst)
    for sender in SENDERS
    for size in SIZES
)
