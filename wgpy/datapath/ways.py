"""Where the peers are, and by which of our sockets they are reached.

`contract.DataPath` documents every public method.
"""

from abc import abstractmethod
from collections.abc import Callable

from wgpy.datapath.contract import Endpoint, Handle, Via
from wgpy.datapath.endpoint import Route
from wgpy.datapath.report import Reports
from wgpy.datapath.road import Pending, Road
from wgpy.datapath.vias import Vias


class Ways(Reports):
    """The peers' roads, and the sockets that are not of the pair."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        super().__init__(random)
        self._roads: dict[Handle, Road] = {}
        self._vias = Vias()

    @abstractmethod
    def _close_via(self, via: Via) -> None:
        """Serve its descriptor no more, and close it."""

    # --- Sockets ---

    def add_socket(self, fd: int) -> Via:
        return self._vias.add_socket()

    def remove_via(self, via: Via) -> None:
        for gone in self._vias.remove(via):
            self._close_via(gone)
            for road in self._roads.values():
                self._forget_via(road, gone)

    def _forget_via(self, road: Road, via: Via) -> None:
        if road.route is not None and road.route.via == via:
            self._move(road, None)
        if road.elsewhere is not None and road.elsewhere.via == via:
            road.elsewhere = None
        gate = road.gate
        if gate is not None and gate.route is not None and gate.route.via == via:
            gate.route = None

    # --- Peers ---

    def set_endpoint(self, peer: Handle, endpoint: Endpoint | None) -> None:
        road = self._roads[peer]
        self._move(road, None if endpoint is None else self._vias.route(endpoint))
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
                road.route = road.route.without_source()
