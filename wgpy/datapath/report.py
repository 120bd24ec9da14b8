"""What goes up to the control plane: events, datagrams that passed the filter, and counters.

`contract.DataPath` documents every public method.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from wgpy.datapath.contract import (
    Active,
    Datagram,
    Event,
    FilterRule,
    HandshakeNeeded,
    KeyConfirmed,
    RekeyReceive,
    RekeySend,
    Roamed,
)
from wgpy.datapath.demux import STUN_QUEUE_LENGTH, StunSources
from wgpy.datapath.endpoint import Route, to_endpoint
from wgpy.datapath.filter import ControlFilter
from wgpy.datapath.road import Pending, Road
from wgpy.datapath.shed import shares
from wgpy.protocol.constants import CONTROL_QUEUE_LENGTH


class Reports(ABC):
    """What waits to be drained, and what decides that it may."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._filter = ControlFilter()
        self._datagrams: deque[Datagram] = deque()
        self._stun_sources = StunSources()
        self._stun: deque[Datagram] = deque()
        self._dirty: list[Road] = []
        self._alarms: list[Event] = []
        self._counters: dict[str, int] = {}

    @abstractmethod
    def _ring(self) -> None:
        """Make fileno() readable: there is something to drain."""

    @abstractmethod
    def _is_ours(self, index: int) -> bool:
        """Whether a key pair or a handshake has the index."""

    @abstractmethod
    def _is_stun_source(self, route: Route) -> bool:
        """Whether STUN from there may come up."""

    def _count(self, reason: str, times: int = 1) -> None:
        self._counters[reason] = self._counters.get(reason, 0) + times

    def _raise(self, road: Road, event: Pending) -> None:
        if not road.pending:
            self._dirty.append(road)
            self._ring()
        road.pending |= event

    def _alarm(self, event: Event) -> None:
        self._alarms.append(event)
        self._ring()

    def _wake(self, road: Road) -> None:
        road.resting = False
        self._raise(road, Pending.ACTIVE)

    def _control_datagram(self, data: bytes, route: Route, now: float) -> None:
        refusal = self._filter.refusal(data, route, now, self._is_ours)
        queue = self._filter.queue_of(int.from_bytes(data[:4], "little"))
        if queue is None:
            queue = self._datagrams
            if refusal is None and len(queue) >= CONTROL_QUEUE_LENGTH:
                refusal = "control_queue_full"
        if refusal is not None:
            self._count(refusal)
            return
        queue.append(Datagram(data, to_endpoint(route), now))
        self._ring()

    def _stun_datagram(self, data: bytes, route: Route, now: float) -> None:
        if not self._is_stun_source(route):
            self._count("unknown_stun")
        elif len(self._stun) >= STUN_QUEUE_LENGTH:
            self._count("stun_queue_full")
        else:
            self._stun.append(Datagram(data, to_endpoint(route), now))
            self._ring()

    def _collect(self, limit: int) -> list[Event]:
        """The events that wait: all of the peers', and at most `limit` datagrams."""
        events = self._alarms
        self._alarms = []
        dirty = self._dirty
        self._dirty = []
        for road in dirty:
            events.extend(_events_of(road))
            road.pending = 0
        queues = [self._datagrams, self._stun, *self._filter.queues()]
        counts = shares([len(queue) for queue in queues], limit)
        for queue, count in zip(queues, counts, strict=True):
            for _ in range(count):
                events.append(queue.popleft())
        if any(queues):
            self._ring()
        return events

    def queue_depth(self, kind: int | None = None) -> int:
        queue = None if kind is None else self._filter.queue_of(kind)
        return len(self._datagrams if queue is None else queue)

    def counters(self) -> dict[str, int]:
        return dict(self._counters)

    def set_filter(self, rules: Sequence[FilterRule], mac1_key: bytes) -> None:
        budgets = any(rule.budget is not None for rule in rules)
        shed = self._filter.set(rules, mac1_key, self._random(16) if budgets else b"")
        if shed:
            self._count("shed_queue", shed)

    def set_cookie_secret(self, current: bytes, previous: bytes = b"") -> None:
        self._filter.set_secrets(current, previous)

    def set_stun_sources(self, places: Iterable[tuple[str, int]]) -> None:
        self._stun_sources.set(places)

    def set_path_ids(self, ids: Iterable[bytes]) -> None:
        self._filter.set_paths(ids)


def _events_of(road: Road) -> list[Event]:
    pending, peer = road.pending, road.handle
    events: list[Event] = []
    if pending & Pending.ROAMED and road.route is not None:
        events.append(Roamed(peer, to_endpoint(road.route)))
    if pending & Pending.ELSEWHERE and road.elsewhere is not None:
        events.append(Roamed(peer, to_endpoint(road.elsewhere)))
    if pending & Pending.KEY_CONFIRMED and road.keys.current is not None:
        events.append(KeyConfirmed(peer, road.keys.current.local_index))
    if pending & Pending.GATE_CONFIRMED and road.gate is not None and road.gate.confirmed:
        events.append(KeyConfirmed(peer, road.gate.session.local_index))
    if pending & Pending.ACTIVE:
        events.append(Active(peer))
    if pending & Pending.REKEY_SEND:
        events.append(RekeySend(peer))
    if pending & Pending.REKEY_RECEIVE:
        events.append(RekeyReceive(peer))
    if pending & Pending.HANDSHAKE_NEEDED:
        events.append(HandshakeNeeded(peer))
    return events
