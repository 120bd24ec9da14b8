"""By which ways datagrams come and go beside the pair of sockets: other sockets, and relays."""

import struct
from dataclasses import replace

from wgpy.datapath.contract import DataPathError, Endpoint, Via
from wgpy.datapath.endpoint import Route, place_of, to_route
from wgpy.ip import address_text, parse_address

# Sockets beside the pair: a few fresh ports at a time for one peer behind a difficult NAT, and as
# many as the first guesses at its ports take.
MAX_SOCKETS = 64
# Allocations at TURN servers: two or three servers, over each family, by UDP, TCP and TLS.
MAX_RELAYS = 16
# RFC 8656 section 12: the numbers that may be bound. Others that begin with 0x4 are reserved.
FIRST_CHANNEL, LAST_CHANNEL = 0x4000, 0x4FFF
# Section 12.4: the channel, and the length of what follows.
CHANNEL_HEADER = struct.Struct(">HH")
CHANNEL_HEADER_LENGTH = CHANNEL_HEADER.size
MAX_CHANNEL_DATA = 0xFFFF


class Relay:
    """A TURN server with an allocation of ours.

    `server` is the way to it; with `carried` it names the relay itself, whose carrier leads there.
    """

    __slots__ = ("carried", "channels", "server", "via")

    def __init__(self, via: Via, server: Route, carried: bool) -> None:
        self.via = via
        self.server = server._replace(via=via) if carried else server
        self.carried = carried
        # What comes on each channel is from there.
        self.channels: dict[int, Route] = {}


class Vias:
    """The sockets and relays that were added, by their handles."""

    def __init__(self) -> None:
        self._next = 1
        self.sockets: set[Via] = set()
        self.relays: dict[Via, Relay] = {}
        # Those that send to a socket of ours, by the socket, and their address and port.
        self._servers: dict[tuple[Via, tuple[str, int]], Relay] = {}

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

    def add_relay(self, server: Endpoint, carried: bool) -> Via:
        """A handle for a relay. Raises DataPathError."""
        if len(self.relays) == MAX_RELAYS:
            raise DataPathError(f"there are {MAX_RELAYS} relays already")
        if not carried and server.via and server.via not in self.sockets:
            raise DataPathError(f"no socket {server.via} leads to the relay's server")
        route = to_route(replace(server, address=usual_address(server.address), channel=0))
        place = (server.via, place_of(route))
        if not carried and place in self._servers:
            raise DataPathError(f"{server.address}, port {server.port}, is a relay's already")
        via = self._name()
        relay = self.relays[via] = Relay(via, route, carried)
        if not carried:
            self._servers[place] = relay
        return via

    def remove(self, via: Via) -> list[Via]:
        """Forget it, and with a socket the relays that it leads to; what there is no more."""
        gone = [relay.via for relay in self._servers.values() if via and relay.server.via == via]
        gone += [via] if via in self.sockets or via in self.relays else []
        for one in gone:
            self.sockets.discard(one)
            relay = self.relays.pop(one, None)
            if relay is not None and not relay.carried:
                del self._servers[relay.server.via, place_of(relay.server)]
        return gone

    def set_channel(self, via: Via, number: int, peer: Endpoint | None) -> Route | None:
        """Bind a channel, or unbind it. The way that it was, if it is not the same any more.

        Raises DataPathError.
        """
        check_channel(number)
        relay = self.relays.get(via)
        if relay is None:
            raise DataPathError(f"there is no relay {via}")
        if peer is None:
            return relay.channels.pop(number, None)
        place = Endpoint(usual_address(peer.address), peer.port, via=via, channel=number)
        former, route = relay.channels.get(number), to_route(place)
        if former == route:
            # It stays the very one, by which the peer's road knows it.
            return None
        relay.channels[number] = route
        return former

    def route(self, endpoint: Endpoint) -> Route | None:
        """The way to an endpoint, None if what it names is not there (any more)."""
        relay = self.relays.get(endpoint.via)
        if relay is not None:
            return relay.channels.get(endpoint.channel)
        if endpoint.channel or (endpoint.via and endpoint.via not in self.sockets):
            return None
        return to_route(endpoint)

    def wire(self, route: Route) -> Route:
        """The way that datagrams really go: to the relay's server, if there is a relay."""
        return self.relays[route.via].server if route.channel else route

    def is_carried(self, route: Route) -> bool:
        """Whether it goes by a carrier, one datagram at a time."""
        return route.channel != 0 and self.relays[route.via].carried

    def relay_at(self, route: Route) -> Relay | None:
        """The relay whose server a datagram comes from, by a socket of ours."""
        return self._servers.get((route.via, place_of(route)))

    def forget_source(self, route: Route | None = None) -> None:
        """Relays whose server is reached by this way, or all, choose a source afresh."""
        for relay in self.relays.values():
            if route is None or relay.server == route:
                relay.server = relay.server.without_source()


def check_channel(number: int) -> None:
    """Whether it is a channel that may be bound. Raises DataPathError."""
    if not FIRST_CHANNEL <= number <= LAST_CHANNEL:
        raise DataPathError(f"a channel is of {FIRST_CHANNEL:#x} to {LAST_CHANNEL:#x}")


def usual_address(address: str) -> str:
    """The text of an address as a socket tells it. Raises DataPathError."""
    try:
        return address_text(parse_address(address))
    except ValueError as error:
        raise DataPathError(str(error)) from None


def frame(route: Route, data: bytes) -> bytes:
    """A datagram of at most MAX_CHANNEL_DATA bytes as a relay takes it for a channel."""
    return CHANNEL_HEADER.pack(route.channel, len(data)) + data
