"""The command itself, once, with real daemons."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import results
from tests.support.requirements import ROOT

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip", "ping", "wg", "wireguard-go", "iperf3"),
]
TIMEOUT = 120.0


def test_a_run_measures_and_leaves_nothing(tmp_path: Path) -> None:
    before = namespaces()
    file = tmp_path / "run.json"
    options = ("--only", "tcp,rtt,cold,peers-1", "--pairs", "1", "--output", str(file))
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--ours", "wireguard-go", "--against", "none", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert "| TCP, one flow | Gbit/s |" in done.stdout
    found = results.load(file)
    for name, measure in found.measures.items():
        assert measure.failures == {}
        for figure in measure.figures:
            (value,) = measure.values("wireguard-go", figure)
            assert value > 0, (name, figure)
    assert not [name for name in namespaces() - before if name.endswith("-bench")]


def namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").glob("*")}
