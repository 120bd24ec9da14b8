"""Pictures of a run: curves over packet sizes and flows, loss curves, and bars for the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results import MeasureResult, Results
from bench.stats import spread

_COLUMNS = 4
_PANEL = (2.9, 2.6)  # inches
_WIDE = (4.2, 3.2)
# The names of five contenders stand side by side above.
_LEAST_WIDTH = 8.5
# Figures that say how a number came about are in the tables alone.
_NOT_DRAWN = ("short", "goodput", "longest")
# The scale of whole numbers that double from one to the next.
_DOUBLES = 2


class PlotError(Exception):
    """No picture can be made: one line."""


@dataclass(frozen=True, slots=True)
class _Panel:
    """One pair of axes: its title, what draws it, and how large it wants to be."""

    title: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = _PANEL


def plot(results: Results, path: Path) -> list[Path]:
    """Draw a run; the suffix of the path says the format. Raises PlotError, OSError.

    `NAME.png` has the bars, `NAME-tcp.png`, `NAME-udp.png` and `NAME-loss.png` the curves; which
    of them there are depends on what was measured. Returns them.
    """
    try:
        import matplotlib as mpl

        mpl.use("agg")
    except ImportError:
        raise PlotError("a plot needs matplotlib: run `pip install matplotlib`") from None
    pictures = {
        "": _bars(results),
        "tcp": _curves(results, "TCP"),
        "udp": [*_curves(results, "UDP without loss"), *_curves(results, "UDP back-to-back")],
        "loss": _losses(results),
    }
    made = []
    for kind, panels in pictures.items():
        if panels:
            place = path.with_name(f"{path.stem}-{kind}{path.suffix}") if kind else path
            _draw(results, panels, place)
            made.append(place)
    if not made:
        raise PlotError("there are no samples to plot")
    return made


def _draw(results: Results, panels: Sequence[_Panel], path: Path) -> None:
    from matplotlib import patches, pyplot

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = panels[0].size
    picture, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(max(width * columns, _LEAST_WIDTH), height * rows),
        squeeze=False,
        layout="constrained",
    )
    places = list(axes.flat)
    for place, panel in zip(places, panels, strict=False):
        panel.draw(place)
        place.set_title(panel.title, fontsize=8)
        place.tick_params(labelsize=7)
        if place.get_yscale() == "linear":
            place.set_ylim(bottom=0)
    for place in places[len(panels) :]:
        place.set_visible(False)
    handles = [
        patches.Patch(color=f"C{position}", label=contender)
        for position, contender in enumerate(results.contenders)
    ]
    picture.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8)
    picture.savefig(path, dpi=120)
    pyplot.close(picture)


def _is_measured(results: Results, measure: MeasureResult, figure: str) -> bool:
    return any(measure.values(contender, figure) for contender in results.contenders)


def _subtitle(figure: dict[str, Any]) -> str:
    arrow = "higher" if figure["higher_is_better"] else "lower"
    return f"{figure['unit']}, {arrow} is better"


def _bars(results: Results) -> list[_Panel]:
    """A panel for each figure that is no point of a curve."""
    panels = []
    for measure in results.measures.values():
        for name, figure in measure.figures.items():
            if measure.x is None and _is_measured(results, measure, name):
                draw = _bar_drawer(results, measure, name)
                panels.append(_Panel(f"{figure['title']}\n{_subtitle(figure)}", draw))
    return panels


def _bar_drawer(results: Results, measure: MeasureResult, figure: str) -> Callable[[Any], None]:
    def draw(place: Any) -> None:
        for position, contender in enumerate(results.contenders):
            values = measure.values(contender, figure)
            if values:
                found = spread(values)
                error = [[found.median - found.low], [found.high - found.median]]
                place.bar(position, found.median, yerr=error, capsize=4, color=f"C{position}")
        place.set_xticks([])

    return draw


def _curves(results: Results, prefix: str) -> list[_Panel]:
    """A panel for each figure of each section whose name starts so: a line a contender."""
    sections: dict[str, list[MeasureResult]] = {}
    for measure in results.measures.values():
        if measure.x is not None and measure.section.startswith(prefix):
            sections.setdefault(measure.section, []).append(measure)
    panels = []
    for section, measures in sections.items():
        for name, figure in measures[0].figures.items():
            drawn = [each for each in measures if _is_measured(results, each, name)]
            if drawn and name not in _NOT_DRAWN:
                title = figure["title"].rpartition(", ")[0] or figure["title"]
                panels.append(
                    _Panel(
                        f"{section}\n{title}; {_subtitle(figure)}",
                        _curve_drawer(results, drawn, name),
                        _WIDE,
                    )
                )
    return panels


def _curve_drawer(
    results: Results, measures: Sequence[MeasureResult], figure: str
) -> Callable[[Any], None]:
    def draw(place: Any) -> None:
        for position, contender in enumerate(results.contenders):
            points = [
                (each.x, spread(values))
                for each in measures
                if (values := each.values(contender, figure))
            ]
            if not points:
                continue
            middle = [found.median for _, found in points]
            below = [found.median - found.low for _, found in points]
            above = [found.high - found.median for _, found in points]
            place.errorbar(
                [x for x, _ in points],
                middle,
                yerr=[below, above],
                color=f"C{position}",
                # The limit that is no contender.
                linestyle=":" if contender == results.bare else "-",
                marker="o",
                markersize=3,
                capsize=3,
            )
        place.set_xscale("log", base=_DOUBLES)
        # The bare link is ten times and more above the tunnels, and a ratio is a distance here.
        place.set_yscale("log")
        ticks = [each.x for each in measures]
        place.set_xticks(ticks, [f"{x:g}" for x in ticks])
        place.xaxis.minorticks_off()
        for scale in (place.yaxis.set_major_formatter, place.yaxis.set_minor_formatter):
            scale(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
        place.tick_params(axis="y", which="minor", labelsize=6)
        place.grid(axis="y", which="major", linewidth=0.4)

    return draw


def _losses(results: Results) -> list[_Panel]:
    """A panel for each loss curve: the share of the maximum below, what was lost above."""
    return [
        _Panel(f"{measure.section.split(', by')[0]}\n{measure.x:g} bytes", draw)
        for measure in results.measures.values()
        if measure.section.startswith("UDP loss")
        and any(_is_measured(results, measure, figure) for figure in measure.figures)
        for draw in (_loss_drawer(results, measure),)
    ]


def _loss_drawer(results: Results, measure: MeasureResult) -> Callable[[Any], None]:
    def draw(place: Any) -> None:
        for position, contender in enumerate(results.contenders):
            points = [
                (int(figure.removeprefix("at-")), spread(values).median)
                for figure in measure.figures
                if (values := measure.values(contender, figure))
            ]
            line = ":" if contender == results.bare else "-"
            place.plot(
                [step for step, _ in points],
                [loss for _, loss in points],
                color=f"C{position}",
                linestyle=line,
                marker="o",
                markersize=3,
            )
        place.set_xlabel("% of the maximum", fontsize=7)

    return draw
