"""`wgpy mesh map`: who reaches whom, and how, as the nodes have told their coordinator.

Up to 30 nodes are a matrix, which has a letter for each pair, or with room the round trip too. More
are a list, which has a line for each node and names only what is not direct.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wgpy.cli import style

# What stays readable on 80 columns: two for each node, and 20 for names.
MAX_MATRIX: Final = 30
# Not a terminal: nobody's screen is wider for it, and a file is to be read on one.
_WIDTH: Final = 80
_LEAST_NAME: Final = 8
# Names after "by relay:" in a list; the rest is counted.
_MAX_NAMED: Final = 5
# A relay or a path that loses more than this is worth a colour.
_LOSS: Final = 0.05

_LETTERS: Final = {"direct": "D", "relay": "R", "searching": "?", "none": "."}
_COLOURS: Final = {"D": style.GREEN, "R": style.YELLOW, "?": style.RED}
_LEGEND: Final = (
    "From a row to a column: D direct, R by a relay, ? looked for, . none now"
    " (they\nare made when they are wanted)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy mesh map`."""
    parser.add_argument("--json", action="store_true", help="print what is known as JSON")
    parser.add_argument(
        "interface", nargs="?", metavar="INTERFACE", help="of which mesh, if there are several"
    )


def run(args: argparse.Namespace) -> int:
    """Ask the agent, and print it; returns the exit code."""
    from wgpy.mesh import ask

    interface = args.interface or ask.only_interface()
    found = read(ask.ask_agent(interface, {"ask": "map"}))
    if args.json:
        print(json.dumps(as_json(found), indent=2))
        return 0
    width = shutil.get_terminal_size((_WIDTH, 24)).columns if sys.stdout.isatty() else _WIDTH
    sys.stdout.write(style.finish(text(found, width)))
    return 0


@dataclass(frozen=True, slots=True)
class MapNode:
    """A node of the map; `connected` is whether its coordinator hears of it."""

    name: str
    key: str
    coordinator: bool
    connected: bool


@dataclass(frozen=True, slots=True)
class MapPath:
    """How one node reaches another, by their keys; the round trip in milliseconds, loss a share."""

    source: str
    target: str
    kind: str
    via: str
    round_trip: float | None
    loss: float


@dataclass(frozen=True, slots=True)
class Map:
    """Nodes in the order of their names, and the paths that both ends of are among them."""

    nodes: tuple[MapNode, ...]
    paths: Mapping[tuple[str, str], MapPath]


# --- What came ---


def read(answer: Mapping[str, Any]) -> Map:
    """The map of an agent's answer. What is not as it should be is left out: it is only shown."""
    nodes = sorted(
        (
            MapNode(
                style.printable(x.get("name")) or style.printable(x.get("key")),
                style.printable(x.get("key")),
                x.get("coordinator") is True,
                x.get("connected") is True,
            )
            for x in _objects(answer.get("nodes"))
        ),
        key=lambda node: node.name,
    )
    keys = {node.key for node in nodes}
    paths = {}
    for found in _objects(answer.get("paths")):
        source, target = style.printable(found.get("from")), style.printable(found.get("to"))
        if source in keys and target in keys and source != target:
            kind = style.printable(found.get("kind"))
            paths[source, target] = MapPath(
                source,
                target,
                kind if kind in _LETTERS else "none",
                style.printable(found.get("via")),
                _number(found.get("rtt_ms")),
                _number(found.get("loss")) or 0.0,
            )
    return Map(tuple(nodes), paths)


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [x for x in value if isinstance(x, dict)] if isinstance(value, list) else []


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


# --- For people ---


def text(found: Map, width: int) -> str:
    """The map for a terminal of so many columns, with its colours, and a newline at the end."""
    if not found.nodes:
        return "The coordinator knows of no nodes.\n"
    names = short_names([node.name for node in found.nodes])
    small = len(found.nodes) <= MAX_MATRIX
    lines = _matrix(found, names, width) if small else _list(found, names)
    return "\n".join([*lines, "", _counts(found)]) + "\n"


def short_names(names: Sequence[str]) -> list[str]:
    """The names without the domain, where all have the same."""
    domains = {name.partition(".")[2] for name in names}
    if len(domains) != 1:
        return list(names)
    return [name.partition(".")[0] for name in names]


