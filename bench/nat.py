"""Every pair of NATs, many times: how many went direct, and how soon a packet passed.

    python -m bench.nat [--runs N] [--cells port-sym,...] [--json FILE] [--resume FILE]
    python -m bench.nat report FILE

Two daemons behind two routers of the lab, 30 ms (one way) from each other and from the server with
STUN and TURN. A run is a cold start: both daemons are new, configured, and nothing was asked yet,
for their interfaces are down. The clock starts, both interfaces come up, and one side sends an
echo. Two times are taken: when that is answered, and when both daemons have said that the way is
direct. So the start of Python and of `wgpy setconf` is not in them; name resolution (of addresses
only), STUN, allocation, signals by a directory, the handshake and the punching are.
"""

import argparse
import fcntl
import json
import os
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.stats import spread
from tests.support.natlab import Lab, Nat
from tests.support.natlab.cells import DELAY, KINDS, is_direct, left, right, street
from tests.support.natlab.site import Site
from tests.support.natlab.station import Station
from tests.support.netns import remove_leftovers
from tests.support.requirements import ROOT
from wgpy.demo.echo import ping

RUNS = 20
# Goals, in seconds, and the share of runs of a cell that is to go direct.
FIRST_GOAL = 1.0
DIRECT_GOAL = 2.0
SHARE_GOAL = 0.95
# A packet or a way that takes longer is written down as none.
FIRST_LIMIT = 10.0
DIRECT_LIMIT = 15.0
RETRIES = 2
# How often it is looked whether both said it. Nobody is asked: they write it by themselves.
_LOOK = 0.002
# linux/sockios.h, linux/if.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


@dataclass(frozen=True, slots=True)
class Cell:
    """Two kinds of NAT; `direct`: punching is to find a way."""

    one: Nat
    other: Nat
    direct: bool

    @property
    def name(self) -> str:
        return f"{self.one.value}-{self.other.value}"


@dataclass(slots=True)
class Found:
    """What the runs of a cell gave: seconds, None for what did not come in time. `carriers` is the
    way of the first packet as the side says that sent it, `counters` are those of both daemons, and
    `accidents` runs that did not begin, and were taken again."""

    expected: str
    first: list[float | None] = field(default_factory=list)
    direct: list[float | None] = field(default_factory=list)
    carriers: list[str] = field(default_factory=list)
    counters: list[dict[str, int]] = field(default_factory=list)
    accidents: list[str] = field(default_factory=list)


def cells() -> list[Cell]:
    """Every pair of kinds once, and those beyond the matrix that a trick makes direct."""
    pairs = [(one, other) for n, one in enumerate(KINDS) for other in KINDS[n:]]
    found = [Cell(one, other, is_direct(one, other)) for one, other in pairs]
    return [*found, Cell(Nat.SYMSEQ, Nat.PORT, True), Cell(Nat.NAIVE, Nat.PORT, True)]


# --- One run ---


