"""What the benchmarks of NATs make of their samples, and that a run goes on where it ended."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import moves, moves_taken, nat

pytestmark = pytest.mark.usefixtures("clean_machine")


def cells_of(direct: list[float | None]) -> dict[str, Any]:
    cell = nat.Found("direct", [0.5] * len(direct), direct)
    return {"cells": {"port-port": {"expected": "direct", "first": cell.first, "direct": direct}}}


@pytest.mark.parametrize(("missing", "verdict"), [(1, "reached in every cell"), (2, "MISSED by")])
def test_nineteen_of_twenty_are_enough(missing: int, verdict: str) -> None:
    table = nat.table(cells_of([None] * missing + [0.6] * (20 - missing)))
    assert f"| {20 - missing} of 20 | 500 (500 to 500) | 500 | 600 (600 to 600) | 600 |" in table
    assert f"direct, where that is possible: {verdict}" in table


@pytest.mark.root
@pytest.mark.tool("ip", "nft", "wg", "wgpyd", "turnserver", "openssl", "carrier")
def test_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nat.json"
    for runs, more in (("1", ()), ("2", ("--resume", str(file)))):
        command = ["nat", "--cells", "full-full", "--runs", runs, "--json", str(file), *more]
        monkeypatch.setattr("sys.argv", command)
        assert nat.main() == 0
    found = json.loads(file.read_text())
    assert [each["rounds"] for each in found["sittings"]] == [1, 1]
    (cell,) = found["cells"].values()
    assert len(cell["first"]) == len(cell["direct"]) == 2
    assert None not in cell["direct"]


def test_each_change_has_a_goal_of_its_own() -> None:
    samples = {
        "back: a move": [{"seconds": x, "goal": 3.0} for x in (0.5, 2.5)],
        "back: a reboot": [{"seconds": x, "goal": 5.0} for x in (2.0, 4.0, 6.0)],
    }
    table = moves.table({"samples": samples})
    assert "| a move | 2 | 1500 (1000 to 2000) | 2500 | under 3,000: reached |" in table
    assert "| a reboot | 3 | 4000 (3000 to 5000) | 6000 | under 5,000: 2 times |" in table


@pytest.mark.parametrize(("upgrade", "goal"), [(7, "reached"), (8, "MISSED")])
def test_retransmits_are_held_against_the_worse_of_both_ways(upgrade: int, goal: str) -> None:
    samples = {"upgrade, fast": [{"upgrade": upgrade, "relay": 7, "direct": 1}] * 3}
    row = next(x for x in moves.table({"samples": samples}).splitlines() if "fast" in x)
    assert row.startswith(f"| fast | 3 | {upgrade} ({upgrade} to {upgrade}) | 7 (7 to 7)")
    assert row.endswith(f"| {goal} |")


def test_flows_are_counted_together() -> None:
    sample = {"sent": 40_000, "lost": 1, "repeated": 0, "probes": 30}
    samples = {f"flows: {x}": [sample] * 2 for x in moves_taken.FLOWS}
    table = moves.table({"samples": samples})
    assert "| paths are checked | 2 | 80,000 | 2 | 0 | 60 |" in table
