"""One peer's timers (whitepaper 6.1 to 6.5) as a function of its traffic, its state and now.

The data path records when packets passed (`Activity`); nothing here runs by itself. The device
calls `look`, performs the actions that it returns, and looks again when it says. Traffic only
moves deadlines later, so a busy peer is looked at once in KEEPALIVE_TIMEOUT, however busy.

Each action is returned once for each deadline, whether or not the device could perform it.
Times are seconds on one clock that does not stand still in suspend.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from wgpy.protocol.activity import Activity
from wgpy.protocol.constants import (
    KEEPALIVE_TIMEOUT,
    MAX_INITIATIONS,
    NEW_HANDSHAKE_TIMEOUT,
    REKEY_TIMEOUT,
    ZERO_KEYS_AFTER,
)

# The keepalive we ask for is itself recorded as sent, a moment later and on the data path's own
# reading of the clock. What was sent this soon after the request is taken for that keepalive.
_SAME_SEND: Final = 1.0


class Action(Enum):
    """What the device is to do for the peer, in the order given."""

    SEND_INITIATION = "send initiation"
    SEND_KEEPALIVE = "send keepalive"
    DROP_STAGED = "drop staged packets"
    DROP_KEYS = "drop keys and the handshake under way"
    CLEAR_SOURCE = "clear sticky source"
    GAVE_UP = "gave up the handshake"


class Timers:
    """The timers of one peer. `jitter` returns seconds from 0 to MAX_JITTER, anew at each call."""

    __slots__ = (
        "_another_keepalive_at",
        "_deaf_at",
        "_deaf_base",
        "_deaf_handled",
        "_jitter",
        "_keepalive_handled",
        "_last_initiation",
        "_persistent_handled",
        "_retry_at",
        "_sends",
        "_since",
        "_stopped",
        "_wanted",
        "_zero_at",
        "persistent_keepalive",
    )

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        # Seconds between keepalives that are sent whatever happens; 0 for none.
        self.persistent_keepalive = 0
        self._last_initiation: float | None = None
        self._since = 0.0
        self._disarm()
        self._stopped = False

    def _disarm(self) -> None:
        # When to send again; not None means that a handshake is under way.
        self._retry_at: float | None = None
        # Initiations of the handshake under way so far.
        self._sends = 0
        # A handshake was asked for too soon after the last initiation.
        self._wanted = False
        self._zero_at: float | None = None
        self._another_keepalive_at: float | None = None
        # The value of first_data_received_unanswered that a keepalive was asked for.
        self._keepalive_handled = 0.0
        # When deafness was last acted on; the time it is counted from; when it is due.
        self._deaf_handled = 0.0
        self._deaf_base = 0.0
        self._deaf_at = 0.0
        # When a persistent keepalive was last asked for.
        self._persistent_handled = 0.0

    # --- What happened ---

    def want_handshake(self, now: float) -> list[Action]:
        """Called on HandshakeNeeded, RekeySend and RekeyReceive, and when the operator asks.

        Returns [SEND_INITIATION], or nothing if a handshake is under way. If the last initiation
        is younger than REKEY_TIMEOUT, `look` sends one when it is not: call it next.
        """
        self._start(now)
        if self._retry_at is not None:
            return []
        if self._last_initiation is not None and now < self._last_initiation + REKEY_TIMEOUT:
            self._wanted = True
            return []
        return self._begin(now)

    def initiation_sent(self, now: float) -> None:
        """Called when an initiation was made; again for the same one does no harm."""
        self._start(now)
        if self._retry_at is None:
            self._sends = 1
        self._last_initiation = now
        self._retry_at = now + REKEY_TIMEOUT + self._jitter()
        self._wanted = False

    def session_derived(self, now: float) -> None:
        """Called when keys were derived, in either role: none outlives them by 540 s."""
        self._start(now)
        self._zero_at = now + ZERO_KEYS_AFTER

    def handshake_complete(self, now: float) -> None:
        """Called as initiator when a response was accepted, as responder when the key was
        confirmed: ends the retries."""
        self._start(now)
        self._retry_at = None
        self._sends = 0
        self._wanted = False

    def clear_after_keys_dropped(self) -> None:
        """Called when the keys went for another reason than DROP_KEYS: link down, suspend, a new
        private key. Nothing is left to erase, and the next handshake may begin at once: the peer
        counts initiations too, but it has heard nothing of why we need one.
        """
        self._zero_at = None
        self._last_initiation = None
        self._another_keepalive_at = None

    def stop(self) -> None:
        """Called when the interface goes down or the peer away: everything is disarmed.

        The timers start again with the next event; traffic from before it is not held against the
        peer.
        """
        self._disarm()
        self._last_initiation = None
        self._stopped = True

    @property
    def handshake_under_way(self) -> bool:
        """Whether initiations are being sent and no answer was accepted yet."""
        return self._retry_at is not None

    # --- What to do ---

    def look(self, activity: Activity, now: float) -> tuple[list[Action], float | None, bool]:
        """What to do now, when to look again, and whether traffic could bring that forward.

        The time is None when nothing will happen without an event. The flag is true while a timer
        that depends on traffic may run, so that the device looks again within KEEPALIVE_TIMEOUT;
        when it is false, the data path must report the peer's next packet (`rest`).
        """
        if self._stopped:
            return [], None, False
        actions: list[Action] = []
        deadlines: list[float] = []
        if self._zero_at is not None and now >= self._zero_at:
            self.clear_after_keys_dropped()
            actions.append(Action.DROP_KEYS)
        actions += self._look_handshake(activity, now)
        pending = self._look_deaf(activity, now, actions, deadlines)
        pending |= self._look_keepalive(activity, now, actions, deadlines)
        self._look_persistent(activity, now, actions, deadlines)
        # Traffic of late: more may come at any time, and asking for a report of each packet would
        # cost more than looking again.
        if max(activity.last_sent, activity.last_received) > max(now - KEEPALIVE_TIMEOUT, 0.0):
            pending = True
        if self._retry_at is not None:
            deadlines.append(self._retry_at)
        elif self._wanted:
            last = self._last_initiation
            deadlines.append(now if last is None else last + REKEY_TIMEOUT)
        if self._zero_at is not None:
            deadlines.append(self._zero_at)
        if pending:
            deadlines.append(now + KEEPALIVE_TIMEOUT)
        return actions, min(deadlines, default=None), pending

    def _start(self, now: float) -> None:
        if self._stopped:
            self._stopped = False
            self._since = now

    def _begin(self, now: float) -> list[Action]:
        """The first initiation of a handshake. The retry is armed at once, in case the device has
        no way to send it now."""
        self._wanted = False
        self._sends = 1
        self._retry_at = now + REKEY_TIMEOUT + self._jitter()
        return [Action.SEND_INITIATION]

    def _look_handshake(self, activity: Activity, now: float) -> list[Action]:
        """The handshake under way, or one that was asked for too soon."""
        if self._retry_at is None:
            return self.want_handshake(now) if self._wanted else []
        if now < self._retry_at:
            return []
        if self._sends >= MAX_INITIATIONS:
            self._give_up(activity, now)
            return [Action.GAVE_UP, Action.DROP_STAGED]
        self._sends += 1
        self._retry_at = now + REKEY_TIMEOUT + self._jitter()
        # The route or our address may be what is wrong: let the routing table choose again.
        return [Action.CLEAR_SOURCE, Action.SEND_INITIATION]

    def _give_up(self, activity: Activity, now: float) -> None:
        self._retry_at = None
        self._sends = 0
        # Nobody answers: what keys are left are of no use for longer than this.
        if self._zero_at is None:
            self._zero_at = now + ZERO_KEYS_AFTER
        # A keepalive would only ask for the handshake again.
        self._keepalive_handled = activity.first_data_received_unanswered
        self._another_keepalive_at = None
        self._deaf_handled = now

    def _look_deaf(
        self, activity: Activity, now: float, actions: list[Action], deadlines: list[float]
    ) -> bool:
        """Data went out and nothing authenticated came back: shake hands anew."""
        first = activity.first_data_sent_unanswered
        if first < self._since or first == 0.0:
            return False
        if self._retry_at is not None:
            # That is being done; if it ends without an answer, deafness is counted from its end.
            return False
        if first > self._deaf_handled:
            base = first
        elif activity.last_data_sent > self._deaf_handled:
            base = self._deaf_handled
        else:
            return False
        if base != self._deaf_base:
            self._deaf_base = base
            self._deaf_at = base + NEW_HANDSHAKE_TIMEOUT + self._jitter()
        if now < self._deaf_at:
            deadlines.append(self._deaf_at)
            return True
        self._deaf_handled = now
        actions.append(Action.CLEAR_SOURCE)
        actions += self.want_handshake(now)
        return False

    def _look_keepalive(
        self, activity: Activity, now: float, actions: list[Action], deadlines: list[float]
    ) -> bool:
        """Data came in and we had nothing to send: say that we are here."""
        due = False
        pending = False
        another = self._another_keepalive_at
        if another is not None and activity.last_sent >= another - KEEPALIVE_TIMEOUT + _SAME_SEND:
            # Something was sent since, and said it.
            another = self._another_keepalive_at = None
        if another is not None:
            if now >= another:
                self._another_keepalive_at = None
                due = True
            else:
                deadlines.append(another)
                pending = True
        first = activity.first_data_received_unanswered
        if first > self._keepalive_handled and first >= self._since:
            at = first + KEEPALIVE_TIMEOUT
            if now >= at:
                self._keepalive_handled = first
                if activity.last_data_received > first:
                    self._another_keepalive_at = now + KEEPALIVE_TIMEOUT
                    deadlines.append(now + KEEPALIVE_TIMEOUT)
                    pending = True
                due = True
            else:
                deadlines.append(at)
                pending = True
        if due:
            actions.append(Action.SEND_KEEPALIVE)
        return pending

    def _look_persistent(
        self, activity: Activity, now: float, actions: list[Action], deadlines: list[float]
    ) -> None:
        """Nothing authenticated passed in either direction for so long: keep the mapping open."""
        interval = self.persistent_keepalive
        if interval <= 0:
            return
        base = max(activity.last_sent, activity.last_received, self._persistent_handled)
        # A base of zero: nothing was ever sent or heard, so the first one is due at once.
        if base > 0.0 and now < base + interval:
            deadlines.append(base + interval)
            return
        self._persistent_handled = now
        deadlines.append(now + interval)
        if Action.SEND_KEEPALIVE not in actions:
            actions.append(Action.SEND_KEEPALIVE)
