"""A device and a data path as far as timers can see them, on a fake clock."""

from wgpy.protocol.activity import Activity
from wgpy.protocol.timers import Action, Timers

INITIATION, KEEPALIVE = Action.SEND_INITIATION, Action.SEND_KEEPALIVE
SOURCE, KEYS = Action.CLEAR_SOURCE, Action.DROP_KEYS
STAGED, GAVE_UP = Action.DROP_STAGED, Action.GAVE_UP
START = 1000.0


class Device:
    """Performs actions, keeps activity, and looks when the timers asked for it."""

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
