"""What a measure is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.contenders import Contender
from bench.plan import Rank
from bench.session import Session


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a sample: its title, its unit, and which way is good."""

    title: str
    unit: str
    higher_is_better: bool = False
    # What wgpy promises of it, in the unit, where it promises an absolute number.
    limit: float | None = None
    # Whether a ratio of it says something.
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """A number for each figure that could be taken, and what they were made of, which is kept
    with the raw numbers (all that JSON can hold)."""

    figures: dict[str, float]
    trials: list[dict[str, Any]] = field(default_factory=list)


def nothing_missing() -> str | None:
    """A measure that needs no more than a contender does."""
    return None


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure: `take` gives one sample.

    --only selects it by its name, by the start of its name, or by its group. Measures of one
    `section` share a table; those with an `x` (a size, a number of flows) share a curve.
    """

    name: str
    what: str
    figures: Mapping[str, Figure]
    take: Callable[[Contender, Session], dict[str, float] | Sample]
    group: str = ""
    # Whether it says something only of wgpy itself.
    ours_only: bool = False
    # Whether it can be taken without any tunnel, as the limit of all of them.
    bare: bool = False
    section: str = ""
    x: float | None = None
    # Whether it is left out unless it is asked for: it takes long.
    extra: bool = False
    # Of whom it is taken in every round, however short the time is.
    rank: Rank = Rank.EVERYONE
    # What a sample of one contender takes, in seconds, as far as is known before it was taken.
    seconds: float = 1.0
    # Why it cannot be taken on this machine, or None.
    missing: Callable[[], str | None] = nothing_missing

    def answers_to(self, word: str) -> bool:
        """Whether a word of --only means this measure."""
        return word in ("all", self.name, self.group) or self.name.startswith(f"{word}-")
