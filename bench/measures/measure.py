"""What a measure is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.contenders import Contender


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a sample: its title, its unit, and which way is good."""

    title: str
    unit: str
    higher_is_better: bool = False
    # What wgpy promises of it, in the unit, where it promises an absolute number.
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure: `take` gives one sample, a number for each figure that it could take.

    `group` is a second name by which --only selects it, with others.
    """

    name: str
    what: str
    figures: Mapping[str, Figure]
    take: Callable[[Contender], dict[str, float]]
    group: str = ""
    # Whether it says something only of wgpy itself.
    ours_only: bool = False
