"""Take samples of all contenders in turns, in rounds over all measures, within a time.

A round takes one sample of each contender in each measure; every other round asks them in the
opposite order: A B C, C B A, A B C. So a run that is ended early has as many pairs of every
measure, what drifts hits all alike, and nobody is always the first.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from bench import machine
from bench.contenders import Contender
from bench.measures.measure import Measure, Sample
from bench.results import MeasureResult, Results

# A contender that fails twice in a measure is out of it: the others need the time.
MAX_FAILURES = 2

Say = Callable[[str], None]
Keep = Callable[[Results], None]


def _drop(results: Results) -> None:
    """Keep nothing before the end."""
    del results


class _Round:
    """What the rounds share: who is measured, how far they are, and whom to tell."""

    def __init__(self, contenders: Sequence[Contender], say: Say) -> None:
        self.contenders = contenders
        self.say = say
        self.taken: dict[str, int] = {}
        self.failed: dict[tuple[str, str], int] = {}

    def take(self, measure: Measure, number: int, pairs: int, result: MeasureResult) -> None:
        """One sample of each contender that the measure is for."""
        these = [each for each in self.contenders if _is_for(measure, each)]
        for contender in these if number % 2 == 0 else reversed(these):
            if self.failed.get((measure.name, contender.name), 0) < MAX_FAILURES:
                self._take_one(measure, contender, f"{number + 1}/{pairs}", result)
        self.taken[measure.name] = number + 1

    def _take_one(
        self, measure: Measure, contender: Contender, place: str, result: MeasureResult
    ) -> None:
        name = contender.name
        try:
            taken = measure.take(contender)
        # Whatever goes wrong with one of them must not lose the samples of the others.
        except Exception as error:
            self.failed[measure.name, name] = self.failed.get((measure.name, name), 0) + 1
            reason = " ".join(str(error).split()) or type(error).__name__
            result.failures[name] = reason
            # What comes later still stands beside the others' samples of its own round.
            result.samples.setdefault(name, []).append({})
            self.say(f"{measure.name} {place} {name}: FAILED: {reason}")
            return
        sample = taken if isinstance(taken, Sample) else Sample(taken)
        result.samples.setdefault(name, []).append(sample.figures)
        if sample.trials:
            result.trials.setdefault(name, []).append(sample.trials)
        told = ", ".join(f"{figure} {value:.4g}" for figure, value in sample.figures.items())
        self.say(f"{measure.name} {place} {name}: {told}")


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
) -> Results:
    """Measure, the first contender being ours. Stops between pairs once `seconds` are over.

    `keep` is given the results as far as they are, after each pair. An interrupt (Ctrl-C) ends
    the run: the results say so.
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
    rounds = _Round(contenders, say)
    started = time.monotonic()
    try:
        for number in range(pairs):
            for measure in ready:
                if time.monotonic() - started > seconds:
                    break
                rounds.take(measure, number, pairs, results.measures[measure.name])
                keep(results)
            if number == 0:
                minutes = (time.monotonic() - started) / 60
                say(f"a round took {minutes:.1f} minutes; {pairs} take {pairs * minutes:.0f}")
    except KeyboardInterrupt:
        results.interrupted = True
    _tell_what_is_lacking(ready, rounds.taken, pairs, seconds, results)
    keep(results)
    return results


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


def _tell_what_is_lacking(
    measures: Sequence[Measure],
    taken: dict[str, int],
    pairs: int,
    seconds: float,
    results: Results,
) -> None:
    reason = (
        "the run was interrupted"
        if results.interrupted
        else f"the time of {seconds / 60:g} minutes was over"
    )
    fewer: dict[int, list[str]] = {}
    for measure in measures:
        if (count := taken.get(measure.name, 0)) < pairs:
            fewer.setdefault(count, []).append(measure.name)
    results.notes += [
        f"{', '.join(names)}: {count} of {pairs} pairs, {reason}" for count, names in fewer.items()
    ]
