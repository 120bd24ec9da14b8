"""The command itself, once, with real daemons."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import results, trial
from bench.contenders import BARE, CONTENDERS
from bench.lab import road_of, road_through, tunnel_of
from bench.measures import sealing
from tests.support.requirements import ROOT

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip", "ping", "wg", "wireguard-go", "iperf3"),
]
TIMEOUT = 120.0


def test_a_run_measures_and_leaves_nothing(tmp_path: Path) -> None:
    before = namespaces()
    file = tmp_path / "run.json"
    options = ("--only", "tcp-1,rtt,cold,peers-1", "--pairs", "1", "--output", str(file))
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--ours", "wireguard-go", "--against", "none", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert "| TCP, 1 flow | Gbit/s |" in done.stdout
    found = results.load(file)
    for name, measure in found.measures.items():
        assert measure.failures == {}
        for figure in measure.figures:
            (value,) = measure.values("wireguard-go", figure)
            assert value > 0, (name, figure)
    assert not [name for name in namespaces() - before if name.endswith("-bench")]


@pytest.fixture
def generator() -> None:
    if (reason := trial.missing()) is not None:
        pytest.skip(reason)


@pytest.mark.usefixtures("generator", "clean_machine")
@pytest.mark.parametrize("segment", [False, True])
def test_generator_and_sink_over_a_bare_link(segment: bool) -> None:
    with road_of(BARE) as road:
        done = trial.paced(road, 20_000, 512, 0.3, segment=segment, flows=4)
        burst = trial.burst(road, 500, 64, segment=segment)
    assert done.sent == done.arrived == 6000
    assert burst.sent == burst.arrived == 500
    for found in (done, burst):
        assert 0 < found.p50 <= found.p99 <= found.longest
        assert not any(found.more[name] for name in ("duplicates", "strangers", "refused"))
    # Several packets in a call, with UDP_SEGMENT or with sendmmsg.
    assert burst.more["calls"] == 8


@pytest.mark.usefixtures("generator", "clean_machine")
def test_a_tunnel_at_a_low_rate_loses_nothing() -> None:
    with road_of(CONTENDERS["wireguard-go"]) as road:
        done = trial.paced(road, 1000, 1420, 0.5)
    assert done.sent == done.arrived == 500
    assert done.more["duplicates"] == 0


@pytest.mark.usefixtures("generator", "clean_machine")
def test_one_end_alone_counts_what_it_sent() -> None:
    with tunnel_of(CONTENDERS["wireguard-go"]) as (net, tunnel):
        road = road_through(net, tunnel)
        each = sealing.bytes_for_one(road, tunnel, 1420)

        def count() -> float:
            return sealing.sent_bytes(tunnel) / each

        # Where the far end ran, it would answer that nobody listens.
        with sealing.standing_still(tunnel.right):
            found = trial.sealed(road, 1000, 1420, 0.3, count, segment=False)
    # Header and tag of a transport message, 16 bytes each; no padding beyond the MTU.
    assert each == 1420 + 32
    assert found.sent == found.arrived == 300


def namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").glob("*")}
