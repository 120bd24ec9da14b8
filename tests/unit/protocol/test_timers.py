"""Erasing keys, stopping, resting, and what holds in any life of a peer."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.timer_device import (
    GAVE_UP,
    INITIATION,
    KEEPALIVE,
    KEYS,
    SOURCE,
    START,
    Device,
)
from wgpy.protocol.activity import Activity
from wgpy.protocol.constants import MAX_JITTER
from wgpy.protocol.timers import Action, Timers


@pytest.fixture
def device():
    return Device()


# --- Erasing keys ---


def test_keys_are_dropped_540_s_after_the_last(device):
    device.complete()
    device.advance(100.0)
    device.timers.session_derived(device.now)
    device.look()
    device.advance(539.9)
    assert device.log == []
    device.advance(0.1)
    assert device.log == [(640.0, KEYS)]
    device.advance(2000.0)
    assert device.log == [(640.0, KEYS)]
    assert device.again is None


def test_giving_up_arms_it_if_nothing_did(device):
    device.want()
    device.advance(800.0)
    assert device.times(KEYS) == [640.0]


def test_giving_up_does_not_postpone_it(device):
    device.complete()
    device.advance(10.0)
    device.want()
    device.advance(800.0)
    assert device.times(GAVE_UP) == [110.0]
    assert device.times(KEYS) == [540.0]


def test_keys_dropped_otherwise_leave_nothing_to_do(device):
    device.complete()
    device.timers.clear_after_keys_dropped()
    device.look()
    device.advance(1000.0)
    assert device.log == []


def test_a_long_suspend_ends_with_one_look(device):
    device.complete()
    device.timers.persistent_keepalive = 25
    device.send_data()
    device.hear_data()
    device.now += 7200.0
    device.look()
    assert device.log == [(7200.0, KEYS), (7200.0, KEEPALIVE)]


@pytest.mark.parametrize(
    ("prepare", "wait", "expected"),
    [
        (lambda timers, activity: timers.initiation_sent(START), 5.0, [SOURCE, INITIATION]),
        (
            lambda timers, activity: setattr(activity, "first_data_sent_unanswered", START),
            15.0,
            [SOURCE, INITIATION],
        ),
        (
            lambda timers, activity: setattr(activity, "first_data_received_unanswered", START),
            10.0,
            [KEEPALIVE],
        ),
        (lambda timers, activity: setattr(timers, "persistent_keepalive", 25), 0.0, [KEEPALIVE]),
        (lambda timers, activity: timers.session_derived(START), 540.0, [KEYS]),
    ],
    ids=["retry", "deaf", "passive", "persistent", "zero"],
)
def test_an_action_is_returned_once_though_nobody_performed_it(prepare, wait, expected):
    timers, activity = Timers(lambda: 0.0), Activity()
    prepare(timers, activity)
    assert timers.look(activity, START + wait)[0] == expected
    assert timers.look(activity, START + wait)[0] == []
    assert timers.look(activity, START + wait + 1.0)[0] == []


def test_deafness_noticed_too_soon_after_an_initiation_is_acted_on_once():
    timers, activity = Timers(lambda: 0.0), Activity()
    activity.first_data_sent_unanswered = activity.last_data_sent = START
    timers.initiation_sent(START + 11.0)
    timers.handshake_complete(START + 12.0)
    assert timers.look(activity, START + 15.0)[0] == [SOURCE]
    actions, again, _ = timers.look(activity, START + 15.5)
    assert (actions, again) == ([], START + 16.0)
    assert timers.look(activity, START + 16.0)[0] == [INITIATION]


def test_no_keepalive_after_giving_up(device):
    device.want()
    device.advance(95.0)
    device.hear_data()
    device.advance(30.0)
    assert device.times(GAVE_UP) == [100.0]
    assert device.times(KEEPALIVE) == []


# --- Stopping, resting, looking ---


def test_stop_disarms_everything(device):
    device.complete()
    device.timers.persistent_keepalive = 25
    device.send_data()
    device.advance(6.0)
    device.want()
    device.timers.stop()
    device.look()
    assert (device.again, device.watching) == (None, False)
    log = list(device.log)
    device.advance(1000.0)
    device.look()
    assert device.log == log


def test_old_traffic_does_not_count_after_a_stop(device):
    device.complete()
    device.send_data()
    device.activity.first_data_received_unanswered = device.now
    device.timers.stop()
    device.advance(100.0)
    device.complete()
    device.activity.first_data_sent_unanswered = START
    device.look()
    device.advance(60.0)
    assert device.log == []


def test_after_a_stop_the_next_handshake_begins_at_once(device):
    device.want()
    device.timers.stop()
    device.advance(1.0)
    assert device.want() == [Action.SEND_INITIATION]


def test_a_busy_peer_is_looked_at_every_ten_seconds(device):
    device.complete()
    for _ in range(1000):
        # Nothing is ever open when the device looks, and packets keep coming.
        device.hear_keepalive()
        device.advance(0.1)
    assert device.log == []
    assert device.looks <= 20


def test_a_steady_conversation_is_looked_at_every_ten_seconds(device):
    device.complete()
    for _ in range(1000):
        device.hear_data()
        device.send_data()
        device.hear_keepalive()
        device.advance(0.1)
    assert device.log == []
    assert device.looks <= 20


def test_a_quiet_peer_rests(device):
    device.complete()
    device.advance(10.1)
    device.look()
    assert not device.watching
    assert device.again == START + 540.0
    device.send_data()
    assert device.watching
    assert device.again == device.now + 10.0


EVENTS = ["send", "data", "keepalive", "want", "complete", "stop", "persist", "wait"]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(EVENTS), st.floats(0.0, 40.0)), max_size=60),
    st.floats(0.0, MAX_JITTER),
)
def test_invariants_of_any_life(events, jitter):
    device = Device(jitter)
    stops: list[float] = []
    for event, pause in events:
        if event == "send":
            device.send_data()
        elif event == "data":
            device.hear_data()
        elif event == "keepalive":
            device.hear_keepalive()
        elif event == "want":
            device.want()
        elif event == "complete":
            device.complete()
        elif event == "stop":
            device.timers.stop()
            stops.append(round(device.now - START, 3))
            device.look()
        elif event == "persist":
            device.timers.persistent_keepalive = int(pause)
            device.look()
        device.advance(pause)
    sends = device.times(INITIATION)
    # Initiations keep their distance, unless the interface was down meanwhile.
    assert all(
        b - a >= 4.999 or any(a <= stop <= b for stop in stops)
        for a, b in itertools.pairwise(sends)
    )
    assert len(device.times(GAVE_UP)) <= len(sends) / 20
