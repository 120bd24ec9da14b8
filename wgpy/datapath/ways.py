"""Where the peers are, and by which of our sockets and relays they are reached.

`contract.DataPath` documents every public method.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

from wgpy.datapath.contract import Endpoint, Handle, Via
from wgpy.datapath.endpoint import Route
from wgpy.datapath.hold import Hold, Holds, check_hold
from wgpy.datapath.report import Reports
from wgpy.datapath.road import Pending, Road
from wgpy.datapath.vias import Vias


class Ways(Reports):
    """The peers' roads, and the ways beside the pair of sockets."""

    def __init__(self, clock: Callable[[], float], random: Callable[[int], bytes]) -> None:
        super().__init__(random)
        self._clock = clock
        self._roads: dict[Handle, Road] = {}
        self._vias = Vias()
        self._holds = Holds()
        self._holding: list[Road] = []

    @abstractmethod
    def _close_via(self, via: Via) -> None:
        """Serve its descriptor no more, and close it."""

    @abstractmethod
    def _flush_staged(self, road: Road, now: float) -> None:
        """Send what waited for a key, unless it has to wait because the peer moved."""

    @abstractmethod
    def _send_kept(self, road: Road, kept: list[bytes], now: float) -> None:
        """Send what waited because the peer moved."""

    # --- Sockets and relays ---

    def add_socket(self, fd: int) -> Via:
        return self._vias.add_socket()

    def add_relay(self, server: Endpoint, carrier: int | None = None) -> Via:
        return self._vias.add_relay(server, carried=carrier is not None)

    def set_channel(self, relay: Via, number: int, peer: Endpoint | None) -> None:
        former = self._vias.set_channel(relay, number, peer)
        if former is not None:
            self._forget_routes(lambda route: route == former)

    def remove_via(self, via: Via) -> None:
        for gone in self._vias.remove(via):
            self._forget_routes(partial(_goes_by, gone))
            self._close_via(gone)

    def _forget_routes(self, is_gone: Callable[[Route], bool]) -> None:
        for road in self._roads.values():
            if road.route is not None and is_gone(road.route):
                self._move(road, None)
            if road.elsewhere is not None and is_gone(road.elsewhere):
                road.elsewhere = None
            gate = road.gate
            if gate is not None and gate.route is not None and is_gone(gate.route):
                gate.route = None

    def _is_stun_source(self, route: Route) -> bool:
        return self._stun_sources.has(route) or self._vias.relay_at(route) is not None

    # --- Peers ---

    def set_endpoint(self, peer: Handle, endpoint: Endpoint | None, hold: float = 0.0) -> None:
        check_hold(hold)
        road = self._roads[peer]
        self._move(road, None if endpoint is None else self._vias.route(endpoint))
        road.elsewhere = None
        now = self._clock()
        if not hold:
            self._let_go(road, now)
            # What came while the peer was nowhere.
            self._flush_staged(road, now)
        elif road.hold is None:
            road.hold = Hold(now + hold)
            self._holding.append(road)
        else:
            road.hold.deadline = now + hold

    def let_go(self, peer: Handle) -> None:
        self._let_go(self._roads[peer], self._clock())

    def _let_go(self, road: Road, now: float) -> None:
        """What waited for a key first, for it is older; then what is kept."""
        if road.hold is not None:
            kept = self._end_hold(road)
            self._flush_staged(road, now)
            self._send_kept(road, kept, now)

    def _end_hold(self, road: Road) -> list[bytes]:
        """Let nothing wait any more; what waited."""
        hold, road.hold = road.hold, None
        if hold is None:
            return []
        self._holding.remove(road)
        return self._holds.end(hold)

    def _drop_kept(self, road: Road) -> None:
        kept = self._end_hold(road)
        if kept:
            self._count("hold_dropped", len(kept))

    def _expire_holds(self, now: float) -> None:
        for road in list(self._holding):
            if road.hold is not None and road.hold.deadline <= now:
                self._let_go(road, now)

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
        if peer is None:
            self._vias.forget_source()
        for road in self._roads.values() if peer is None else (self._roads[peer],):
            if road.route is not None and road.route.pktinfo:
                road.route = road.route.without_source()


def _goes_by(via: Via, route: Route) -> bool:
    return route.via == via
