"""What a device does when: on events of the data path, and when a peer's timer is due."""

from collections.abc import Callable, Iterable

from wgpy.datapath.contract import (
    Active,
    Datagram,
    DataPath,
    Event,
    Failed,
    HandshakeNeeded,
    KeyConfirmed,
    RekeyReceive,
    RekeySend,
    Roamed,
)
from wgpy.device.agenda import Agenda
from wgpy.device.credentials import Credentials
from wgpy.device.handshaker import Handshaker
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.device.roads import Roads
from wgpy.keys import PublicKey
from wgpy.protocol.timers import Action


class Pulse:
    """The events and the timers of one device. Nothing is done while `is_up` says no.

    `clock`, `wall_ns` and `ask_name` are those of Device.
    """

    def __init__(
        self,
        datapath: DataPath,
        peers: PeerTable,
        handshaker: Handshaker,
        admissions: Credentials | None,
        roads: Roads,
        *,
        is_up: Callable[[], bool],
        clock: Callable[[], float],
        wall_ns: Callable[[], int],
        ask_name: Callable[[PublicKey, str, int], None] | None,
    ) -> None:
        self._datapath = datapath
        self._peers = peers
        self._handshaker = handshaker
        self._admissions = admissions
        self._roads = roads
        self._is_up = is_up
        self._clock = clock
        self._wall_ns = wall_ns
        self._ask_name = ask_name
        self._agenda = Agenda(peers)

    # --- Events ---

    def process(self, events: Iterable[Event]) -> None:
        """Act on what the data path reports."""
        now = self._clock()
        self._handshaker.begin_batch()
        for event in events:
            if isinstance(event, Datagram):
                entry = None
                if not self._roads.takes(event):
                    entry = self._handshaker.receive(event, now)
            elif isinstance(event, Failed):
                self.forget_keys()
                continue
            else:
                entry = self._peers.by_handle.get(getattr(event, "peer", 0))
            if entry is None:
                continue
            if isinstance(event, HandshakeNeeded | RekeySend | RekeyReceive):
                self._perform(entry, entry.protocol.timers.want_handshake(now), now)
            elif isinstance(event, KeyConfirmed):
                if not self._is_gated(entry, event.local_index):
                    self._session_began(entry, now)
            elif isinstance(event, Roamed):
                if not self._roads.roamed(entry, event.endpoint):
                    entry.endpoint = event.endpoint
            elif not isinstance(event, Active | Datagram):
                continue
            self.look(entry, now)
        self._roads.work(now)
        # What only the time brings about is for `wake`, which follows.
        if self._admissions is not None and not self._admissions.admitter.idle:
            self._work(now)

    def _session_began(self, entry: PeerEntry, now: float) -> None:
        """The peer proved that it has the keys of the session that we answered with."""
        entry.last_handshake_ns = self._wall_ns()
        entry.protocol.timers.handshake_complete(now)
        self._handshaker.forget(entry)
        self._roads.began(entry)

    def _is_gated(self, entry: PeerEntry, index: int) -> bool:
        return self._admissions is not None and self._admissions.admitter.confirmed(entry, index)

    def _work(self, now: float) -> None:
        """Go on with handshakes by credential, and with what rests on them."""
        if self._admissions is None:
            return
        began, answered = self._admissions.work(now)
        for entry in began:
            self._session_began(entry, now)
        for entry in (*began, *answered):
            # Another that began may have ended it since.
            if self._peers.by_handle.get(entry.handle) is entry:
                self.look(entry, now)

    # --- Timers ---

    def wake(self) -> float | None:
        """Run the timers that are due. Returns when to be woken next, None for not at all."""
        now = self._clock()
        self._handshaker.expire_calls(now)
        while (entry := self._agenda.due(now)) is not None:
            self.look(entry, now)
        self._roads.work(now)
        more = None if self._admissions is None else self._admissions.next_at(now)
        if more is not None and more <= now and self._admissions is not None:
            self._work(now)
            more = self._admissions.next_at(now)
        ways = (self._roads.next_at(), self._handshaker.next_at())
        moments = (self._agenda.next_at(), more, *ways)
        return min((moment for moment in moments if moment is not None), default=None)

    def look(self, entry: PeerEntry, now: float) -> None:
        """Let a peer's timers decide, and note when to ask them again."""
        if not self._is_up():
            return
        timers = entry.protocol.timers
        actions, when, pending = timers.look(self._datapath.activity(entry.handle), now)
        if actions:
            self._perform(entry, actions, now)
            actions, when, pending = timers.look(self._datapath.activity(entry.handle), now)
            self._perform(entry, actions, now)
        if not pending:
            self._datapath.rest(entry.handle)
        self._agenda.note(entry, when)

    def shake_hands(self, entry: PeerEntry, now: float) -> None:
        """Make a new session, though the one that there is may last."""
        self._perform(entry, entry.protocol.timers.want_handshake(now), now)
        self.look(entry, now)

    def _perform(self, entry: PeerEntry, actions: list[Action], now: float) -> None:
        for action in actions:
            if action is Action.SEND_INITIATION:
                self._handshaker.initiate(entry, now)
            elif action is Action.SEND_KEEPALIVE:
                self._datapath.send_keepalive(entry.handle)
            elif action is Action.CLEAR_SOURCE:
                # Asked for when nobody answers: the name may point elsewhere by now.
                self._datapath.clear_source(entry.handle)
                if entry.endpoint_name is not None and self._ask_name is not None:
                    self._ask_name(entry.key, *entry.endpoint_name)
            elif action is Action.DROP_STAGED:
                self._datapath.drop_staged(entry.handle)
            elif action is Action.GAVE_UP:
                self._handshaker.forget(entry)
            elif action is Action.DROP_KEYS:
                self.drop_keys(entry)
        # After the initiation, which would end those that may be sent elsewhere now.
        if Action.CLEAR_SOURCE in actions and entry.endpoint is not None:
            self._roads.wanted(entry)

    # --- The end of sessions ---

    def drop_keys(self, entry: PeerEntry) -> None:
        """End a peer's sessions, and the handshake under way."""
        self._handshaker.forget(entry)
        self._datapath.drop_keys(entry.handle)
        self._roads.ended(entry)

    def forget_keys(self) -> None:
        """End every session: the link went down, the machine slept, or the data path failed."""
        for entry in self._peers.by_key.values():
            self.drop_keys(entry)
            entry.protocol.timers.clear_after_keys_dropped()
        if self._admissions is not None:
            self._admissions.keys_dropped()

    def stop(self) -> None:
        """Stop every timer: the link is down."""
        for entry in self._peers.by_key.values():
            entry.protocol.timers.stop()
        self._agenda.clear()
