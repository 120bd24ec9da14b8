"""The raw numbers of a run: what is kept as JSON, and read again for tables and plots."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "results"
FORMAT = 1


class ResultsError(Exception):
    """A file that holds no results: one line."""


@dataclass(slots=True)
class MeasureResult:
    """All samples of one measure: `samples[contender]` is a list with one dict of figures each.

    `failures[contender]` says why samples of it are lacking.
    """

    what: str
    figures: dict[str, dict[str, Any]]
    samples: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def values(self, contender: str, figure: str) -> list[float]:
        """Every sample of one figure of one contender, in the order in which they were taken."""
        return [sample[figure] for sample in self.samples.get(contender, []) if figure in sample]


@dataclass(slots=True)
class Results:
    """A whole run. `contenders` maps each name to its version; `ours` is the first of them."""

    started: str
    machine: dict[str, Any]
    ours: str
    contenders: dict[str, str]
    pairs: int
    measures: dict[str, MeasureResult] = field(default_factory=dict)
    # What was left out, and why.
    notes: list[str] = field(default_factory=list)

    def others(self) -> list[str]:
        """Whom ours is compared with."""
        return [name for name in self.contenders if name != self.ours]


def save(results: Results, path: Path) -> None:
    """Write a run. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, **asdict(results)}, indent=1)
    path.write_text(text + "\n")


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
