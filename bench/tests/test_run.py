"""Turns, results and reports, with measures that measure nothing."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import plan, plot, report, results, runner, trial
from bench.contenders import BARE, CONTENDERS, NATIVE, PORTABLE, Contender, default_ours
from bench.measures import MEASURES
from bench.measures.measure import Figure, Measure, Sample
from bench.plan import Rank
from bench.stats import Spread
from tests.support.programs import Implementation

A = Contender("a", Implementation("a", "wgpy"), "wgpy")
B = Contender("b", Implementation("b", "wg"), "wg")
MINUTE = 60.0


def measure_of(
    take: Callable[[Contender], dict[str, float] | Sample],
    *,
    ours_only: bool = False,
    bare: bool = False,
    missing: str | None = None,
    name: str = "speed",
    rank: Rank = Rank.EVERYONE,
    seconds: float = 1.0,
) -> Measure:
    figures = {"speed": Figure("speed", "m/s", higher_is_better=True, limit=3.0)}
    return Measure(
        name,
        "nothing",
        figures,
        lambda contender, _: take(contender),
        group="g",
        ours_only=ours_only,
        bare=bare,
        missing=lambda: missing,
        rank=rank,
        seconds=seconds,
    )


def run(
    *measures: Measure,
    pairs: int = 3,
    seconds: float = MINUTE,
    who: Sequence[Contender] = (A, B),
    keep: runner.Keep = lambda _: None,
) -> results.Results:
    return runner.run(measures, who, pairs, seconds, lambda _: None, keep)


def test_samples_are_taken_in_turns_and_in_both_orders() -> None:
    order: list[str] = []

    def take(contender: Contender) -> dict[str, float]:
        order.append(contender.name)
        return {"speed": float(len(order))}

    found = run(measure_of(take))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found.measures["speed"].values("a", "speed") == [1.0, 4.0, 5.0]
    assert found.measures["speed"].values("b", "speed") == [2.0, 3.0, 6.0]


def test_each_round_takes_every_measure() -> None:
    order: list[str] = []

    def take(name: str, contender: Contender) -> dict[str, float]:
        order.append(f"{name}{contender.name}")
        return {"speed": 1.0}

    run(
        measure_of(functools.partial(take, "x"), name="x"),
        measure_of(functools.partial(take, "y"), name="y"),
        pairs=2,
    )
    assert order == ["xa", "xb", "ya", "yb", "xb", "xa", "yb", "ya"]


def test_one_that_fails_is_left_out_and_told() -> None:
    order: list[str] = []

    def take(contender: Contender) -> dict[str, float]:
        order.append(contender.name)
        if contender is B:
            raise AssertionError("it did\nnot start")
        return {"speed": 2.0}

    found = run(measure_of(take), pairs=4)
    assert order == ["a", "b", "b", "a", "a", "a"]
    assert found.measures["speed"].failures == {"b": "it did not start"}
    assert "b failed: it did not start" in report.table(found)


def test_what_follows_a_failure_stays_beside_its_own_round() -> None:
    turns = iter(range(100))

    def take(contender: Contender) -> dict[str, float]:
        turn = next(turns)
        if contender is B and turn == 1:
            raise AssertionError("only once")
        return {"speed": float(turn)}

    speed = run(measure_of(take)).measures["speed"]
    assert speed.values("b", "speed") == [2.0, 5.0]
    assert speed.pairs("a", "b", "speed") == ([3.0, 4.0], [2.0, 5.0])


def test_no_tunnel_is_measured_where_that_says_something() -> None:
    asked: list[str] = []

    def take(contender: Contender) -> dict[str, float]:
        asked.append(contender.name)
        return {"speed": 1.0}

    found = run(
        measure_of(take, bare=True, name="x"),
        measure_of(take, name="y"),
        pairs=1,
        who=(A, BARE),
    )
    assert asked == ["a", BARE.name, "a"]
    assert found.bare == BARE.name
    # Its ratio is a share, and judges nobody.
    assert "| 1 (1 to 1) | 1 (1 to 1) | 1 (1 to 1) |" in report.table(found)


def test_what_cannot_be_measured_here_is_told_once() -> None:
    def take(contender: Contender) -> dict[str, float]:
        raise AssertionError(f"{contender.name} was asked")

    lacking = [measure_of(take, missing="no cargo", name=name) for name in ("x", "y")]
    found = run(*lacking)
    assert found.measures == {}
    assert found.notes == ["x, y: no cargo"]
    assert "- x, y: no cargo" in report.table(found)


def test_what_samples_are_made_of_is_kept() -> None:
    found = run(measure_of(lambda _: Sample({"speed": 1.0}, [{"wanted": 5}])), pairs=2)
    assert found.measures["speed"].trials["a"] == [[{"wanted": 5}], [{"wanted": 5}]]


def test_an_interrupt_keeps_what_was_taken(tmp_path: Path) -> None:
    turns = iter(range(100))
    path = tmp_path / "run.json"

    def take(contender: Contender) -> dict[str, float]:
        if next(turns) == 3:
            raise KeyboardInterrupt
        return {"speed": 1.0}

    found = run(measure_of(take), keep=lambda part: results.save(part, path))
    assert found.interrupted
    assert found.notes == ["speed: 1 of 3 pairs, the run was interrupted"]
    assert results.load(path) == found
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_run_that_ended_early_is_gone_on_with(tmp_path: Path) -> None:
    taken: list[str] = []

    def take(contender: Contender) -> dict[str, float]:
        taken.append(contender.name)
        return {"speed": float(len(taken))}

    measures = (measure_of(take), measure_of(take, name="other", rank=Rank.SPARE))
    first = run(*measures, pairs=2)
    # The second round had no time for the other measure.
    for samples in first.measures["other"].samples.values():
        del samples[1:]
    results.save(first, tmp_path / "run.json")
    former = results.load(tmp_path / "run.json")
    whole = runner.run(measures, (A, B), 3, MINUTE, lambda _: None, former=former)
    assert len(taken) == 8 + 4
    assert [len(x) for x in whole.measures["speed"].samples.values()] == [3, 3]
    for samples in whole.measures["other"].samples.values():
        assert [bool(sample) for sample in samples] == [True, False, True]
    assert whole.started == first.started
    assert len(whole.resumed) == 2


def test_a_run_of_others_is_not_gone_on_with() -> None:
    measure = measure_of(lambda _: {"speed": 1.0})
    former = run(measure, pairs=1)
    with pytest.raises(results.ResultsError, match="of other contenders or measures"):
        runner.run((measure,), (B, A), 2, MINUTE, lambda _: None, former=former)


def test_results_are_kept_after_each_pair() -> None:
    kept: list[int] = []

    def keep(part: results.Results) -> None:
        kept.append(len(part.measures["speed"].samples.get("a", [])))

    run(measure_of(lambda _: {"speed": 1.0}), keep=keep)
    assert kept == [1, 2, 3, 3]


def test_what_says_something_of_us_alone_asks_nobody_else() -> None:
    asked: list[Contender] = []

    def take(contender: Contender) -> dict[str, float]:
        asked.append(contender)
        return {"speed": 1.0}

    run(measure_of(take, ours_only=True), pairs=2)
    assert asked == [A, A]


def test_what_there_is_no_time_for_waits_for_its_turn() -> None:
    # Each round has 10 s: 4 for what always is, and 6 for one of the two others.
    costs = {"always": 4.0, "x": 6.0, "y": 6.0}
    everyone = [group for name in costs for group in plan.groups(name, rank_of(name), (A,), (A,))]
    taken: dict[plan.Group, int] = {}
    order = []
    for _ in range(4):
        chosen = plan.choose(everyone, lambda measure, _: costs[measure], taken, 10.0)
        for group in chosen:
            taken[group] = taken.get(group, 0) + 1
        order.append([group.measure for group in chosen])
    assert order == [["always", "x"], ["always", "y"]] * 2


def rank_of(name: str) -> Rank:
    return Rank.EVERYONE if name == "always" else Rank.SPARE


@pytest.mark.parametrize(
    ("rank", "always", "spare"),
    [
        (Rank.EVERYONE, ("a", "b", "c"), (BARE.name,)),
        (Rank.FIRST_TWO, ("a", "b"), ("c", BARE.name)),
        (Rank.SPARE, (), ("a", "b", "c", BARE.name)),
    ],
)
def test_who_is_of_every_round(rank: Rank, always: tuple[str, ...], spare: tuple[str, ...]) -> None:
    who = (A, B, dataclasses.replace(B, name="c"), BARE)
    made = plan.groups("speed", rank, who, who)
    assert [group.contenders for group in made if group.always] == ([always] if always else [])
    assert [group.contenders for group in made if not group.always] == [spare]


def test_those_that_were_left_out_of_a_round_stay_beside_their_own() -> None:
    turn = iter(range(100))
    third = dataclasses.replace(B, name="c")
    # No time for more than what always is: a round is planned with 0.97 of 60 / 3 seconds.
    found = run(
        measure_of(lambda _: {"speed": float(next(turn))}, rank=Rank.FIRST_TWO, seconds=9.0),
        who=(A, B, third),
    )
    speed = found.measures["speed"]
    # What the first round took was next to nothing: from then on there is time.
    assert speed.samples["c"] == [{}, {"speed": 2.0}, {"speed": 7.0}]
    assert speed.pairs("a", "c", "speed") == ([4.0, 5.0], [2.0, 7.0])
    assert found.notes == ["speed: 2 of 3 pairs of c, the time of 1 minutes was over"]


def test_time_that_is_over_ends_between_pairs() -> None:
    found = run(measure_of(lambda _: {"speed": 1.0}), seconds=-1.0)
    assert found.measures["speed"].samples == {}
    assert "0 of 3 pairs" in found.notes[0]
    assert "0 of 3 pairs" in report.table(found)


def test_results_survive_the_disk(tmp_path: Path) -> None:
    found = run(measure_of(lambda contender: {"speed": float(contender is A)}))
    results.save(found, tmp_path / "deep" / "run.json")
    assert results.load(tmp_path / "deep" / "run.json") == found


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 2, "x": 1}'])
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
    assert plot.plot(found, tmp_path / "run.png") == [tmp_path / "run.png"]
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_measures_are_chosen_by_name_and_by_group() -> None:
    usual = {each.name for each in command.select_measures(None)}
    assert {"tcp-1", "rtt", "udp-plain-64", "crowd"} <= usual
    assert not {"udp-plain-128", "loss-plain-64"} & usual
    assert command.select_measures("all") == list(MEASURES.values())
    flows = ["tcp-1", "tcp-4", "tcp-16"]
    assert [each.name for each in command.select_measures("rtt,tcp")] == [*flows, "rtt"]
    assert len(command.select_measures("peers")) == 3
    assert len(command.select_measures("udp-plain")) == 7
    assert len(command.select_measures("udp,loss,burst")) == 42
    with pytest.raises(command.UsageError, match="no measure 'tpc'"):
        command.select_measures("tpc")


def test_contenders_are_chosen_by_name() -> None:
    assert command.select_others("none") == []
    assert [each.name for each in command.select_others("wireguard-go")] == ["wireguard-go"]
    assert not any(each.is_ours for each in command.select_others("all"))
    with pytest.raises(command.UsageError, match="no contender 'x'"):
        command.select_others("x")
    ours = [name for name, each in CONTENDERS.items() if each.is_ours]
    assert ours == ["wgpy-native", "wgpy-portable"]


def test_the_native_one_is_ours_where_it_is_built() -> None:
    missing = NATIVE.missing()
    assert default_ours() == (PORTABLE if missing else NATIVE)
    if missing:
        assert "no native data path" in missing


def test_one_that_needs_a_module_that_is_not_there_says_so() -> None:
    absent = dataclasses.replace(PORTABLE, modules=("wgpy.no_such_module",))
    told = absent.missing()
    assert told is not None
    assert "wgpy.no_such_module" in told


def test_without_cargo_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "cargo is not installed" in str(trial.missing.__wrapped__())


def test_unknown_names_are_one_line_on_standard_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command.main(["report", str(tmp_path / "none.json")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("bench: ")
    assert said.count("\n") == 1
