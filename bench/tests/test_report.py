"""Targets, tables of sections, and curves, made from numbers that were never measured."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from bench import plot, report, targets
from bench.contenders import BARE, LATEST
from bench.measures import MEASURES
from bench.results import MeasureResult, Results
from bench.stats import Spread

OURS = "wgpy-native"
MACHINE = {
    "cpu": "a processor",
    "cpus": 2,
    "memory_gib": 4.0,
    "kernel": "6.18",
    "system": "Debian",
    "python": "3.11",
    "cryptography": "50",
    "load_before": 0.0,
}


def results_of(samples: Mapping[str, Mapping[str, list[dict[str, float]]]]) -> Results:
    """A run with these samples: measure, contender, one dict a round."""
    run = Results(
        started="2026-01-02T03:04:05+00:00",
        machine=MACHINE,
        ours=OURS,
        contenders={OURS: "1", LATEST.name: "2", BARE.name: "3"},
        pairs=1,
        bare=BARE.name,
    )
    for name, taken in samples.items():
        measure = MEASURES[name]
        figures = {key: asdict(figure) for key, figure in measure.figures.items()}
        run.measures[name] = MeasureResult(
            measure.what, figures, measure.section, measure.x, samples=dict(taken)
        )
    return run


def three(
    ours: float, latest: float, bare: float, figure: str
) -> dict[str, list[dict[str, float]]]:
    return {OURS: [{figure: ours}], LATEST.name: [{figure: latest}], BARE.name: [{figure: bare}]}


@pytest.mark.parametrize(
    ("ours", "text"),
    [
        (6.0, "2 (2 to 2) | reached by 18%, and the aim |"),
        (5.4, "1.8 (1.8 to 1.8) | reached by 6% |"),
        (4.5, "1.5 (1.5 to 1.5) | NOT reached, 12% too little |"),
    ],
)
def test_a_target_is_reached_or_not_and_by_how_much(ours: float, text: str) -> None:
    found = results_of({"tcp-4": three(ours, 3.0, 50.0, "throughput")})
    line = f"| TCP, 4 flows | {LATEST.name} | at least 1.7 | 2 | {text}"
    assert line in report.table(found)


def test_less_is_better_where_it_is() -> None:
    found = results_of({"rtt": three(0.2, 0.5, 0.1, "p99")})
    line = "| idle round trip, p99 | wireguard-go-latest | at most 0.7 | - | 0.4 (0.4 to 0.4) | "
    assert line + "reached by 43% |" in report.table(found)


def test_ours_with_many_peers_is_compared_with_ours() -> None:
    found = results_of({"crowd": {OURS: [{"share": 0.9}], LATEST.name: [{"share": 1.0}]}})
    line = "| itself | at least 0.95 | - | 0.9 (0.9 to 0.9) | NOT reached, 5% too little |"
    assert line in report.table(found)


def test_without_the_other_there_is_no_target() -> None:
    found = results_of({"tcp-1": {OURS: [{"throughput": 5.0}]}})
    assert all(spread is None for _, spread in targets.rows(found))
    assert "## Targets" not in report.table(found)


def test_a_rate_that_was_not_found_divides_nothing() -> None:
    found = results_of({"udp-plain-64": three(5.0, 0.0, 100.0, "rate")})
    assert all(spread is None for _, spread in targets.rows(found))
    assert "| 5 (5 to 5) | 0 (0 to 0) | 100 (100 to 100) | - | 0.05 (0.05 to 0.05) |" in (
        report.table(found)
    )


def test_every_target_names_what_is_measured() -> None:
    for target in targets.TARGETS:
        assert target.figure in MEASURES[target.measure].figures, target.title


def test_measures_of_a_section_share_a_table() -> None:
    found = results_of(
        {
            "udp-plain-64": three(200.0, 50.0, 250.0, "rate"),
            "udp-plain-1420": three(150.0, 50.0, 250.0, "rate"),
        }
    )
    text = report.table(found)
    assert text.count("## UDP without loss, plain sender") == 1
    assert "| throughput, 64 bytes | 1000/s | 200 (200 to 200) |" in text
    # The shares of what the machine does without a tunnel.
    assert "| throughput, 64 bytes, plain sender | 1000/s | 250 | no tunnel | 200 | 80.0% |" in text


def test_aead_sets_a_limit_to_tcp() -> None:
    found = results_of(
        {
            "aead": {OURS: [{"openssl-1424": 684.0}]},
            "tcp-1": {OURS: [{"throughput": 8.0}]},
        }
    )
    assert "| 16 | AEAD of OpenSSL on 2 CPUs | 8 | 50.0% |" in report.table(found)


def test_loss_curves_are_one_table() -> None:
    curve = {f"at-{step}": float(step) for step in range(90, 0, -10)}
    found = results_of({"loss-plain-64": {OURS: [curve], LATEST.name: [{"at-100": 50.0}]}})
    text = report.table(found)
    assert f"| 64 | {OURS} | - | 90 | 80 | 70 | 60 | 50 | 40 | 30 | 20 | 10 |" in text
    assert f"| 64 | {LATEST.name} | 50 | - |" in text


def test_curves_are_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = results_of(
        {
            "tcp-1": three(5.0, 3.0, 50.0, "throughput"),
            "tcp-4": three(5.0, 3.0, 50.0, "throughput"),
            "rtt": three(0.2, 0.4, 0.1, "p50"),
            "udp-plain-64": three(200.0, 50.0, 250.0, "rate"),
            "udp-plain-512": three(200.0, 50.0, 250.0, "rate"),
            "loss-plain-64": three(1.0, 2.0, 0.0, "at-50"),
        }
    )
    made = plot.plot(found, tmp_path / "run.png")
    names = ["run.png", "run-tcp.png", "run-udp.png", "run-loss.png"]
    assert [path.name for path in made] == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)


def test_nothing_to_draw_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(plot.PlotError, match="no samples"):
        plot.plot(results_of({}), tmp_path / "run.png")


def test_verdicts_say_by_how_much() -> None:
    target = targets.Target("x", "rtt", "p50", 0.5, 0.4, higher_is_better=False)
    assert targets.verdict(target, 0.6) == "NOT reached, 20% too much"
    assert targets.verdict(target, 0.45) == "reached by 10%"
    assert targets.verdict(target, 0.4) == "reached by 20%, and the aim"


def test_small_numbers_are_not_zero() -> None:
    assert report.significant(0.00001234) == "0.000012"
    assert report.show_spread(Spread(12345.0, 0.5, 2e6)) == "12300 (0.5 to 2000000)"
