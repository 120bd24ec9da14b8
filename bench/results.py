"""The raw numbers of a run: what is kept as JSON, and read again for tables and plots."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "results"
FORMAT = 2


class ResultsError(Exception):
    """A file that holds no results: one line."""


@dataclass(slots=True)
class MeasureResult:
    """All samples of one measure: `samples[contender]` is a list with one dict of figures each,
    `trials[contender]` a list with what each of these was made of.

    `failures[contender]` says why samples of it are lacking: an empty one stands
    in their place. `section` and `x` are the measure's.
    """

    what: str
    figures: dict[str, dict[str, Any]]
    section: str = ""
    x: float | None = None
    samples: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    trials: dict[str, list[list[dict[str, Any]]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def values(self, contender: str, figure: str) -> list[float]:
        """Every sample of one figure of one contender, in the order in which they were taken."""
        return [sample[figure] for sample in self.samples.get(contender, []) if figure in sample]

    def pairs(self, ours: str, theirs: str, figure: str) -> tuple[list[float], list[float]]:
        """The samples of one figure that two contenders have from the same round."""
        rounds = zip(self.samples.get(ours, []), self.samples.get(theirs, []), strict=False)
        both = [(a[figure], b[figure]) for a, b in rounds if figure in a and figure in b]
        return [a for a, _ in both], [b for _, b in both]


@dataclass(slots=True)
class Results:
    """A run. `contenders` maps each name to its version; `ours` is the first of them, and `bare`
    the one that is no tunnel, if it was measured."""

    started: str
    machine: dict[str, Any]
    ours: str
    contenders: dict[str, str]
    pairs: int
    bare: str | None = None
    # Whether it was ended before its time; what was taken is kept.
    interrupted: bool = False
    # When each part began, of a run that was gone on with.
    resumed: list[str] = field(default_factory=list)
    measures: dict[str, MeasureResult] = field(default_factory=dict)
    # What was left out, and why.
    notes: list[str] = field(default_factory=list)

    def others(self) -> list[str]:
        """Whom ours is compared with, the bare link included."""
        return [name for name in self.contenders if name != self.ours]

    def median(self, measure: str, contender: str | None, figure: str) -> float | None:
        """The median of a figure; None where there is no sample of it."""
        found = self.measures.get(measure)
        values = found.values(contender, figure) if found and contender else []
        return statistics.median(values) if values else None


def save(results: Results, path: Path) -> None:
    """Write a run, in the place of an earlier part of it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # What is there is whole at every moment: the run may be ended while this writes.
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps({"format": FORMAT, **asdict(results)}) + "\n")
    part.replace(path)


def load(path: Path) -> Results:
    """Read a run. Raises ResultsError, OSError."""
    try:
        raw = json.loads(path.read_text())
        return _read(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}: no results of `python -m bench` ({error!r})") from None


def _read(raw: Mapping[str, Any]) -> Results:
    if raw["format"] != FORMAT:
        raise ValueError(f"format {raw['format']}, where {FORMAT} is known")
    fields = {name: value for name, value in raw.items() if name != "format"}
    fields["measures"] = {
        name: MeasureResult(**measure) for name, measure in raw["measures"].items()
    }
    return Results(**fields)
