"""Tunnels whose way changes under traffic: how soon they are back, and what it costs.

    python -m bench.moves [--runs N] [--only back,upgrade,flows] [--json FILE]
    python -m bench.moves report FILE

Two daemons behind two routers of the lab, 30 ms (one way) from each other and from the server with
STUN and TURN. bench/README.md says what each figure is.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.moves_taken import FLOWS, Sample, back, flows, upgrade
from bench.stats import spread
from tests.support.netns import remove_leftovers

RUNS = 7
TAKERS: dict[str, Callable[[Path, bool], Iterator[Sample]]] = {
    "back": back,
    "upgrade": upgrade,
    "flows": flows,
}


def measure(chosen: Sequence[str], runs: int) -> Iterator[dict[str, Any]]:
    """Take each in turns; what there is, after each round. Every other round goes backwards."""
    samples: dict[str, list[dict[str, Any]]] = {}
    facts = machine.describe()
    for number in range(runs):
        for name in chosen:
            with tempfile.TemporaryDirectory() as directory:
                for sample in TAKERS[name](Path(directory), number % 2 == 1):
                    samples.setdefault(sample.name, []).append(sample.figures)
        yield {"machine": facts, "rounds": number + 1, "samples": samples}


# --- What it says ---


def table(results: dict[str, Any]) -> str:
    """Markdown: three tables, and a line for each goal."""
    samples: dict[str, list[dict[str, Any]]] = results["samples"]
    parts = [_backs(samples), _upgrades(samples), _flows(samples)]
    return "\n".join(part for part in parts if part)


def _of(samples: list[dict[str, Any]], figure: str) -> list[float]:
    return [each[figure] for each in samples]


def _cell(values: Sequence[float]) -> str:
    found = spread(values)
    return f"{found.median:g} ({found.low:g} to {found.high:g})"


def _backs(samples: dict[str, list[dict[str, Any]]]) -> str:
    chosen = {name: x for name, x in samples.items() if name.startswith("back: ")}
    if not chosen:
        return ""
    rows = [
        "| what happens | times | back after, ms | longest | goal |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for name, found in chosen.items():
        values = [round(each * 1e3) for each in _of(found, "seconds")]
        limit = round(found[0]["goal"] * 1e3)
        share = sum(each < limit for each in values)
        goal = f"under {limit:,}: {'reached' if share == len(values) else f'{share} times'}"
        title = name.removeprefix("back: ")
        rows.append(f"| {title} | {len(values)} | {_cell(values)} | {max(values):g} | {goal} |")
    return "\n".join(rows) + "\n"


def _upgrades(samples: dict[str, list[dict[str, Any]]]) -> str:
    chosen = {name: x for name, x in samples.items() if name.startswith("upgrade, ")}
    if not chosen:
        return ""
    rows = [
        "| iperf3 | times | retransmits from relay to direct | on the relay, in the same seconds"
        " | on a direct way | goal |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, found in chosen.items():
        change, relay, direct = (_of(found, x) for x in ("upgrade", "relay", "direct"))
        more = [a - max(b, c) for a, b, c in zip(change, relay, direct, strict=True)]
        goal = "reached" if spread(more).median <= 0 else "MISSED"
        cells = " | ".join(_cell(x) for x in (change, relay, direct))
        rows.append(f"| {name.removeprefix('upgrade, ')} | {len(found)} | {cells} | {goal} |")
    return "\n".join(rows) + "\n"


def _flows(samples: dict[str, list[dict[str, Any]]]) -> str:
    rows = [
        "| 10,000 flows | times | datagrams | lost | doubled | probes meanwhile |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in FLOWS:
        found = samples.get(f"flows: {name}", [])
        if not found:
            return ""
        sums = [sum(_of(found, x)) for x in ("sent", "lost", "repeated", "probes")]
        cells = " | ".join(f"{x:,}" for x in sums)
        rows.append(f"| {name} | {len(found)} | {cells} |")
    return "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="tunnels whose way changes under traffic")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"rounds ({RUNS})")
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(TAKERS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the raw numbers go")
    report = parser.add_subparsers(metavar="").add_parser("report", help="print a run again")
    report.add_argument("file", type=Path)
    arguments = parser.parse_args()
    if "file" in arguments:
        print(table(json.loads(arguments.file.read_text())), end="")
        return 0
    if os.geteuid() != 0:
        parser.error("namespaces need root")
    chosen = list(TAKERS) if arguments.only is None else arguments.only.split(",")
    if unknown := set(chosen) - set(TAKERS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    remove_leftovers()
    results: dict[str, Any] = {}
    try:
        for results in measure(chosen, arguments.runs):
            print(f"round {results['rounds']} is over", file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    if results:
        print(table(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
