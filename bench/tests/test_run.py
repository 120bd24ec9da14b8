"""Turns, results and reports, with measures that measure nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import plot, report, results, runner
from bench.contenders import CONTENDERS, OURS, Contender
from bench.measures import MEASURES
from bench.measures.measure import Figure, Measure
from bench.stats import Spread
from tests.support.programs import Implementation

A = Contender("a", Implementation("a", "wgpy"), "wgpy")
B = Contender("b", Implementation("b", "wg"), "wg")
MINUTE = 60.0


def measure_of(
    take: Callable[[Contender], dict[str, float]], *, ours_only: bool = False
) -> Measure:
    figures = {"speed": Figure("speed", "m/s", higher_is_better=True, limit=3.0)}
    return Measure("speed", "nothing", figures, take, group="g", ours_only=ours_only)


def run(measure: Measure, pairs: int = 3, seconds: float = MINUTE) -> results.Results:
    return runner.run([measure], [A, B], pairs, seconds, lambda _: None)


def test_samples_are_taken_in_turns() -> None:
    order: list[str] = []

    def take(contender: Contender) -> dict[str, float]:
        order.append(contender.name)
        return {"speed": float(len(order))}

    found = run(measure_of(take))
    assert order == ["a", "b"] * 3
    assert found.measures["speed"].values("a", "speed") == [1.0, 3.0, 5.0]
    assert found.measures["speed"].values("b", "speed") == [2.0, 4.0, 6.0]


def test_one_that_fails_is_left_out_and_told() -> None:
    order: list[str] = []

    def take(contender: Contender) -> dict[str, float]:
        order.append(contender.name)
        if contender is B:
            raise AssertionError("it did\nnot start")
        return {"speed": 2.0}

    found = run(measure_of(take), pairs=4)
    assert order == ["a", "b", "a", "b", "a", "a"]
    assert found.measures["speed"].failures == {"b": "it did not start"}
    assert "b failed: it did not start" in report.table(found)


def test_what_says_something_of_us_alone_asks_nobody_else() -> None:
    asked: list[Contender] = []

    def take(contender: Contender) -> dict[str, float]:
        asked.append(contender)
        return {"speed": 1.0}

    run(measure_of(take, ours_only=True), pairs=2)
    assert asked == [A, A]


def test_time_that_is_over_ends_between_pairs() -> None:
    found = run(measure_of(lambda _: {"speed": 1.0}), seconds=-1.0)
    assert found.measures["speed"].samples == {}
    assert "0 of 3 pairs" in found.notes[0]
    assert "0 of 3 pairs" in report.table(found)


def test_results_survive_the_disk(tmp_path: Path) -> None:
    found = run(measure_of(lambda contender: {"speed": float(contender is A)}))
    results.save(found, tmp_path / "deep" / "run.json")
    assert results.load(tmp_path / "deep" / "run.json") == found


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "x": 1}'])
def test_what_is_no_result_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(results.ResultsError, match=r"x\.json: no results") as refused:
        results.load(tmp_path / "x.json")
    assert "\n" not in str(refused.value)


def test_table_has_medians_ratios_and_promises() -> None:
    found = run(measure_of(lambda contender: {"speed": 4.0 if contender is A else 2.0}))
    text = report.table(found)
    assert (
        "| speed (at most 3: BROKEN) | m/s | 4 (4 to 4) | 2 (2 to 2) | 2 (2 to 2) better |" in text
    )


def test_table_without_a_sample_has_dashes() -> None:
    found = run(measure_of(lambda _: {"speed": 1.0}), seconds=-1.0)
    assert "| speed (at most 3) | m/s | - | - | - |" in report.table(found)


@pytest.mark.parametrize(
    ("found", "higher", "text"),
    [
        (Spread(1.2, 1.1, 1.3), True, "better"),
        (Spread(1.2, 1.1, 1.3), False, "worse"),
        (Spread(0.8, 0.7, 0.9), False, "better"),
        (Spread(1.2, 0.9, 1.3), True, "even"),
    ],
)
def test_a_ratio_is_judged_by_its_quartiles(found: Spread, higher: bool, text: str) -> None:
    assert report.judge(found, higher) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.12345, "0.123"), (12.345, "12.3"), (12345.0, "12300")]
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert report.significant(value) == text


def test_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = run(measure_of(lambda _: {"speed": 1.0}))
    plot.plot(found, tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_measures_are_chosen_by_name_and_by_group() -> None:
    assert command.select_measures(None) == list(MEASURES.values())
    assert [each.name for each in command.select_measures("rtt,tcp")] == ["tcp", "rtt"]
    assert len(command.select_measures("peers")) == 3
    with pytest.raises(command.UsageError, match="no measure 'tpc'"):
        command.select_measures("tpc")


def test_contenders_are_chosen_by_name() -> None:
    assert command.select_others("none") == []
    assert [each.name for each in command.select_others("wireguard-go")] == ["wireguard-go"]
    assert OURS not in command.select_others("all")
    with pytest.raises(command.UsageError, match="no contender 'x'"):
        command.select_others("x")
    assert [name for name, each in CONTENDERS.items() if each.is_ours] == [OURS.name]


def test_unknown_names_are_one_line_on_standard_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command.main(["report", str(tmp_path / "none.json")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("bench: ")
    assert said.count("\n") == 1