def _matrix(found: Map, names: Sequence[str], width: int) -> list[str]:
    count = len(names)
    digits = len(str(count))
    wanted = max(map(len, names))
    cells = [[_cell(found, row, column) for column in found.nodes] for row in found.nodes]
    # Round trips are shown where they have room, all or none.
    rich = max(len(cell) for row in cells for cell in row) + 2
    if digits + 1 + wanted + 2 + count * rich > width:
        rich = 0
        cells = [[cell[:1] for cell in row] for row in cells]
    step = rich or (2 if count > 20 else 3)
    room = max(_LEAST_NAME, width - digits - 3 - count * step)
    label = min(wanted, room)
    lines = _heads(count, digits + 1 + label, step)
    for number, (node, name, row) in enumerate(
        zip(found.nodes, names, cells, strict=True), start=1
    ):
        mark = "*" if node.coordinator else " "
        shown = _cut(name, label)
        shown_name = shown if node.connected else f"{style.RED}{shown}{style.RESET}"
        body = "".join(_painted(cell, step) for cell in row)
        pad = " " * (label - len(shown))
        lines.append(f"{number:>{digits}} {shown_name}{mark}{pad}{body}".rstrip())
    legend = _LEGEND
    if rich:
        legend += "; a number is the round trip in ms"
    return [*lines, "", legend + ".", *_marks(found)]


def _heads(count: int, label: int, step: int) -> list[str]:
    """The columns' numbers; where two digits have no room side by side, one above the other."""
    left = " " * (label + 1)
    numbers = range(1, count + 1)
    if step > 2 or count < 10:
        return [left + "".join(f"{number:>{step}}" for number in numbers)]
    tens = "".join(f"{number // 10 if number >= 10 else '':>{step}}" for number in numbers)
    return [left + tens, left + "".join(f"{number % 10:>{step}}" for number in numbers)]


def _cell(found: Map, row: MapNode, column: MapNode) -> str:
    if row is column:
        return "-"
    path = found.paths.get((row.key, column.key))
    if path is None:
        return "."
    letter = _LETTERS[path.kind]
    if path.round_trip is None or path.kind not in ("direct", "relay"):
        return letter
    return f"{letter} {path.round_trip:.0f}"


def _painted(cell: str, step: int) -> str:
    colour = _COLOURS.get(cell[:1], "")
    pad = " " * (step - len(cell))
    return f"{pad}{colour}{cell}{style.RESET}" if colour else pad + cell


def _marks(found: Map) -> list[str]:
    lines = []
    if any(node.coordinator for node in found.nodes):
        lines.append("* coordinates.")
    away = sum(not node.connected for node in found.nodes)
    if away:
        verb = "is" if away == 1 else "are"
        names = short_names([node.name for node in found.nodes])
        shown = [n for n, node in zip(names, found.nodes, strict=True) if not node.connected]
        lines.append(f"{away} {verb} not connected to a coordinator: {_listed(shown)}.")
    return lines


def _list(found: Map, names: Sequence[str]) -> list[str]:
    by_key = {node.key: name for node, name in zip(found.nodes, names, strict=True)}
    label = min(max(map(len, names)), 24)
    lines = []
    for node, name in zip(found.nodes, names, strict=True):
        mine = [path for (source, _), path in found.paths.items() if source == node.key]
        kinds: dict[str, list[str]] = {kind: [] for kind in _LETTERS}
        for path in mine:
            kinds[path.kind].append(by_key[path.target])
        parts = [f"{style.GREEN}{len(kinds['direct'])} direct{style.RESET}"]
        if kinds["relay"]:
            listed = _listed(sorted(kinds["relay"]))
            parts.append(f"{style.YELLOW}{len(kinds['relay'])} by relay{style.RESET}: {listed}")
        if kinds["searching"]:
            listed = _listed(sorted(kinds["searching"]))
            parts.append(f"{style.RED}looking for{style.RESET} {listed}")
        if not node.connected:
            parts.append(f"{style.RED}not connected to a coordinator{style.RESET}")
        lines.append(f"{_cut(name, label):<{label}}  {'; '.join(parts)}")
    return lines


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMED])
    rest = len(names) - _MAX_NAMED
    return f"{shown} and {rest} more" if rest > 0 else shown


def _counts(found: Map) -> str:
    count = len(found.nodes)
    kinds = [path.kind for path in found.paths.values()]
    lossy = sum(path.loss >= _LOSS for path in found.paths.values())
    text = (
        f"{count} nodes, {count * (count - 1)} ordered pairs: {kinds.count('direct')} direct, "
        f"{kinds.count('relay')} by a relay, {kinds.count('searching')} looked for."
    )
    return f"{text} {lossy} lose packets." if lossy else text


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


# --- For programs ---


def as_json(found: Map) -> dict[str, Any]:
    """Nodes, and paths by the names of their ends."""
    names = {node.key: node.name for node in found.nodes}
    return {
        "nodes": [
            {
                "name": node.name,
                "key": node.key,
                "coordinator": node.coordinator,
                "connected": node.connected,
            }
            for node in found.nodes
        ],
        "paths": [
            {
                "from": names[path.source],
                "to": names[path.target],
                "kind": path.kind,
                "via": path.via or None,
                "roundTrip": None if path.round_trip is None else path.round_trip / 1000,
                "loss": path.loss,
            }
            for path in found.paths.values()
        ],
    }
