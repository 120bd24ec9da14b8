"""Take samples of all contenders in turns: A B A B..., measure by measure, within a time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from bench import machine
from bench.contenders import Contender
from bench.measures.measure import Measure
from bench.results import MeasureResult, Results

# A contender that fails twice in a measure is out of it: the others need the time.
MAX_FAILURES = 2

Say = Callable[[str], None]


def run(
    measures: Sequence[Measure],
    contenders: Sequence[Contender],
    pairs: int,
    seconds: float,
    say: Say,
) -> Results:
    """Measure, the first contender being ours. Stops between pairs once `seconds` are over."""
    results = Results(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.describe(),
        ours=contenders[0].name,
        contenders={contender.name: contender.version() for contender in contenders},
        pairs=pairs,
    )
    deadline = time.monotonic() + seconds
    for measure in measures:
        figures = {name: asdict(figure) for name, figure in measure.figures.items()}
        result = MeasureResult(measure.what, figures)
        results.measures[measure.name] = result
        these = [each for each in contenders if each.is_ours or not measure.ours_only]
        taken = _take_pairs(measure, these, pairs, deadline, result, say)
        if taken < pairs:
            results.notes.append(
                f"{measure.name}: {taken} of {pairs} pairs, the time of {seconds / 60:g} minutes "
                "was over"
            )
    return results


def _take_pairs(
    measure: Measure,
    contenders: Sequence[Contender],
    pairs: int,
    deadline: float,
    result: MeasureResult,
    say: Say,
) -> int:
    failed = {contender.name: 0 for contender in contenders}
    for number in range(pairs):
        if time.monotonic() > deadline:
            return number
        for contender in contenders:
            if failed[contender.name] >= MAX_FAILURES:
                continue
            try:
                sample = measure.take(contender)
            # Whatever goes wrong with one of them must not lose the samples of the others.
            except Exception as error:
                failed[contender.name] += 1
                reason = " ".join(str(error).split()) or type(error).__name__
                result.failures[contender.name] = reason
                say(f"{measure.name} {number + 1}/{pairs} {contender.name}: FAILED: {reason}")
                continue
            result.samples.setdefault(contender.name, []).append(sample)
            told = ", ".join(f"{name} {value:.4g}" for name, value in sample.items())
            say(f"{measure.name} {number + 1}/{pairs} {contender.name}: {told}")
    return pairs
