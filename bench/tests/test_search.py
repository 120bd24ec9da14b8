"""The searches of RFC 2544, against devices whose limit is known."""

import random
from collections.abc import Callable

import pytest

from bench import search
from bench.search import Bounds, Found, Start, Trial

BOUNDS = Bounds(floor=500, ceiling=1_000_000, resolution=0.03, trials=18)
BURSTS = Bounds(floor=16, ceiling=65_536, resolution=0.05, trials=18)


def device(
    limit: float, *, sender: float = 1e9, hiccup: Callable[[], bool] = lambda: False
) -> Callable[[float], Trial]:
    """Carries `limit` packets a second of a `sender` that can send so many, and has hiccups that
    lose one packet in a hundred."""

    def run(wanted: float) -> Trial:
        rate = min(wanted, sender)
        sent = round(rate)
        arrived = min(sent, round(limit))
        if hiccup():
            arrived = round(arrived * 0.99)
        return Trial(wanted, sent, arrived, sent / rate, span=1.0)

    return run


def throughput(
    run: Callable[[float], Trial], bounds: Bounds = BOUNDS, start: Start | None = None
) -> Found:
    return search.throughput(run, run, bounds, start)


def rate_of(found: Found) -> float:
    assert found.best is not None
    return found.best.rate


@pytest.mark.parametrize("limit", [700, 22_361, 56_000, 215_000, 862_000])
def test_the_limit_is_found_to_the_resolution(limit: float) -> None:
    found = throughput(device(limit), BOUNDS)
    # A trial passes with a loss of 0.01 %.
    assert limit / 1.031 <= rate_of(found) <= limit * 1.0002
    assert not found.short
    assert len(found.trials) <= 15


@pytest.mark.parametrize("guess", [0.9, 0.97, 1.0, 1.05, 1.12])
def test_a_good_guess_spares_trials(guess: float) -> None:
    found = throughput(device(56_000), start=Start(56_000 * guess, 1.06))
    assert 56_000 / 1.031 <= rate_of(found) <= 56_006
    # Those near the limit that lost little are taken twice.
    assert len(found.trials) <= 8


@pytest.mark.parametrize("guess", [1e-9, 0.02, 0.5, 3.0, 40.0])
def test_a_bad_guess_finds_the_same(guess: float) -> None:
    found = throughput(device(56_000), start=Start(56_000 * guess, 1.06))
    assert 56_000 / 1.031 <= rate_of(found) <= 56_006


def test_a_rate_that_holds_for_a_short_time_only_is_taken_back() -> None:
    found = search.throughput(device(100_000), device(80_000), BOUNDS)
    assert 80_000 * 0.8 <= rate_of(found) <= 80_008
    # The last trial of all is the one whose rate it is.
    assert found.best is found.trials[-1]


def test_a_rate_that_never_holds_is_none() -> None:
    found = search.throughput(device(100_000), device(0), BOUNDS)
    assert found.best is None


@pytest.mark.parametrize("seed", range(20))
def test_rare_hiccups_do_not_decide(seed: int) -> None:
    chance = random.Random(seed)
    found = throughput(device(56_000, hiccup=lambda: chance.random() < 0.1), BOUNDS)
    # Two in a row, at one rate in a hundred, cost no more than that step and those above.
    assert 22_000 <= rate_of(found) <= 56_006
    assert len(found.trials) <= BOUNDS.trials


def test_most_searches_with_hiccups_find_the_limit() -> None:
    near = 0
    for seed in range(50):
        chance = random.Random(seed)
        run = device(56_000, hiccup=lambda chance=chance: chance.random() < 0.1)  # type: ignore[misc]
        near += rate_of(throughput(run, BOUNDS)) > 56_000 / 1.07
    assert near >= 40


def test_a_sender_that_is_the_limit_is_told() -> None:
    found = throughput(device(1e9, sender=250_000), BOUNDS)
    assert rate_of(found) == pytest.approx(250_000)
    assert found.short


def test_a_device_above_the_ceiling_is_told() -> None:
    found = throughput(device(1e9), BOUNDS)
    assert rate_of(found) > BOUNDS.ceiling / 1.03**2
    assert found.short


def test_a_device_that_carries_nothing_has_no_rate() -> None:
    found = throughput(device(0), BOUNDS)
    assert found.best is None
    assert len(found.trials) <= BOUNDS.trials


def test_trials_are_bounded() -> None:
    few = Bounds(floor=500, ceiling=1_000_000, resolution=0.0001, trials=7)
    # And one that verifies.
    assert len(throughput(device(56_000), few).trials) <= 8


def test_what_stays_in_a_queue_is_not_carried() -> None:
    # A tunnel that loses nothing in a second, since its queue holds what it cannot carry.
    def run(wanted: float) -> Trial:
        return Trial(wanted, round(wanted), round(wanted), 1.0, span=max(1.0, wanted / 50_000))

    assert rate_of(throughput(run, BOUNDS)) <= 50_000 * (1 + search.GRACE)


@pytest.mark.parametrize("limit", [20, 500, 30_000])
def test_the_longest_burst_is_found(limit: int) -> None:
    def run(count: int) -> Trial:
        return Trial(count, count, min(count, limit), 0.001)

    found = search.longest_burst(run, BURSTS)
    assert found.best is not None
    assert limit / 1.06 - 1 <= found.best.sent <= limit
    assert not found.short


def test_a_burst_that_is_longer_than_what_is_tried_is_told() -> None:
    found = search.longest_burst(lambda count: Trial(count, count, count, 0.001), BURSTS)
    assert found.short


def test_loss_and_rate_of_a_trial() -> None:
    trial = Trial(wanted=1000, sent=1000, arrived=990, seconds=2.0)
    assert trial.loss == pytest.approx(0.01)
    assert trial.rate == 500
    assert not trial.passed
    nothing = Trial(wanted=1000, sent=0, arrived=0, seconds=0.0)
    assert (nothing.loss, nothing.rate) == (1.0, 0.0)
