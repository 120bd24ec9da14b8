"""Medians, spreads and ratios of paired samples."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median and the quartiles: half of the samples lie between `low` and `high`."""

    median: float
    low: float
    high: float

    @property
    def iqr(self) -> float:
        """The interquartile range."""
        return self.high - self.low


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value. Raises ValueError for none."""
    if not values:
        raise ValueError("no samples")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    # `inclusive`: the samples are all there is, and quartiles lie among them.
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The spread of ours/theirs, pair by pair; the longer one's rest has no partner.

    Raises ValueError where there is no pair with a number to divide by.
    """
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if b != 0]
    return spread([a / b for a, b in pairs])


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed: the nearest rank."""
    if not values:
        raise ValueError("no samples")
    ordered = sorted(values)
    rank = max(1, min(len(ordered), -int(-share * len(ordered) // 1)))
    return ordered[rank - 1]
