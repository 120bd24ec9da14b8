"""Tables in Markdown, made from the raw numbers of a run."""

from collections.abc import Sequence
from typing import Any

from bench import targets
from bench.results import MeasureResult, Results
from bench.stats import Spread, ratio, spread

_OTHER = "Other measures"


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
        *_targets(results),
    ]
    for section, measures in _sections(results).items():
        make = _steps if section.startswith("UDP loss") else _figures
        lines += ["", f"## {section}", "", *make(results, measures)]
    lines += [
        *_limit(results),
        "",
        "## What was measured",
        "",
        *(f"- {name}: {measure.what}" for name, measure in results.measures.items()),
    ]
    remarks = [*results.notes, *_failures(results)]
    if remarks:
        lines += ["", "## What is lacking", "", *(f"- {remark}" for remark in remarks)]
    return "\n".join(lines) + "\n"


def _sections(results: Results) -> dict[str, list[MeasureResult]]:
    """The measures by section, in the order in which they come."""
    found: dict[str, list[MeasureResult]] = {}
    for measure in results.measures.values():
        found.setdefault(measure.section or _OTHER, []).append(measure)
    return found


def _lines(rows: Sequence[Sequence[str]], words: int) -> list[str]:
    """A table whose first `words` columns hold words, and the others numbers."""
    head, *rest = rows
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rest)]


def _targets(results: Results) -> list[str]:
    """A line for each target of which the run has numbers."""
    rows = [["target", "against", "goal", "aim", "found", "verdict"]]
    for target, found in targets.rows(results):
        if found is None:
            continue
        sign = "at least" if target.higher_is_better else "at most"
        rows.append(
            [
                target.title,
                target.against or "itself",
                f"{sign} {target.goal:g}",
                "-" if target.aim is None else f"{target.aim:g}",
                show_spread(found),
                targets.verdict(target, found.median),
            ]
        )
    if len(rows) == 1:
        return []
    lacking = len(targets.TARGETS) - (len(rows) - 1)
    lines = ["", "## Targets", "", *_lines(rows, len(rows[0]))]
    return (
        [*lines, "", f"Of {lacking} other targets this run has no numbers."] if lacking else lines
    )


def _figures(results: Results, measures: Sequence[MeasureResult]) -> list[str]:
    """A row for each figure: every contender, and the ratio of ours to each other one."""
    others = results.others()
    rows = [
        ["measure", "unit", *results.contenders, *(f"ratio to {name}" for name in others)],
        *(
            _row(results, measure, name, figure)
            for measure in measures
            for name, figure in measure.figures.items()
        ),
    ]
    return _lines(rows, 2)


def _row(results: Results, measure: MeasureResult, name: str, figure: dict[str, Any]) -> list[str]:
    ours = measure.values(results.ours, name)
    title = figure["title"]
    if figure["limit"] is not None:
        title += f" ({_verdict(ours, figure['limit'])})"
    cells = [title, figure["unit"]]
    cells += [_cell(measure.values(contender, name)) for contender in results.contenders]
    for other in results.others():
        # No tunnel is as good as no tunnel at all: that ratio is a share, and judges nobody.
        higher = None if other == results.bare else figure["higher_is_better"]
        both = measure.pairs(results.ours, other, name)
        cells.append(_ratio_cell(*both, higher) if figure["compared"] else "-")
    return cells


def _steps(results: Results, measures: Sequence[MeasureResult]) -> list[str]:
    """The loss curves: a row for each size and contender, a column for each step, medians."""
    steps = list(measures[0].figures)
    titles = [f"{name.removeprefix('at-')} %" for name in steps]
    rows = [["bytes", "contender", *titles]]
    for measure in measures:
        for contender in results.contenders:
            found = [measure.values(contender, step) for step in steps]
            if any(found):
                cells = [significant(spread(each).median) if each else "-" for each in found]
                rows.append([f"{measure.x:g}", contender, *cells])
    return _lines(rows, 2)


def _limit(results: Results) -> list[str]:
    """What share of the machine's limits ours reaches."""
    rows = [["measure", "unit", "the limit", "is of", results.ours, "share"]]
    for name, measure in results.measures.items():
        for key in ("throughput", "rate"):
            ours = results.median(name, results.ours, key)
            bare = results.median(name, results.bare, key)
            if ours is not None and bare:
                figure = measure.figures[key]
                share = f"{ours / bare:.1%}"
                cells = [significant(bare), "no tunnel", significant(ours), share]
                section = measure.section.partition(", ")[2]
                title = f"{figure['title']}, {section}" if section else figure["title"]
                rows.append([title, figure["unit"], *cells])
    for source, seal, opened in (
        ("cryptography", "seal-1424", "open-1424"),
        ("OpenSSL", "openssl-1424", "openssl-1424"),
    ):
        row = _aead_row(results, source, seal, opened)
        if row is not None:
            rows.append(row)
    return ["", "## The limit", "", *_lines(rows, 2)] if len(rows) > 1 else []


def _aead_row(results: Results, source: str, seal: str, opened: str) -> list[str] | None:
    """TCP against processors that do nothing but seal and open its packets once each."""
    times = [results.median("aead", results.ours, figure) for figure in (seal, opened)]
    ours = results.median("tcp-1", results.ours, "throughput")
    if ours is None or None in times:
        return None
    both = sum(time for time in times if time is not None)
    # Payload of a packet of 1,420 bytes: less 20 of IPv4 and 32 of TCP with its timestamps.
    limit = results.machine["cpus"] * (1420 - 52) * 8 / both
    name = f"AEAD of {source} on {results.machine['cpus']} CPUs"
    cells = [significant(limit), name, significant(ours), f"{ours / limit:.1%}"]
    return ["TCP, 1 flow", "Gbit/s", *cells]


def _verdict(ours: Sequence[float], limit: float) -> str:
    """Whether a promise of ours was kept, by the median."""
    if not ours:
        return f"at most {limit:g}"
    return f"at most {limit:g}: {'kept' if spread(ours).median <= limit else 'BROKEN'}"


def _cell(values: Sequence[float]) -> str:
    return show_spread(spread(values)) if values else "-"


def _ratio_cell(
    ours: Sequence[float], theirs: Sequence[float], higher_is_better: bool | None
) -> str:
    if not any(theirs):
        return "-"
    found = ratio(ours, theirs)
    if higher_is_better is None:
        return show_spread(found)
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
    return f"{float(text):f}".rstrip("0").rstrip(".") if "e" in text else text


def _failures(results: Results) -> list[str]:
    return [
        f"{name}: {contender} failed: {reason}"
        for name, measure in results.measures.items()
        for contender, reason in measure.failures.items()
    ]
