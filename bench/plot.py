"""One picture of a run: a bar for each contender, a panel for each figure."""

from pathlib import Path

from bench.results import Results
from bench.stats import spread

_COLUMNS = 4
_PANEL = (2.9, 2.6)  # inches


class PlotError(Exception):
    """No picture can be made: one line."""


def plot(results: Results, path: Path) -> None:
    """Draw a run into a file whose suffix says the format. Raises PlotError, OSError."""
    try:
        import matplotlib as mpl

        mpl.use("agg")
        from matplotlib import patches, pyplot
    except ImportError:
        raise PlotError("a plot needs matplotlib: run `pip install matplotlib`") from None
    panels = [
        (measure, name, figure)
        for measure in results.measures.values()
        for name, figure in measure.figures.items()
        if measure.values(results.ours, name)
    ]
    if not panels:
        raise PlotError("there are no samples to plot")
    rows = -(-len(panels) // _COLUMNS)
    picture, axes = pyplot.subplots(
        rows,
        _COLUMNS,
        figsize=(_PANEL[0] * _COLUMNS, _PANEL[1] * rows),
        squeeze=False,
        layout="constrained",
    )
    places = list(axes.flat)
    for place, (measure, name, figure) in zip(places, panels, strict=False):
        for position, contender in enumerate(results.contenders):
            values = measure.values(contender, name)
            if not values:
                continue
            found = spread(values)
            error = [[found.median - found.low], [found.high - found.median]]
            place.bar(position, found.median, yerr=error, capsize=4, color=f"C{position}")
        arrow = "higher" if figure["higher_is_better"] else "lower"
        place.set_title(f"{figure['title']}\n{figure['unit']}, {arrow} is better", fontsize=8)
        place.set_xticks([])
        place.tick_params(axis="y", labelsize=7)
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
