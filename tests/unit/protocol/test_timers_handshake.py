"""When handshakes are begun, tried again and given up."""

import itertools

import pytest

from tests.support.timer_device import (
    GAVE_UP,
    INITIATION,
    KEEPALIVE,
    SOURCE,
    STAGED,
    START,
    Device,
)
from wgpy.protocol.activity import Activity
from wgpy.protocol.constants import MAX_JITTER
from wgpy.protocol.timers import Timers


@pytest.fixture
def device():
    return Device()


# --- Handshakes ---


def test_nothing_happens_by_itself(device):
    device.look()
    assert (device.again, device.watching, device.log) == (None, False, [])


def test_a_handshake_is_begun_once(device):
    assert device.want() == [INITIATION]
    assert device.timers.handshake_under_way
    assert device.want() == []
    assert device.times(INITIATION) == [0.0]


def test_two_wishes_before_the_device_sends(device):
    assert device.timers.want_handshake(START) == [INITIATION]
    assert device.timers.want_handshake(START) == []


@pytest.mark.parametrize("jitter", [0.0, 0.2, MAX_JITTER])
def test_twenty_initiations_then_it_gives_up(jitter):
    device = Device(jitter)
    device.want()
    device.advance(200.0)
    step = 5.0 + jitter
    sends = device.times(INITIATION)
    assert sends == pytest.approx([number * step for number in range(20)], abs=0.002)
    # Each retry lets go of the source address first; the first try has no reason to.
    assert device.times(SOURCE) == sends[1:]
    assert device.times(GAVE_UP) == device.times(STAGED)
    assert device.times(GAVE_UP) == pytest.approx([20 * step], abs=0.002)
    assert 90.0 <= device.times(GAVE_UP)[0] <= 107.0
    assert not device.timers.handshake_under_way


def test_order_of_actions(device):
    device.want()
    device.advance(100.0)
    actions = [action for _, action in device.log]
    assert actions == [INITIATION, *[SOURCE, INITIATION] * 19, GAVE_UP, STAGED]


def test_jitter_is_drawn_for_each_retry():
    values = itertools.cycle([0.1, 0.3])
    timers = Timers(lambda: next(values))
    timers.want_handshake(START)
    timers.initiation_sent(START)
    assert timers.look(Activity(), START)[1] == START + 5.3
    timers.look(Activity(), START + 5.3)
    timers.initiation_sent(START + 5.3)
    assert timers.look(Activity(), START + 5.3)[1] == pytest.approx(START + 10.6)


def test_retries_go_on_when_the_device_could_not_send():
    # No endpoint, no private key: initiation_sent is never called.
    timers, now, sends = Timers(lambda: 0.0), START, 1
    assert timers.want_handshake(now) == [INITIATION]
    while True:
        actions, again, _ = timers.look(Activity(), now)
        sends += actions.count(INITIATION)
        if GAVE_UP in actions:
            break
        now = again
    assert (sends, now) == (20, START + 100.0)


def test_a_wish_that_comes_too_soon_is_remembered(device):
    device.want()
    device.advance(1.0)
    device.complete()
    assert device.want() == []
    device.advance(3.999)
    assert device.times(INITIATION) == [0.0]
    device.advance(0.001)
    assert device.times(INITIATION) == [0.0, 5.0]
    assert device.times(SOURCE) == []


def test_a_remembered_wish_ends_with_a_handshake(device):
    device.want()
    device.complete()
    device.want()
    device.complete()
    device.advance(60.0)
    assert device.times(INITIATION) == [0.0]


def test_five_seconds_old_is_old_enough(device):
    device.want()
    device.complete()
    device.advance(5.0)
    assert device.want() == [INITIATION]


def test_completion_ends_the_retries_and_resets_the_count(device):
    device.want()
    device.advance(50.0)
    device.complete()
    device.advance(100.0)
    assert len(device.times(INITIATION)) == 11
    device.want()
    device.advance(150.0)
    assert len(device.times(INITIATION)) == 31


def test_after_giving_up_a_new_wish_starts_afresh(device):
    device.want()
    device.advance(100.0)
    assert device.times(GAVE_UP) == [100.0]
    assert device.want() == [INITIATION]
    device.advance(100.0)
    assert device.times(GAVE_UP) == [100.0, 200.0]


# --- Deafness ---


def test_no_answer_to_data_for_15_s_means_a_new_handshake():
    device = Device(jitter=0.25)
    device.complete()
    device.advance(20.0)
    device.send_data()
    device.advance(15.249)
    assert device.log == []
    device.advance(0.001)
    assert device.log == [(35.25, SOURCE), (35.25, INITIATION)]


def test_more_data_does_not_postpone_it(device):
    device.complete()
    for _ in range(15):
        device.send_data()
        device.advance(1.0)
    assert device.times(INITIATION) == [15.0]


def test_an_answer_prevents_it(device):
    device.complete()
    device.send_data()
    device.advance(14.9)
    device.hear_keepalive()
    device.advance(60.0)
    assert device.log == []


def test_the_clock_starts_again_with_the_next_unanswered_data(device):
    device.complete()
    device.send_data()
    device.advance(9.0)
    device.hear_keepalive()
    device.send_data()
    device.advance(14.9)
    assert device.log == []
    device.advance(0.1)
    assert device.times(INITIATION) == [24.0]


def test_keepalives_need_no_answer(device):
    device.complete()
    device.hear_data()
    device.advance(60.0)
    assert device.times(KEEPALIVE) == [10.0]
    assert device.times(INITIATION) == []


def test_deafness_right_after_a_handshake_waits_for_its_five_seconds(device):
    device.send_data()
    device.advance(11.0)
    device.want()
    device.timers.handshake_complete(device.now)
    device.look()
    device.advance(30.0)
    # Sent at 11 s, completed without anything heard (as a responder would); deaf again 15 s on.
    assert device.times(INITIATION)[0] == 11.0
    assert all(b - a >= 5.0 for a, b in itertools.pairwise(device.times(INITIATION)))


def test_traffic_to_the_dead_goes_on_trying(device):
    device.complete()
    for _ in range(400):
        device.send_data()
        device.advance(1.0)
    # 15 s, 100 s of tries, and again: the key pair is still there to seal with.
    assert device.times(GAVE_UP)[:2] == [115.0, 230.0]
    assert len(device.times(INITIATION)) > 60


def test_silence_after_giving_up(device):
    device.complete()
    device.send_data()
    device.advance(120.0)
    assert device.times(GAVE_UP) == [115.0]
    before = len(device.log)
    device.advance(400.0)
    assert len(device.log) == before
