"""What a round measures: what always belongs to it, and of the rest what the time allows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from bench.contenders import Contender


class Rank(Enum):
    """Of whom a measure is taken in every round; of the others when there is time for it.

    The bare link is never among those of every round: a limit needs fewer samples than a ratio.
    """

    EVERYONE = "everyone"
    # Ours, and whoever is named first among the others.
    FIRST_TWO = "first two"
    SPARE = "nobody"


@dataclass(frozen=True, slots=True)
class Group:
    """Contenders, by their names, whose samples of a measure are taken together, or not at all, in
    a round."""

    measure: str
    contenders: tuple[str, ...]
    always: bool


def groups(
    measure: str, rank: Rank, contenders: Sequence[Contender], all_of_them: Sequence[Contender]
) -> list[Group]:
    """The groups of the contenders that a measure is for; the first two are those of the run."""
    first = all_of_them[:2]

    def is_always(contender: Contender) -> bool:
        if rank is Rank.SPARE or contender.is_bare:
            return False
        return rank is Rank.EVERYONE or contender in first

    always = tuple(each.name for each in contenders if is_always(each))
    spare = tuple(each.name for each in contenders if not is_always(each))
    made = [Group(measure, always, True), Group(measure, spare, False)]
    return [group for group in made if group.contenders]


def choose(
    candidates: Sequence[Group],
    cost: Callable[[str, str], float],
    taken: Mapping[Group, int],
    seconds: float,
) -> list[Group]:
    """The groups of a round of so many seconds: all that always are, and then those that were
    taken least often so far, as long as the time is not spent."""
    always = [group for group in candidates if group.always]
    left = seconds - sum(_cost_of(group, cost) for group in always)
    chosen = set(always)
    spare = [group for group in candidates if not group.always]
    for group in sorted(spare, key=lambda each: taken.get(each, 0)):
        price = _cost_of(group, cost)
        if price <= left:
            left -= price
            chosen.add(group)
    return [group for group in candidates if group in chosen]


def _cost_of(group: Group, cost: Callable[[str, str], float]) -> float:
    return sum(cost(group.measure, contender) for contender in group.contenders)
