"""The timers, driven by a small simulation of a device on a fake clock."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wgpy.protocol.activity import Activity
from wgpy.protocol.constants import MAX_JITTER
from wgpy.protocol.timers import Action, Timers

INITIATION, KEEPALIVE = Action.SEND_INITIATION, Action.SEND_KEEPALIVE
SOURCE, KEYS = Action.CLEAR_SOURCE, Action.DROP_KEYS
STAGED, GAVE_UP = Action.DROP_STAGED, Action.GAVE_UP
START = 1000.0


class Device:
    """A device and a data path, as far as timers can see: performs actions, keeps activity."""

    def __init__(self, jitter=0.0, has_keys=True):
        self.timers = Timers(lambda: jitter)
        self.activity = Activity()
        self.has_keys = has_keys
        self.now = START
        self.again = None
        self.watching = False
        self.looks = 0
        self.log = []

    def perform(self, actions):
        for action in actions:
            self.log.append((round(self.now - START, 3), action))
            if action is INITIATION:
                self.timers.initiation_sent(self.now)
                self.sent()
            elif action is KEEPALIVE and self.has_keys:
                # The data path reads the clock itself, a little later.
                self.sent(later=0.001)
            elif action is KEEPALIVE:
                self.perform(self.timers.want_handshake(self.now))

    def look(self):
        self.looks += 1
        actions, self.again, self.watching = self.timers.look(self.activity, self.now)
        assert self.again is None or self.again > self.now, "the device would spin"
        self.perform(actions)
        if actions:
            self.look()

    def advance(self, seconds):
        """Let the clock run, looking only when the timers asked for it."""
        end = self.now + seconds
        while self.again is not None and self.again <= end:
            self.now = self.again
            self.look()
        self.now = end

    def touch(self):
        """A packet passed: a resting peer is reported by the data path."""
        if not self.watching:
            self.look()

    def sent(self, later=0.0):
        self.activity.last_sent = self.now + later
        self.activity.first_data_received_unanswered = 0.0

    def send_data(self):
        self.sent()
        self.activity.last_data_sent = self.now
        if not self.activity.first_data_sent_unanswered:
            self.activity.first_data_sent_unanswered = self.now
        self.touch()

    def hear(self):
        self.activity.last_received = self.now
        self.activity.first_data_sent_unanswered = 0.0

    def hear_keepalive(self):
        self.hear()
        self.touch()

    def hear_data(self):
        self.hear()
        self.activity.last_data_received = self.now
        if not self.activity.first_data_received_unanswered:
            self.activity.first_data_received_unanswered = self.now
        self.touch()

    def want(self):
        actions = self.timers.want_handshake(self.now)
        self.perform(actions)
        self.look()
        return actions

    def complete(self):
        self.hear()
        self.timers.session_derived(self.now)
        self.timers.handshake_complete(self.now)
        self.look()

    def times(self, action):
        return [when for when, done in self.log if done is action]


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


# --- Keepalives ---


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


def test_stop_does_not_forget_the_last_initiation(device):
    device.want()
    device.timers.stop()
    device.advance(1.0)
    assert device.want() == []
    device.advance(10.0)
    assert device.times(INITIATION)[:2] == [0.0, 5.0]


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
            device.look()
        elif event == "persist":
            device.timers.persistent_keepalive = int(pause)
            device.look()
        device.advance(pause)
    sends = device.times(INITIATION)
    assert all(b - a >= 4.999 for a, b in itertools.pairwise(sends))
    assert len(device.times(GAVE_UP)) <= len(sends) / 20
