"""By which ways datagrams come and go beside the pair of sockets, and where they lead."""

from wgpy.datapath.contract import DataPathError, Endpoint, Via
from wgpy.datapath.endpoint import Route, to_route

# Sockets beside the pair: a few fresh ports at a time for one peer behind a difficult NAT, and as
# many as the first guesses at its ports take.
MAX_SOCKETS = 64


class Vias:
    """The sockets that were added, by their handles."""

    def __init__(self) -> None:
        self._next = 1
        self.sockets: set[Via] = set()

    def _name(self) -> Via:
        via = self._next
        self._next += 1
        return via

    def add_socket(self) -> Via:
        """A handle for another socket. Raises DataPathError."""
        if len(self.sockets) == MAX_SOCKETS:
            raise DataPathError(f"there are {MAX_SOCKETS} sockets already")
        via = self._name()
        self.sockets.add(via)
        return via

    def remove(self, via: Via) -> list[Via]:
        """Forget it; what there is no more."""
        if via not in self.sockets:
            return []
        self.sockets.remove(via)
        return [via]

    def route(self, endpoint: Endpoint) -> Route | None:
        """The way to an endpoint, None if what it names is not there (any more)."""
        if endpoint.via and endpoint.via not in self.sockets:
            return None
        return to_route(endpoint)
