"""When keepalives are sent: passive ones, persistent ones."""

import pytest

from tests.support.timer_device import GAVE_UP, INITIATION, KEEPALIVE, START, Device
from wgpy.protocol.activity import Activity
from wgpy.protocol.timers import Timers


@pytest.fixture
def device():
    return Device()


def test_passive_keepalive_ten_seconds_after_data(device):
    device.complete()
    device.advance(30.0)
    device.hear_data()
    device.advance(9.999)
    assert device.log == []
    device.advance(0.001)
    assert device.log == [(40.0, KEEPALIVE)]
    device.advance(100.0)
    assert device.times(KEEPALIVE) == [40.0]


def test_sending_anything_prevents_it(device):
    device.complete()
    device.hear_data()
    device.advance(9.0)
    device.send_data()
    device.hear_keepalive()
    device.advance(100.0)
    assert device.times(KEEPALIVE) == []


def test_keepalives_are_not_answered_with_keepalives(device):
    device.complete()
    for _ in range(10):
        device.hear_keepalive()
        device.advance(5.0)
    assert device.log == []


def test_more_data_meanwhile_means_another_keepalive(device):
    device.complete()
    device.hear_data()
    device.advance(3.0)
    device.hear_data()
    device.advance(60.0)
    assert device.times(KEEPALIVE) == [10.0, 20.0]


def test_the_other_keepalive_is_not_needed_if_something_was_sent(device):
    device.complete()
    device.hear_data()
    device.advance(3.0)
    device.hear_data()
    device.advance(12.0)
    device.send_data()
    device.hear_keepalive()
    device.advance(60.0)
    assert device.times(KEEPALIVE) == [10.0]


def test_a_steady_listener_says_so_every_ten_seconds(device):
    device.complete()
    for _ in range(60):
        device.hear_data()
        device.advance(1.0)
    assert device.times(KEEPALIVE) == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]


def test_a_keepalive_without_keys_asks_once():
    device = Device(has_keys=False)
    device.hear_data()
    device.advance(9.0)
    device.want()
    device.timers.handshake_complete(device.now)
    # The data path forgets unanswered data when it sends; here it never could.
    device.activity.first_data_received_unanswered = START
    device.look()
    device.advance(60.0)
    assert device.times(KEEPALIVE) == [10.0]


def test_persistent_keepalive(device):
    device.complete()
    device.timers.persistent_keepalive = 25
    device.look()
    device.advance(80.0)
    assert device.times(KEEPALIVE) == pytest.approx([25.0, 50.001, 75.002])


def test_any_authenticated_packet_postpones_it(device):
    device.complete()
    device.timers.persistent_keepalive = 25
    device.look()
    device.advance(20.0)
    device.hear_keepalive()
    device.advance(20.0)
    device.send_data()
    device.hear_keepalive()
    device.advance(24.9)
    assert device.times(KEEPALIVE) == []
    device.advance(0.1)
    assert device.times(KEEPALIVE) == [65.0]


def test_persistent_keepalive_is_due_at_once_on_a_new_peer():
    device = Device(has_keys=False)
    device.timers.persistent_keepalive = 25
    device.look()
    assert device.log == [(0.0, KEEPALIVE), (0.0, INITIATION)]


def test_persistent_keepalive_revives_a_peer_that_was_given_up():
    device = Device(has_keys=False)
    device.timers.persistent_keepalive = 25
    device.look()
    device.advance(130.0)
    assert device.times(GAVE_UP) == [100.0]
    # While initiations go out nothing is due; 25 s after the last of them (95 s) there is.
    assert device.times(KEEPALIVE) == [0.0, 120.0]
    assert device.times(INITIATION)[20:] == [120.0, 125.0, 130.0]


def test_persistent_keepalive_that_cannot_be_sent_is_asked_for_at_intervals():
    timers, now, asked = Timers(lambda: 0.0), START, []
    timers.persistent_keepalive = 10
    for _ in range(5):
        actions, again, _ = timers.look(Activity(), now)
        assert actions == [KEEPALIVE]
        asked.append(now - START)
        now = again
    assert asked == [0.0, 10.0, 20.0, 30.0, 40.0]


def test_both_keepalives_due_at_once_are_one(device):
    device.complete()
    device.timers.persistent_keepalive = 10
    device.hear_data()
    device.look()
    device.advance(10.0)
    assert device.times(KEEPALIVE) == [10.0]


def test_persistent_keepalive_off_stays_off(device):
    device.complete()
    device.timers.persistent_keepalive = 25
    device.look()
    device.advance(1.0)
    device.timers.persistent_keepalive = 0
    device.look()
    device.advance(100.0)
    assert device.log == []
