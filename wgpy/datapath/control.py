"""The control plane's side of the portable data path: peers, keys, filters, events and counters.

`contract.DataPath` documents every public method.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from errno import EDESTADDRREQ

from wgpy.datapath.allowedips import AllowedIps
from wgpy.datapath.contract import (
    GATED_NEXT_ONLY,
    Active,
    AllowedIpOperation,
    Datagram,
    DataPathError,
    Endpoint,
    Event,
    FilterRule,
    Handle,
    HandshakeNeeded,
    KeyConfirmed,
    NewKeyPair,
    RekeyReceive,
    RekeySend,
    Roamed,
    Slot,
)
from wgpy.datapath.demux import STUN_COOKIE_INDEX, STUN_QUEUE_LENGTH, StunSources
from wgpy.datapath.endpoint import Route, check_ttl, to_endpoint, to_route
from wgpy.datapath.filter import ControlFilter
from wgpy.datapath.gate import Gate, Gates
from wgpy.datapath.road import Pending, Road
from wgpy.datapath.session import Session
from wgpy.datapath.shed import shares
from wgpy.ip import Prefix
from wgpy.protocol.activity import Activity
from wgpy.protocol.constants import CONTROL_QUEUE_LENGTH, MAX_INNER_LENGTH


class ControlSide(ABC):
    """Everything of the data path that is not a packet on its way."""

    def __init__(
        self,
        *,
        vnet_header: bool,
        mtu: int,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self._vnet_header = vnet_header
        self._clock = clock
        self._random = random
        self._roads: dict[Handle, Road] = {}
        self._next_handle = 1
        self._allowed = AllowedIps()
        # Indices that open a session, and those that are only reserved for a handshake.
        self._indices: dict[int, tuple[Road, Session]] = {}
        self._reserved: set[int] = set()
        self._gates = Gates()
        self._filter = ControlFilter()
        self._datagrams: deque[Datagram] = deque()
        self._stun_sources = StunSources()
        self._stun: deque[Datagram] = deque()
        self._dirty: list[Road] = []
        self._alarms: list[Event] = []
        self._counters: dict[str, int] = {}
        self._up = False
        self._mtu = 0
        self.set_mtu(mtu)
        self._prepare()

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the packet's side needs."""

    @abstractmethod
    def _transmit_control(
        self, data: bytes, route: Route, ttl: int = 0, whole: bool = False
    ) -> int | None:
        """Send one control datagram, as `send` has it. Returns an errno."""

    @abstractmethod
    def _ring(self) -> None:
        """Make fileno() readable: there is something to drain."""

    @abstractmethod
    def _flush_staged(self, road: Road, now: float) -> None:
        """Send what waited for a key."""

    @abstractmethod
    def _let_in(self, road: Road, packets: Iterable[memoryview]) -> None:
        """Give the TUN what was held for a peer, as far as its allowed IPs let it."""

    @abstractmethod
    def _send_empty(self, road: Road, now: float) -> None:
        """Send a keepalive."""

    # --- Events and counters ---

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
        if not self._stun_sources.has(route):
            self._count("unknown_stun")
        elif len(self._stun) >= STUN_QUEUE_LENGTH:
            self._count("stun_queue_full")
        else:
            self._stun.append(Datagram(data, to_endpoint(route), now))
            self._ring()

    def _collect(self, limit: int) -> list[Event]:
        """The events that wait: all of the peers', and at most `limit` datagrams."""
        self._expire_gates(self._clock())
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

    # --- Configuration ---

    def set_mtu(self, mtu: int) -> None:
        if not 0 < mtu <= MAX_INNER_LENGTH:
            raise DataPathError(
                f"an MTU of {mtu} cannot be carried: a UDP datagram over IPv4 leaves "
                f"{MAX_INNER_LENGTH} bytes to a packet; set the MTU to that or less"
            )
        self._mtu = mtu

    def set_up(self, up: bool) -> None:
        self._up = up
        if not up:
            for road in self._roads.values():
                self._drop_staged(road)
                self._drop_held(road)

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

    def add_peer(self) -> Handle:
        handle = self._next_handle
        self._next_handle += 1
        self._roads[handle] = Road(handle)
        return handle

    def remove_peer(self, peer: Handle) -> None:
        road = self._roads.pop(peer)
        self._filter.places.moved(road.route, None)
        self._retire(road.keys.clear())
        self._drop_gate(road)
        self._drop_staged(road)
        self._allowed.forget(peer)
        if road.pending:
            self._dirty.remove(road)

    def set_allowed_ips(self, changes: Iterable[AllowedIpOperation]) -> None:
        self._allowed.apply(changes)

    def allowed_ips(self, peer: Handle) -> list[Prefix]:
        return self._allowed.of(peer)

    def set_endpoint(self, peer: Handle, endpoint: Endpoint | None) -> None:
        road = self._roads[peer]
        self._move(road, None if endpoint is None else to_route(endpoint))
        road.elsewhere = None

    def set_roaming(self, peer: Handle, applied: bool) -> None:
        road = self._roads[peer]
        road.pinned = not applied
        road.elsewhere = None

    def _move(self, road: Road, route: Route | None) -> None:
        self._filter.places.moved(road.route, route)
        road.route = route

    def _came_from(self, road: Road, route: Route) -> None:
        """An authentic packet came from another place than the peer's, or to another of ours."""
        if not road.stays(route):
            self._raise(road, Pending.ROAMED)
            self._move(road, route)
            return
        if not route.leads_to(road.elsewhere):
            self._raise(road, Pending.ELSEWHERE)
        road.elsewhere = route

    def clear_source(self, peer: Handle | None) -> None:
        for road in self._roads.values() if peer is None else (self._roads[peer],):
            if road.route is not None and road.route.pktinfo:
                road.route = Route(road.route.address)

    # --- Indices and keys ---

    def _is_ours(self, index: int) -> bool:
        return index in self._indices or index in self._reserved

    def reserve_index(self) -> int:
        while True:
            index = int.from_bytes(self._random(4), "little")
            if index != STUN_COOKIE_INDEX and not self._is_ours(index):
                self._reserved.add(index)
                return index

    def free_index(self, index: int) -> None:
        self._reserved.discard(index)

    def install(
        self, peer: Handle, slot: Slot, pair: NewKeyPair, *, kick: bool, gated: bool = False
    ) -> None:
        road = self._roads[peer]
        session = Session(pair)
        if gated and slot is not Slot.NEXT:
            raise DataPathError(GATED_NEXT_ONLY)
        self._reserved.discard(session.local_index)
        self._indices[session.local_index] = (road, session)
        if gated:
            self._drop_gate(road)
            road.gate = Gate(session)
            return
        if slot is Slot.NEXT:
            self._retire(road.keys.install_next(session))
            return
        self._retire(road.keys.install_current(session))
        if kick:
            now = self._clock()
            if road.staged:
                self._flush_staged(road, now)
            else:
                self._send_empty(road, now)

    def _retire(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            self._indices.pop(session.local_index, None)

    def drop_keys(self, peer: Handle) -> None:
        road = self._roads[peer]
        self._retire(road.keys.clear())
        self._drop_gate(road)

    # --- Gated key pairs ---

    def release(self, peer: Handle) -> bool:
        road, now = self._roads[peer], self._clock()
        self._expire_gates(now)
        gate = road.gate
        if gate is None:
            return False
        road.gate = None
        self._retire(road.keys.install_next(gate.session))
        if not gate.confirmed:
            return True
        self._retire(road.keys.confirm(gate.session))
        if road.pending & Pending.GATE_CONFIRMED:
            road.pending &= ~Pending.GATE_CONFIRMED
            road.pending |= Pending.KEY_CONFIRMED
        if gate.route is not None and gate.route != road.route:
            self._came_from(road, gate.route)
        self._let_in(road, map(memoryview, gate.held))
        self._gates.empty(gate)
        self._flush_staged(road, now)
        return True

    def refuse(self, peer: Handle) -> None:
        self._drop_gate(self._roads[peer])

    def _drop_gate(self, road: Road) -> None:
        self._drop_held(road)
        if road.gate is not None:
            self._retire([road.gate.session])
            road.gate = None

    def _drop_held(self, road: Road) -> None:
        if road.gate is not None and road.gate.held:
            self._count("gate_dropped", self._gates.empty(road.gate))

    def _expire_gates(self, now: float) -> None:
        for deadline, peer in self._gates.expired(now):
            road = self._roads.get(peer)
            if road is not None and road.gate is not None and road.gate.deadline == deadline:
                self._count("gate_expired")
                self._drop_gate(road)

    # --- Sending ---

    def send_keepalive(self, peer: Handle) -> None:
        self._send_empty(self._roads[peer], self._clock())

    def drop_staged(self, peer: Handle) -> None:
        self._drop_staged(self._roads[peer])

    def _drop_staged(self, road: Road) -> None:
        for _ in road.staged:
            self._count("staged_dropped")
        road.staged.clear()
        road.activity.staged = 0

    def send(
        self,
        data: bytes,
        *,
        to: Endpoint | None = None,
        peer: Handle | None = None,
        ttl: int = 0,
        whole: bool = False,
    ) -> int | None:
        check_ttl(ttl)
        road = None if peer is None else self._roads[peer]
        route = to_route(to) if to is not None else road.route if road is not None else None
        if route is None:
            return EDESTADDRREQ
        error = self._transmit_control(data, route, ttl, whole)
        if road is not None:
            road.mark_sent(self._clock())
            if error is None:
                road.activity.tx_bytes += len(data)
        return error

    def heard(self, peer: Handle, size: int, when: float) -> None:
        self._roads[peer].mark_received(when, size)

    def activity(self, peer: Handle) -> Activity:
        return replace(self._roads[peer].activity)

    def rest(self, peer: Handle) -> None:
        self._roads[peer].resting = True


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