def switch_on(name: str) -> None:
    """Bring a link up; from inside its namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH22x", name.encode(), 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | _IFF_UP))


def run(site: Site, cell: Cell, found: Found, *, reverse: bool) -> None:
    """One cold start; `reverse`: the other side wants the first packet."""
    with site.up(left(cell.one), right(cell.other)) as stations:
        # UDP first, and what is left where it is blocked.
        site.introduce(*stations, turn="any", up=False)
        for each in stations:
            each.host.namespace.add_address(each.name, f"{each.inner}/24")
        caller, called = reversed(stations) if reverse else stations
        began = time.monotonic()
        for each in stations:
            each.host.namespace.inside(lambda name=each.name: switch_on(name))  # type: ignore[misc]
        first = first_echo(caller, called, began)
        carrier = said(caller)
        direct = both_direct(stations, began) if cell.direct else None
        counted: dict[str, int] = {}
        for each in stations:
            for name, value in each.state().counters.items():
                counted[name] = counted.get(name, 0) + value
    found.first.append(first)
    found.carriers.append(carrier)
    found.counters.append(counted)
    if cell.direct:
        found.direct.append(direct)


def run_surely(site: Site, cell: Cell, found: Found, *, reverse: bool) -> None:
    """The same, again where a daemon or a command failed to start: that says nothing of NATs."""
    for _ in range(RETRIES):
        try:
            return run(site, cell, found, reverse=reverse)
        except (AssertionError, OSError) as error:
            found.accidents.append(str(error).replace(f"{ROOT}/", "")[:200])
    return run(site, cell, found, reverse=reverse)


def first_echo(caller: Station, called: Station, began: float) -> float | None:
    """Seconds until an echo is answered. One that is lost is sent again after a second."""

    def until_answered() -> float | None:
        while time.monotonic() - began < FIRST_LIMIT:
            if ping(called.inner, 1, timeout=1.0).answered:
                return time.monotonic() - began
        return None

    return caller.host.namespace.inside(until_answered)


def said(station: Station) -> str:
    """`direct` or `relay`: what the daemon said last; `none` if nothing."""
    words = [x for x in station.process.output().splitlines() if "direct, " in x or "a relay" in x]
    if not words:
        return "none"
    return "direct" if "direct, " in words[-1] else "relay"


def both_direct(stations: Sequence[Station], began: float) -> float | None:
    """Seconds until both have a direct way."""
    while time.monotonic() - began < DIRECT_LIMIT:
        if all(said(each) == "direct" for each in stations):
            return time.monotonic() - began
        time.sleep(_LOOK)
    return None


# --- All runs ---


def measure(
    chosen: Sequence[Cell], runs: int, former: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Take every cell in turns, until each has so many runs; what there is, after each round.

    `former` is what an earlier sitting left, with which this one goes on. Cells of it that are not
    chosen stay as they are.
    """
    kinds = tuple(dict.fromkeys(kind for each in chosen for kind in (each.one, each.other)))
    found = {name: Found(**each) for name, each in (former or {}).get("cells", {}).items()}
    for each in chosen:
        found.setdefault(each.name, Found("direct" if each.direct else "relay"))
    sittings = [*(former or {}).get("sittings", []), {"machine": machine.describe(), "rounds": 0}]
    with tempfile.TemporaryDirectory() as directory, Lab(*street(kinds)) as lab:
        while lacking := [each for each in chosen if len(found[each.name].first) < runs]:
            # A coturn of its own for each round: nothing is left of the one before.
            with tempfile.TemporaryDirectory(dir=directory) as own, Site(lab, Path(own)) as site:
                for cell in lacking:
                    there = found[cell.name]
                    run_surely(site, cell, there, reverse=len(there.first) % 2 == 1)
                    for router in (left(cell.one), right(cell.other)):
                        lab.routers[router].reboot()
            sittings[-1]["rounds"] += 1
            yield {
                "sittings": sittings,
                "delay": DELAY,
                "cells": {name: asdict(each) for name, each in found.items()},
            }


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each cell."""
    rows = [
        "| NATs | runs | went direct | first packet, ms | longest | direct after, ms | longest |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, cell in results["cells"].items():
        runs = len(cell["first"])
        direct = [each for each in cell["direct"] if each is not None]
        share = f"{len(direct)} of {runs}" if cell["expected"] == "direct" else "not possible"
        title = name.replace("-", " and ")
        first = [each for each in cell["first"] if each is not None]
        rows.append(f"| {title} | {runs} | {share} | {_times(first)} | {_times(direct)} |")
    return "\n".join([*rows, "", *verdicts(results)]) + "\n"


def _times(values: Sequence[float]) -> str:
    """Two columns: the median with the quartiles, and the longest."""
    if not values:
        return "- | -"
    found = spread([each * 1e3 for each in values])
    return f"{found.median:.0f} ({found.low:.0f} to {found.high:.0f}) | {max(values) * 1e3:.0f}"


def verdicts(results: dict[str, Any]) -> list[str]:
    """A line for each goal: whether it is reached by every cell, or by which it is not."""
    shares, firsts, directs = [], [], []
    for name, cell in results["cells"].items():
        if not cell["first"]:
            continue
        limit = [FIRST_LIMIT if each is None else each for each in cell["first"]]
        if statistics.median(limit) >= FIRST_GOAL:
            firsts.append(name)
        if cell["expected"] == "direct":
            times = [DIRECT_LIMIT if each is None else each for each in cell["direct"]]
            if sum(each < DIRECT_LIMIT for each in times) < SHARE_GOAL * len(times):
                shares.append(name)
            if statistics.median(times) >= DIRECT_GOAL:
                directs.append(name)
    goals = (
        (f"{SHARE_GOAL:.0%} of the runs go direct, where that is possible", shares),
        (f"first packet under {FIRST_GOAL:g} s in the median", firsts),
        (f"direct under {DIRECT_GOAL:g} s in the median", directs),
    )
    return [
        f"- {goal}: {'reached in every cell' if not missed else 'MISSED by ' + ', '.join(missed)}"
        for goal, missed in goals
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="every pair of NATs, many times")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each cell ({RUNS})")
    parser.add_argument("--cells", metavar="NAME,...", help="some only, as port-sym")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the raw numbers go")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="go on with a run, until there are so many"
    )
    report = parser.add_subparsers(metavar="").add_parser("report", help="print a run again")
    report.add_argument("file", type=Path)
    arguments = parser.parse_args()
    if "file" in arguments:
        print(table(json.loads(arguments.file.read_text())), end="")
        return 0
    if os.geteuid() != 0:
        parser.error("namespaces need root")
    known = cells()
    names = [each.name for each in known] if arguments.cells is None else arguments.cells.split(",")
    chosen = [each for each in known if each.name in names]
    if len(chosen) != len(set(names)):
        parser.error(f"the cells are {', '.join(each.name for each in known)}")
    former = None if arguments.resume is None else json.loads(arguments.resume.read_text())
    if former is not None and former["delay"] != DELAY:
        parser.error(f"{arguments.resume} is of another delay")
    remove_leftovers()
    results: dict[str, Any] = {}
    try:
        for results in measure(chosen, arguments.runs, former):
            number = results["sittings"][-1]["rounds"]
            print(f"round {number} is over", file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    if results:
        print(table(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
