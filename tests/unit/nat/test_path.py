"""When a path is asked, and when it is called dead; what is kept of paths; checks."""

from collections import Counter

import pytest

from wgpy.nat.candidates import Rank
from wgpy.nat.path import BUSY_INTERVAL, Health, Path
from wgpy.nat.paths import MAX_PATHS, Paths
from wgpy.nat.place import Place
from wgpy.nat.watch import Checks, Watch

PLACE = Place("192.0.2.1", 51820)


def proved(now=100.0, round_trip=0.06):
    path = Path(PLACE, Rank.V4)
    path.last_asked = now - round_trip
    path.answered(now - round_trip, now)
    return path


def live(path, now, until, *, answers, heard=lambda now: False, interval=BUSY_INTERVAL):
    """Ask as it says; returns when it is dead, and how often it was asked."""
    asked = 0
    while now < until:
        if heard(now):
            path.last_heard = now
        health = path.look(interval, now)
        if health is Health.DEAD:
            return now, asked
        if health is Health.ASK:
            asked += 1
            path.asked(now)
            if answers(now):
                path.answered(now, now + path.round_trip)
        now += 0.01
    return None, asked


def test_a_living_path_is_asked_every_second_and_a_half():
    path = proved()
    dead, asked = live(path, 100.0, 160.0, answers=lambda now: True)
    assert dead is None
    assert 36 <= asked <= 40
    assert path.loss == 0


@pytest.mark.parametrize("round_trip", [0.001, 0.06, 0.3, 1.0, 3.0])
def test_a_death_is_known_in_under_five_seconds(round_trip):
    dead, asked = live(proved(round_trip=round_trip), 100.0, 200.0, answers=lambda now: False)
    assert dead - 100.0 < 4.6
    assert asked == 3


@pytest.mark.parametrize("round_trip", [0.001, 0.06, 0.3, 1.0, 3.0])
def test_also_while_packets_still_come_from_there(round_trip):
    """The way there is dead, and the way back is not."""
    path = proved(round_trip=round_trip)
    dead, asked = live(path, 100.0, 200.0, answers=lambda now: False, heard=lambda now: True)
    assert 4.0 < dead - 100.0 < 4.7
    assert asked >= 3


def test_what_was_under_way_is_no_sign_of_life():
    path = proved()
    path.asked(101.5)
    path.last_heard = 101.53
    path.asked(102.0)
    path.asked(102.5)
    assert path.look(BUSY_INTERVAL, 103.0) is Health.DEAD


def test_every_second_answer_is_enough():
    answers = iter([False, True] * 100)
    dead, _ = live(proved(), 100.0, 200.0, answers=lambda now: next(answers))
    assert dead is None


def test_an_answer_to_an_earlier_question_does_not_count_for_a_later_one():
    path = proved()
    for when in (101.0, 101.5, 102.0):
        path.asked(when)
    path.answered(101.0, 102.1)
    assert path.waiting == [101.5, 102.0]
    assert path.falters
    path.answered(102.0, 102.2)
    assert path.waiting == []
    assert path.loss == pytest.approx(1 / 4)


def test_round_trips_are_smoothed():
    path = Path(PLACE, Rank.V4)
    path.answered(1.0, 1.1)
    assert path.round_trip == pytest.approx(0.1)
    path.answered(2.0, 2.9)
    assert path.round_trip == pytest.approx(0.2)


def test_an_idle_path_is_asked_as_often_as_its_nats_need():
    _, asked = live(proved(), 100.0, 400.0, answers=lambda now: True, interval=20.0)
    assert 14 <= asked <= 15


def test_whether_there_is_traffic():
    watch = Watch(25.0)
    assert watch.interval(used=True, now=1.0) == 25.0
    watch.active(10.0)
    assert watch.interval(used=True, now=14.9) == BUSY_INTERVAL
    assert watch.interval(used=False, now=14.9) == 25.0
    assert watch.interval(used=True, now=15.0) == 25.0


# --- The table ---


def place(number):
    return Place("192.0.2.1", number + 1)


def test_the_table_has_an_end_and_what_showed_itself_goes_first():
    counters = Counter()
    paths = Paths(counters)
    told = [paths.add(place(number), told=True) for number in range(10)]
    shown = [paths.add(place(100 + number), told=False) for number in range(MAX_PATHS)]
    assert len(paths) == MAX_PATHS
    assert all(paths.get(path.place) is path for path in told)
    assert paths.get(shown[0].place) is None
    assert counters["paths_displaced"] == 10
    for path in paths:
        path.proved = True
    assert paths.add(place(999), told=True) is None
    assert counters["paths_full"] == 1


def test_a_dead_path_is_replaced_by_a_relay_if_there_is_one():
    paths = Paths(Counter())
    assert paths.best() is None
    slow, fast = paths.add(place(1), told=True), paths.add(place(2), told=True)
    relay = paths.add(Place("198.51.100.9", 1, 7, 0x4000), told=True)
    assert relay.rank is Rank.RELAY
    slow.answered(0.0, 0.5)
    fast.answered(0.0, 0.1)
    assert paths.best() is fast
    relay.answered(0.0, 0.9)
    assert paths.best() is relay


def test_few_are_kept_in_reserve():
    paths = Paths(Counter())
    all_of_them = [paths.add(place(number), told=True) for number in range(6)]
    for number, path in enumerate(all_of_them):
        path.answered(0.0, 0.1 * (number + 1))
    paths.forget_spare(all_of_them[5])
    assert set(paths) == {all_of_them[0], all_of_them[1], all_of_them[5]}


def test_what_was_tried_in_vain_is_forgotten():
    paths = Paths(Counter())
    kept, good, vain = (paths.add(place(number), told=True) for number in range(3))
    good.answered(0.0, 0.1)
    paths.forget_unproved(frozenset({kept.place}))
    assert set(paths) == {kept, good}
    assert vain.place not in {path.place for path in paths}


def test_relayed_candidates_rank_as_relays():
    paths = Paths(Counter())
    paths.told_relayed(frozenset({("198.51.100.9", 5)}))
    assert paths.add(Place("198.51.100.9", 5), told=True).rank is Rank.RELAY
    assert paths.add(Place("198.51.100.9", 6), told=True).rank is Rank.V4


# --- Checks ---


def moments(checks, start, seconds):
    return [
        round(start + tick / 100, 2)
        for tick in range(round(seconds * 100))
        if checks.step(start + tick / 100)
    ]


def test_a_relay_is_asked_until_it_answers():
    checks = Checks()
    checks.soon(PLACE, 100.0)
    asked = moments(checks, 100.0, 30.0)
    assert asked[:5] == pytest.approx([100.0, 100.2, 100.6, 101.4, 103.0], abs=0.03)
    assert asked[-1] > 125
    assert checks.due() > 129
    checks.end(PLACE)
    assert checks.due() is None


def test_a_lost_path_is_asked_for_a_while():
    checks = Checks()
    checks.revive(PLACE, 100.0)
    assert moments(checks, 100.0, 30.0) == [100.0 + number for number in range(11)]
    assert checks.places() == frozenset()
    checks.revive(PLACE, 200.0)
    checks.end_revivals()
    assert checks.due() is None
