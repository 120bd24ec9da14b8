"""Tables for a terminal: columns as wide as what is in them, and what gives way on a narrow one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from wgpy.cli import style

_GAP: Final = "  "
_CUT: Final = "…"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. On a narrow terminal it may be cut down to `least` characters, and then, those with
    the highest `yields` first, be left out; 0 is never left out."""

    head: str
    least: int = 0
    yields: int = 0
    right: bool = False


class Cell(NamedTuple):
    """What is in a place of a table, and its colour."""

    text: str
    colour: str = ""


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None
) -> list[str]:
    """The lines of a table, the head first; no line is longer than `width`, if there is one.

    Columns with nothing in them are left out.
    """
    kept = [
        place
        for place, column in enumerate(columns)
        if any(row[place].text for row in rows) or column.yields == 0
    ]
    widths = _widths(columns, rows, kept)
    while width is not None and not _fit(columns, kept, widths, width):
        going = max(kept, key=lambda place: columns[place].yields)
        if columns[going].yields == 0:
            break
        kept.remove(going)
        widths = _widths(columns, rows, kept)
    head = [Cell(column.head, style.BOLD) for column in columns]
    lines = [_line(columns, row, kept, widths) for row in [head, *rows]]
    return lines if width is None else [cut(line, width) for line in lines]


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], kept: Sequence[int]
) -> dict[int, int]:
    return {
        place: max(len(columns[place].head), *(len(row[place].text) for row in rows), 0)
        for place in kept
    }


def _fit(
    columns: Sequence[Column], kept: Sequence[int], widths: dict[int, int], width: int
) -> bool:
    """Cut the widest of the columns that may be cut, until all fit; whether they do."""
    over = sum(widths.values()) + len(_GAP) * (len(kept) - 1) - width
    while over > 0:
        able = [x for x in kept if columns[x].least and widths[x] > columns[x].least]
        if not able:
            return False
        widths[max(able, key=lambda place: widths[place] - columns[place].least)] -= 1
        over -= 1
    return True


def _line(
    columns: Sequence[Column], row: Sequence[Cell], kept: Sequence[int], widths: dict[int, int]
) -> str:
    parts = []
    for place in kept:
        text, colour = row[place]
        if len(text) > widths[place]:
            text = text[: widths[place] - 1] + _CUT
        pad = " " * (widths[place] - len(text))
        shown = f"{colour}{text}{style.RESET}" if colour and text else text
        parts.append(pad + shown if columns[place].right else shown + pad)
    return _GAP.join(parts).rstrip()


def cut(line: str, width: int) -> str:
    """The line without what is beyond so many characters; colours take no room."""
    shown, out, place = 0, [], 0
    for found in style.COLOUR.finditer(line):
        out.append(line[place : found.start()][: max(0, width - shown)])
        shown += found.start() - place
        out.append(found.group())
        place = found.end()
    out.append(line[place:][: max(0, width - shown)])
    return "".join(out)
