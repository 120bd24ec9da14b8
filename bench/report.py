"""Tables in Markdown, made from the raw numbers of a run."""

from collections.abc import Sequence
from typing import Any

from bench.results import MeasureResult, Results
from bench.stats import Spread, ratio, spread


def table(results: Results) -> str:
    """The whole report, with a newline at the end."""
    machine = results.machine
    lines = [
        f"# wgpy measured on {results.started[:10]}",
        "",
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_gib']} GiB; "
        f"Linux {machine['kernel']}, {machine['system']}; Python {machine['python']}, "
        f"cryptography {machine['cryptography']}; load {machine['load_before']:.1f} before.",
        "",
        *(f"- {name}: {version}" for name, version in results.contenders.items()),
        "",
        f"Median of up to {results.pairs} pairs, taken in turns; quartiles in parentheses. A "
        f"ratio is {results.ours} over the other, pair by pair.",
        "",
        *_figures(results),
        "",
        "What was measured:",
        "",
        *(f"- {name}: {measure.what}" for name, measure in results.measures.items()),
    ]
    remarks = [*results.notes, *_failures(results)]
    if remarks:
        lines += ["", "What is lacking:", "", *(f"- {remark}" for remark in remarks)]
    return "\n".join(lines) + "\n"


def _figures(results: Results) -> list[str]:
    others = results.others()
    head = ["measure", "unit", *results.contenders, *(f"ratio to {name}" for name in others)]
    rows = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    for measure in results.measures.values():
        for name, figure in measure.figures.items():
            rows.append(_row(results, measure, name, figure))
    return [f"| {' | '.join(row)} |" for row in rows]


def _row(results: Results, measure: MeasureResult, name: str, figure: dict[str, Any]) -> list[str]:
    ours = measure.values(results.ours, name)
    title = figure["title"]
    if figure["limit"] is not None:
        title += f" ({_verdict(ours, figure['limit'])})"
    cells = [title, figure["unit"]]
    cells += [_cell(measure.values(contender, name)) for contender in results.contenders]
    for other in results.others():
        theirs = measure.values(other, name)
        cells.append(_ratio_cell(ours, theirs, figure["higher_is_better"]))
    return cells


def _verdict(ours: Sequence[float], limit: float) -> str:
    """Whether a promise of ours was kept, by the median."""
    if not ours:
        return f"at most {limit:g}"
    return f"at most {limit:g}: {'kept' if spread(ours).median <= limit else 'BROKEN'}"


def _cell(values: Sequence[float]) -> str:
    return show_spread(spread(values)) if values else "-"


def _ratio_cell(ours: Sequence[float], theirs: Sequence[float], higher_is_better: bool) -> str:
    if not ours or not any(theirs):
        return "-"
    found = ratio(ours, theirs)
    return f"{show_spread(found)} {judge(found, higher_is_better)}"


def judge(found: Spread, higher_is_better: bool) -> str:
    """Whether a ratio says better or worse; neither where its quartiles lie on both sides of 1."""
    if found.low <= 1 <= found.high:
        return "even"
    return "better" if (found.median > 1) is higher_is_better else "worse"


def show_spread(found: Spread) -> str:
    """The median with the quartiles, to three significant digits."""
    return f"{significant(found.median)} ({significant(found.low)} to {significant(found.high)})"


def significant(value: float) -> str:
    """Three significant digits, and never an exponent: `0.123`, `12.3`, `12300`."""
    if value == 0:
        return "0"
    text = f"{value:.3g}"
    return f"{float(text):.0f}" if "e" in text else text


def _failures(results: Results) -> list[str]:
    return [
        f"{name}: {contender} failed: {reason}"
        for name, measure in results.measures.items()
        for contender, reason in measure.failures.items()
    ]
