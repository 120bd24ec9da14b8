"""Take samples of all contenders in turns, in rounds over all measures, within a time.

A round takes one sample of each contender in each measure; every other round asks them in the
opposite order: A B C, C B A, A B C. So a run that is ended early has as many pairs of every
measure, what drifts hits all alike, and nobody is always the first. What is not of every round
(plan.py) is taken as often as the time allows, and evenly.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from bench import machine, plan
from bench.contenders import Contender
from bench.measures.measure import Measure, Sample
from bench.results import MeasureResult, Results, ResultsError
from bench.session import Session

# A contender that fails twice in a measure is out of it: the others need the time.
MAX_FAILURES = 2
# What is planned of the time that is left: a sample now and then takes longer than the last one.
PLANNED = 0.97

Say = Callable[[str], None]
Keep = Callable[[Results], None]


def _drop(results: Results) -> None:
    """Keep nothing before the end."""
    del results


class _Rounds:
    """What the rounds share: who is measured, how far they are, what it took, and whom to tell."""

    def __init__(self, measures: Sequence[Measure], contenders: Sequence[Contender], say: Say):
        self.say = say
        self.session = Session()
        self.measures = {measure.name: measure for measure in measures}
        self.groups = [
            group
            for measure in measures
            for group in plan.groups(
                measure.name,
                measure.rank,
                [each for each in contenders if _is_for(measure, each)],
                contenders,
            )
        ]
        self.contenders = contenders
        self.taken: dict[plan.Group, int] = {}
        self.failed: dict[tuple[str, str], int] = {}
        # Seconds and samples of each contender in each measure.
        self.spent: dict[tuple[str, str], tuple[float, int]] = {}

    def choose(self, seconds: float) -> list[plan.Group]:
        """What the next round takes, if it is to last so long."""
        return plan.choose(self.groups, self.cost, self.taken, seconds)

    def cost(self, measure: str, contender: str) -> float:
        """The seconds of a sample: what it took so far, or what is known beforehand."""
        if self._is_out(measure, contender):
            return 0.0
        spent, count = self.spent.get((measure, contender), (0.0, 0))
        return spent / count if count else self.measures[measure].seconds

    def cost_of(self, groups: Sequence[plan.Group]) -> float:
        """The seconds of all samples of these groups."""
        return sum(self.cost(group.measure, each) for group in groups for each in group.contenders)

    def take(
        self,
        measure: Measure,
        chosen: Sequence[plan.Group],
        number: int,
        pairs: int,
        result: MeasureResult,
    ) -> None:
        """One sample of each contender of the chosen groups of this measure."""
        mine = [group for group in chosen if group.measure == measure.name]
        if not mine:
            return
        these = [
            each
            for each in self.contenders
            if any(each.name in group.contenders for group in mine)
            and not self._is_out(measure.name, each.name)
        ]
        for contender in these if number % 2 == 0 else reversed(these):
            self._take_one(measure, contender, f"{number + 1}/{pairs}", result)
        for group in self.groups:
            if group.measure != measure.name:
                continue
            if group in mine:
                self.taken[group] = self.taken.get(group, 0) + 1
                continue
            # What comes later of them still stands beside the others' samples of its own round.
            for name in group.contenders:
                result.samples.setdefault(name, []).append({})

    def _is_out(self, measure: str, contender: str) -> bool:
        return self.failed.get((measure, contender), 0) >= MAX_FAILURES

    def _take_one(
        self, measure: Measure, contender: Contender, place: str, result: MeasureResult
    ) -> None:
        name, started = contender.name, time.monotonic()
        try:
            taken = measure.take(contender, self.session)
        # Whatever goes wrong with one of them must not lose the samples of the others.
        except Exception as error:
            self.failed[measure.name, name] = self.failed.get((measure.name, name), 0) + 1
            reason = " ".join(str(error).split()) or type(error).__name__
            result.failures[name] = reason
            # What comes later still stands beside the others' samples of its own round.
            result.samples.setdefault(name, []).append({})
            self.say(f"{measure.name} {place} {name}: FAILED: {reason}")
            return
        lasted = time.monotonic() - started
        spent, count = self.spent.get((measure.name, name), (0.0, 0))
        self.spent[measure.name, name] = (spent + lasted, count + 1)
        sample = taken if isinstance(taken, Sample) else Sample(taken)
        result.samples.setdefault(name, []).append(sample.figures)
        if sample.trials:
            result.trials.setdefault(name, []).append(sample.trials)
        told = ", ".join(f"{figure} {value:.4g}" for figure, value in sample.figures.items())
        self.say(f"{measure.name} {place} {name}: {told} [{lasted:.1f} s]")


def _is_for(measure: Measure, contender: Contender) -> bool:
    if contender.is_bare:
        return measure.bare
    return contender.is_ours or not measure.ours_only


def run(
    measures: Sequence[Measure],
    contenders: Sequence[Contender],
    pairs: int,
    seconds: float,
    say: Say,
    keep: Keep = _drop,
    former: Results | None = None,
) -> Results:
    """Measure, the first contender being ours. Stops between pairs once `seconds` are over.

    `keep` is given the results as far as they are, after each pair. An interrupt (Ctrl-C) ends
    the run: the results say so. With `former`, a run of the same measures and contenders that ended
    early, its rounds count, and those that are missing follow. Raises ResultsError if it is of
    others.
    """
    results = Results(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.describe(),
        ours=contenders[0].name,
        contenders={contender.name: contender.version() for contender in contenders},
        pairs=pairs,
        bare=next((each.name for each in contenders if each.is_bare), None),
    )
    ready = _prepare(measures, results)
    rounds = _Rounds(ready, contenders, say)
    first = 0 if former is None else _go_on(former, results, rounds)
    end = time.monotonic() + seconds
    always = [group for group in rounds.groups if group.always]
    say(
        f"what is of every round takes about {rounds.cost_of(always) / 60:.1f} minutes of it, all "
        f"that there is {rounds.cost_of(rounds.groups) / 60:.1f}; {pairs} rounds, "
        f"{seconds / 60:g} minutes"
    )
    try:
        with rounds.session:
            for number in range(first, pairs):
                left = (end - time.monotonic()) * PLANNED
                chosen = rounds.choose(left / (pairs - number))
                for measure in ready:
                    if time.monotonic() > end:
                        break
                    rounds.take(measure, chosen, number, pairs, results.measures[measure.name])
                    keep(results)
                rounds.session.end_round()
    except KeyboardInterrupt:
        results.interrupted = True
    _tell_what_is_lacking(rounds, pairs, seconds, results)
    keep(results)
    return results


def _go_on(former: Results, results: Results, rounds: _Rounds) -> int:
    """Take over what an earlier part of the run has; how many rounds that are."""
    same = (former.ours, former.contenders) == (results.ours, results.contenders)
    if not same or former.measures.keys() != results.measures.keys():
        raise ResultsError("the run to go on with is of other contenders or measures")
    parts = former.resumed or [former.started]
    results.resumed = [*parts, results.started]
    results.started = former.started
    lengths = [len(s) for m in former.measures.values() for s in m.samples.values()]
    first = max(lengths, default=0)
    for name, result in results.measures.items():
        result.samples = former.measures[name].samples
        result.trials = former.measures[name].trials
        # What the last round had no time for is lacking in it.
        for samples in result.samples.values():
            samples += [{} for _ in range(first - len(samples))]
    for group in rounds.groups:
        taken = results.measures[group.measure].samples.get(group.contenders[0], [])
        rounds.taken[group] = sum(bool(sample) for sample in taken)
    return first


def _prepare(measures: Sequence[Measure], results: Results) -> list[Measure]:
    """The measures that can be taken here; why the others cannot goes to the notes."""
    lacking: dict[str, list[str]] = {}
    ready = []
    for measure in measures:
        reason = measure.missing()
        if reason is not None:
            lacking.setdefault(reason, []).append(measure.name)
            continue
        ready.append(measure)
        results.measures[measure.name] = MeasureResult(
            what=measure.what,
            figures={name: asdict(figure) for name, figure in measure.figures.items()},
            section=measure.section,
            x=measure.x,
        )
    results.notes += [f"{', '.join(names)}: {reason}" for reason, names in lacking.items()]
    return ready


def _tell_what_is_lacking(rounds: _Rounds, pairs: int, seconds: float, results: Results) -> None:
    """A note for each number of pairs that is too small, with the measures that have no more."""
    reason = (
        "the run was interrupted"
        if results.interrupted
        else f"the time of {seconds / 60:g} minutes was over"
    )
    fewer: dict[tuple[int, str], list[str]] = {}
    for group in rounds.groups:
        if (count := rounds.taken.get(group, 0)) < pairs:
            whole = not any(
                other.measure == group.measure and other is not group for other in rounds.groups
            )
            whom = "" if whole else f" of {', '.join(group.contenders)}"
            fewer.setdefault((count, whom), []).append(group.measure)
    results.notes += [
        f"{', '.join(names)}: {count} of {pairs} pairs{whom}, {reason}"
        for (count, whom), names in fewer.items()
    ]
