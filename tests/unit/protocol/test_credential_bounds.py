"""The bounds of the handshake with credentials, each at its edge and beyond."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.keys import PublicKey
from wgpy.protocol import credential_bounds as bounds
from wgpy.protocol.credential_bounds import Budget, Pending, RefusedLately, Stamps
from wgpy.protocol.tai64n import stamp

WALL = 1_700_000_000 * 10**9
HOME, AWAY = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
NET6 = bytes.fromhex("20010db800000001")


def key(number):
    return PublicKey(number.to_bytes(32, "little"))


def at(seconds):
    return stamp(WALL + int(seconds * 10**9))


# --- Budget ---


def taken(budget, now, tries):
    return sum(budget.take(now) for _ in range(tries))


@pytest.mark.parametrize("rate", [100, 500, 1000])
def test_a_budget_is_a_tenth_of_a_second_at_once(rate):
    budget = Budget(rate)
    assert taken(budget, 5.0, 10 * rate) == rate // 10
    assert budget.refused == 10 * rate - rate // 10
    assert taken(budget, 5.05, rate) == rate // 20


def test_a_budget_holds_over_time():
    budget = Budget(500)
    passed = sum(taken(budget, 1000.0 + step * 0.001, 10) for step in range(4000))
    assert 2000 <= passed <= 2052


def test_a_budget_says_how_long_to_wait():
    budget = Budget(500)
    assert budget.wait(7.0) == 0.0
    assert taken(budget, 7.0, 60) == 50
    assert budget.wait(7.0) == pytest.approx(0.002)


@given(st.floats(0, 1e7), st.integers(1, 200))
def test_after_the_wait_there_is_one_to_spend(now, tries):
    budget = Budget(100)
    taken(budget, now, tries)
    assert budget.take(now + budget.wait(now))


def test_a_clock_that_goes_back_gives_nothing():
    budget = Budget(100)
    assert taken(budget, 9.0, 20) == 10
    assert taken(budget, 1.0, 20) == 0
    assert taken(budget, 9.0, 20) == 0


# --- Refused lately ---


def test_a_refusal_lasts_a_minute():
    table = RefusedLately()
    table.add(key(1), HOME, 10.0)
    assert table.has(key(1), HOME, 69.9)
    assert not table.has(key(1), HOME, 70.0)
    assert not table.has(key(2), HOME, 10.0)
    assert table.hits == 1


def test_a_refusal_holds_where_it_was_earned():
    """A replay from elsewhere does not shut the owner of a key out."""
    table = RefusedLately()
    table.add(key(1), AWAY, 10.0)
    assert not table.has(key(1), HOME, 10.0)
    table.add(key(1), NET6 + bytes(8), 10.0)
    assert table.has(key(1), NET6 + b"\xff" * 8, 10.0)
    assert not table.has(key(1), NET6[:7] + b"\2" + bytes(8), 10.0)


def test_refusals_are_bounded_and_the_oldest_goes_first():
    table = RefusedLately()
    for number in range(bounds.MAX_REFUSED + 3):
        table.add(key(number), HOME, 10.0 + number * 0.001)
    assert len(table) == bounds.MAX_REFUSED == 4096
    assert table.evicted == 3
    assert not table.has(key(2), HOME, 20.0)
    assert table.has(key(3), HOME, 20.0)


def test_refusals_that_ended_make_room_by_themselves():
    table = RefusedLately(capacity=2)
    table.add(key(1), HOME, 0.0)
    table.add(key(2), HOME, 1.0)
    table.add(key(3), HOME, 60.5)
    assert (len(table), table.evicted) == (2, 0)
    assert table.has(key(2), HOME, 60.5)


def test_a_repeated_refusal_starts_anew():
    table = RefusedLately(capacity=2)
    table.add(key(1), HOME, 0.0)
    table.add(key(2), HOME, 1.0)
    table.add(key(1), HOME, 2.0)
    assert table.has(key(1), HOME, 61.5)
    table.add(key(3), HOME, 3.0)
    assert not table.has(key(2), HOME, 3.0)
    assert table.has(key(1), HOME, 3.0)


def test_refusals_end_when_what_is_trusted_changes():
    table = RefusedLately()
    table.add(key(1), HOME, 0.0)
    table.clear()
    assert not table.has(key(1), HOME, 0.0)


# --- Stamps ---


def test_a_stamp_is_good_once():
    stamps = Stamps()
    assert stamps.fault(key(1), at(0), WALL) is None
    stamps.record(key(1), at(0))
    assert stamps.fault(key(1), at(0), WALL) == "replayed_timestamp"
    assert stamps.fault(key(1), at(-1), WALL) == "replayed_timestamp"
    assert stamps.fault(key(1), at(1), WALL) is None
    assert stamps.fault(key(2), at(0), WALL) is None
    assert stamps.replayed == 2


def test_a_question_makes_no_entry():
    stamps = Stamps()
    stamps.fault(key(1), at(0), WALL)
    assert len(stamps) == 0
    assert stamps.greatest(key(1)) is None


@pytest.mark.parametrize(("ahead", "fault"), [(299, None), (301, "future_timestamp")])
def test_stamps_that_are_ahead(ahead, fault):
    stamps = Stamps()
    assert stamps.fault(key(1), at(ahead), WALL) == fault
    assert stamps.ahead == (fault is not None)


@pytest.mark.parametrize("stamp", [bytes(12), b"\xff" * 12])
def test_stamps_at_the_ends_of_the_scale(stamp):
    assert Stamps().fault(key(1), stamp, WALL) == ("future_timestamp" if stamp[0] else None)


def test_a_mark_in_the_configuration_counts():
    stamps = Stamps()
    assert stamps.fault(key(1), at(0), WALL, floor=at(0)) == "replayed_timestamp"
    assert stamps.fault(key(1), at(1), WALL, floor=at(0)) is None
    stamps.record(key(1), at(5))
    assert stamps.fault(key(1), at(3), WALL, floor=at(0)) == "replayed_timestamp"


def test_a_mark_never_falls():
    stamps = Stamps()
    stamps.record(key(1), at(5))
    stamps.record(key(1), at(3))
    assert stamps.greatest(key(1)) == at(5)


def test_stamps_are_bounded_and_the_longest_unused_goes_first():
    stamps = Stamps(capacity=3)
    for number in (1, 2, 3):
        stamps.record(key(number), at(number))
    stamps.record(key(1), at(9))
    stamps.record(key(4), at(4))
    assert (len(stamps), stamps.evicted) == (3, 1)
    assert stamps.greatest(key(2)) is None
    assert stamps.greatest(key(1)) == at(9)
    assert bounds.MAX_STAMPS == 65_536


# --- Pending ---


def test_one_waits_for_each_key():
    pending = Pending()
    assert pending.add(key(1), "a", 0.0)
    assert pending.has_room(key(1))
    assert not pending.add(key(1), "b", 0.0)
    assert pending.remove(key(1)) == "a"
    assert pending.remove(key(1)) is None
    assert pending.add(key(1), "b", 0.0)
    assert (len(pending), pending.full) == (1, 1)


def test_pending_is_bounded():
    pending = Pending()
    for number in range(bounds.MAX_PENDING):
        assert pending.add(key(number), number, 0.0)
    assert len(pending) == 1024
    assert not pending.has_room(key(5000))
    assert pending.has_room(key(3))
    assert not pending.add(key(5000), 0, 0.0)
    assert pending.full == 1


def test_what_is_not_confirmed_ends_after_five_seconds():
    pending = Pending()
    assert pending.next_deadline() is None
    pending.add(key(1), "a", 1.0)
    pending.add(key(2), "b", 2.0)
    pending.add(key(3), "c", 3.0)
    pending.remove(key(2))
    assert pending.next_deadline() == 6.0
    assert pending.expire(5.9) == []
    assert pending.expire(8.0) == ["a", "c"]
    assert pending.expired == 2
    assert pending.next_deadline() is None
