"""Timestamps: layout, whitening, and that they only ever rise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.protocol import tai64n

SECOND = 1_000_000_000
TIMES = st.integers(min_value=-(1 << 70), max_value=1 << 110)


def test_layout():
    assert tai64n.stamp(0).hex() == "400000000000000a00000000"
    # 2023-11-14 22:13:20 UTC; half a second is cut to 29 steps of 2^24 ns.
    assert tai64n.stamp(1_700_000_000 * SECOND + SECOND // 2).hex() == "400000006553f10a1d000000"


def test_whitening_hides_what_is_finer_than_a_step():
    base = 1_700_000_000 * SECOND
    assert tai64n.stamp(base) == tai64n.stamp(base + (1 << 24) - 1)
    assert tai64n.stamp(base) < tai64n.stamp(base + (1 << 24))


@given(TIMES)
def test_stamps_are_twelve_bytes_and_white(wall_ns):
    stamp = tai64n.stamp(wall_ns)
    assert len(stamp) == 12
    assert int.from_bytes(stamp[8:], "big") % (1 << 24) == 0
    assert int.from_bytes(stamp[8:], "big") < SECOND
    assert stamp[0] < 0x80


@given(st.integers(min_value=0, max_value=1 << 80))
def test_to_ns_is_at_most_a_step_behind(wall_ns):
    assert 0 <= wall_ns - tai64n.to_ns(tai64n.stamp(wall_ns)) < 1 << 24


@given(st.lists(TIMES, min_size=2, max_size=30))
def test_next_stamp_rises_whatever_the_clock_does(times):
    previous = None
    for wall_ns in times:
        current = tai64n.next_stamp(previous, wall_ns)
        assert previous is None or current > previous
        assert int.from_bytes(current[8:], "big") % (1 << 24) == 0
        assert int.from_bytes(current[8:], "big") < SECOND
        previous = current


def test_next_stamp_follows_the_clock_when_it_can():
    now = 1_700_000_000 * SECOND
    assert tai64n.next_stamp(tai64n.stamp(now), now + SECOND) == tai64n.stamp(now + SECOND)


def test_next_stamp_carries_into_the_second():
    last_step = tai64n.stamp(5 * SECOND - 1)
    assert tai64n.to_ns(tai64n.next_stamp(last_step, 0)) == 5 * SECOND


@pytest.mark.parametrize("length", [0, 11, 13])
def test_to_ns_refuses_other_lengths(length):
    with pytest.raises(ValueError, match="12 bytes"):
        tai64n.to_ns(bytes(length))
