"""The replay window at its edges. Its model is in tests/model."""

import pytest

from wgpy.datapath.replay import ReplayWindow
from wgpy.protocol.constants import REJECT_AFTER_MESSAGES

USABLE = 8128


def accepted(window, *counters):
    return [window.accept(counter) for counter in counters]


def test_counter_zero_is_accepted_once():
    assert accepted(ReplayWindow(), 0, 0) == [True, False]


def test_zero_may_come_after_one():
    assert accepted(ReplayWindow(), 1, 0, 1, 0) == [True, True, False, False]


@pytest.mark.parametrize("greatest", [USABLE, USABLE + 1, 8191, 8192, 8193, 100_000, 2**63])
def test_the_window_reaches_back_8128_and_no_further(greatest):
    window = ReplayWindow()
    oldest = greatest - USABLE
    assert accepted(window, greatest, oldest, oldest, oldest - 1) == [True, True, False, False]


def test_every_counter_of_a_full_window_is_remembered():
    window = ReplayWindow()
    counters = range(USABLE + 1)
    assert all(window.accept(counter) for counter in reversed(counters))
    assert not any(window.accept(counter) for counter in counters)


@pytest.mark.parametrize("step", [1, 63, 64, 65, 8127, 8128, 8129, 8192, 8193, 1 << 40])
def test_moving_on_forgets_nothing_inside_and_everything_outside(step):
    window = ReplayWindow()
    first = 10_000
    window.accept(first)
    assert window.accept(first + step)
    assert not window.accept(first)
    # What lies between was not seen.
    if step > 1:
        assert window.accept(first + step - 1)


def test_the_last_counters_of_a_key():
    last = REJECT_AFTER_MESSAGES - 1
    assert accepted(ReplayWindow(), last, last, last - 1) == [True, False, True]
