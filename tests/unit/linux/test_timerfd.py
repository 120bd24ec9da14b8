"""A timer on the clock that does not stand still in suspend."""

import os
import select

import pytest

from wgpy.linux.timerfd import BootTimer, boottime, suspended_time


@pytest.fixture
def timer():
    made = BootTimer()
    yield made
    made.close()


def fires(timer, within=5.0):
    return bool(select.select([timer.fd], [], [], within)[0])


def test_a_moment_that_comes_makes_it_readable(timer):
    timer.set(boottime() + 0.02)
    assert fires(timer)
    timer.acknowledge()
    assert not fires(timer, 0)


def test_it_does_not_fire_before_its_moment(timer):
    when = boottime() + 0.05
    timer.set(when)
    assert fires(timer)
    assert boottime() >= when


@pytest.mark.parametrize("ago", [0.0, 1.0, 1e9])
def test_a_moment_that_has_passed_fires_at_once(timer, ago):
    timer.set(boottime() - ago)
    assert fires(timer)


def test_none_disarms_it(timer):
    timer.set(boottime() - 1)
    assert fires(timer)
    timer.set(None)
    assert not fires(timer, 0)
    timer.acknowledge()


def test_setting_it_anew_moves_it(timer):
    timer.set(boottime() - 1)
    timer.set(boottime() + 3600)
    assert not fires(timer, 0)


def test_the_same_moment_fires_again_once_acknowledged(timer):
    when = boottime() - 1
    timer.set(when)
    assert fires(timer)
    timer.acknowledge()
    timer.set(when)
    assert fires(timer)


def test_it_is_not_inherited_and_does_not_block(timer):
    assert not os.get_inheritable(timer.fd)
    assert not os.get_blocking(timer.fd)
    timer.acknowledge()


def test_the_clocks_agree():
    assert suspended_time() > -0.1
    first = boottime()
    assert boottime() >= first > 0
