"""The control plane's side of the portable data path: peers, their addresses and keys.

`contract.DataPath` documents every public method.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from errno import EAGAIN, EDESTADDRREQ, EMSGSIZE

from wgpy.datapath.allowedips import AllowedIps
from wgpy.datapath.contract import (
    GATED_NEXT_ONLY,
    AllowedIpOperation,
    DataPathError,
    Endpoint,
    Event,
    Handle,
    NewKeyPair,
    Slot,
)
from wgpy.datapath.demux import STUN_COOKIE_INDEX
from wgpy.datapath.endpoint import Route, check_ttl
from wgpy.datapath.gate import Gate, Gates
from wgpy.datapath.road import Pending, Road
from wgpy.datapath.session import Session
from wgpy.datapath.vias import MAX_CHANNEL_DATA, frame
from wgpy.datapath.ways import Ways
from wgpy.ip import Prefix
from wgpy.protocol.activity import Activity
from wgpy.protocol.constants import MAX_INNER_LENGTH


class ControlSide(Ways):
    """Everything of the data path that is not a packet on its way."""

    def __init__(
        self,
        *,
        vnet_header: bool,
        mtu: int,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        super().__init__(clock, random)
        self._vnet_header = vnet_header
        self._next_handle = 1
        self._allowed = AllowedIps()
        # Indices that open a session, and those that are only reserved for a handshake.
        self._indices: dict[int, tuple[Road, Session]] = {}
        self._reserved: set[int] = set()
        self._gates = Gates()
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
    def _let_in(self, road: Road, packets: Iterable[memoryview]) -> None:
        """Give the TUN what was held for a peer, as far as its allowed IPs let it."""

    @abstractmethod
    def _send_empty(self, road: Road, now: float) -> None:
        """Send a keepalive."""

    def _collect(self, limit: int) -> list[Event]:
        now = self._clock()
        self._expire_gates(now)
        self._expire_holds(now)
        return super()._collect(limit)

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
                self._drop_kept(road)

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
        self._drop_kept(road)
        self._allowed.forget(peer)
        if road.pending:
            self._dirty.remove(road)

    def set_allowed_ips(self, changes: Iterable[AllowedIpOperation]) -> None:
        self._allowed.apply(changes)

    def allowed_ips(self, peer: Handle) -> list[Prefix]:
        return self._allowed.of(peer)

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
        road.has_new_key()
        if kick:
            now = self._clock()
            # Where packets wait because the peer moved, those wait with them.
            if road.staged and road.hold is None:
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
        road.has_new_key()
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
        route = self._vias.route(to) if to is not None else None
        if to is None and road is not None:
            route = road.route
        if route is None:
            return EDESTADDRREQ
        error = self._send_control(data, route, ttl, whole)
        if road is not None:
            road.mark_sent(self._clock())
            if error is None:
                road.activity.tx_bytes += len(data)
        return error

    def _send_control(self, data: bytes, route: Route, ttl: int, whole: bool) -> int | None:
        if not route.channel:
            return self._transmit_control(data, route, ttl, whole)
        if len(data) > MAX_CHANNEL_DATA:
            return EMSGSIZE
        error = self._transmit_control(
            frame(route, data), self._vias.wire(route), ttl=ttl, whole=whole
        )
        if error == EAGAIN and self._vias.is_carried(route):
            self._count("carrier_full")
        return error

    def heard(self, peer: Handle, size: int, when: float) -> None:
        self._roads[peer].mark_received(when, size)

    def activity(self, peer: Handle) -> Activity:
        return replace(self._roads[peer].activity)

    def rest(self, peer: Handle) -> None:
        self._roads[peer].resting = True
