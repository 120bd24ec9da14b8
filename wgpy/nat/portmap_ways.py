"""Two ways to a mapping: datagrams, sent again until they are answered, and orders for UPnP.

Both do one errand at a time, for one port at one router, and say what came of it; what follows from
it is decided in portmap.py.
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from wgpy.nat import natpmp, pcp
from wgpy.nat.mapping import (
    MAX_LIFETIME,
    SERVER_PORT,
    Epoch,
    Granted,
    Present,
    Refused,
    Removed,
    Service,
)
from wgpy.nat.natpmp import is_natpmp
from wgpy.nat.place import Place, Send
from wgpy.nat.portmap_look import AtGateway
from wgpy.nat.upnp import Deed, Order, Outcome

# Seconds that we ask for: what RFC 6886, 3.3, advises.
LIFETIME: Final = 7_200
# From each sending to the next, and from the last to giving up: RFC 6886, 3.1, but for its last
# four, for nobody waits a minute for us. RFC 6887 begins with 3 s, which is for servers that may be
# farther away than a home's router, and that have not answered a moment ago.
RESEND: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
# When we leave: a second in all.
RESEND_LAST: Final = (0.25, 0.75)
# The first pause where there is nothing to be had, and the longest; each is twice the one before.
FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 3_600.0
# Ports that UPnP tries, the first of them the one that we should like.
PORTS_TRIED: Final = 4
# Ports below are a router's own.
LOWEST_PORT: Final = 1_024


class Lost(NamedTuple):
    """The router forgot the mapping."""

    reason: str


class Silent(NamedTuple):
    """Nobody answers."""


Result = Granted | Present | Removed | Refused | Lost | Silent


class Errand(Enum):
    """What a way is doing."""

    ASK = auto()
    CHECK = auto()
    REMOVE = auto()


class Way(Protocol):
    """What portmap.py does with either."""

    service: Service
    # What is under way, None for nothing.
    errand: Errand | None

    def ask(self, wanted: tuple[int, ...], held: Place | None, now: float) -> None:
        """Ask for a mapping to the first of these external ports, or renew the one that is held."""

    def check(self, held: Place, now: float) -> None:
        """Look whether the mapping is still there."""

    def remove(self, held: Place | None, now: float) -> None:
        """Give back what is held, or what may have been granted since, and wait for the answer."""

    def part(self, held: Place | None) -> None:
        """Give it back, and wait for nothing."""

    def receive(self, data: bytes, now: float) -> Result | None:
        """A datagram from the router's server. Raises ParseError."""

    def outcome(self, order: Order, outcome: Outcome) -> Result | None:
        """What came of an order of this way."""

    def tick(self, now: float) -> Result | None:
        """Do what is due."""

    def due(self) -> float | None:
        """When `tick` is to be called next."""

    def take(self) -> list[Send | Order]:
        """What is to be sent and done."""


class UdpWay:
    """PCP or NAT-PMP. `host` is the router's external address as NAT-PMP told it."""

    def __init__(
        self,
        client: pcp.PcpClient | natpmp.NatPmpClient,
        gateway: str,
        epoch: Epoch,
        host: str = "",
    ) -> None:
        self.service: Service = client.service
        self.errand: Errand | None = None
        self._client = client
        self._server = Place(gateway, SERVER_PORT)
        self._epoch = epoch
        self._host = host
        self._data = b""
        self._waits: tuple[float, ...] = ()
        self._due = 0.0
        self._out: list[Send | Order] = []

    def ask(self, wanted: tuple[int, ...], held: Place | None, now: float) -> None:
        """The router chooses, if it cannot give the first port that is wanted (RFC 6887, 11.1)."""
        request = self._client.ask(LIFETIME, held or Place("", wanted[0]))
        self._begin(Errand.ASK, request, RESEND, now)

    def check(self, held: Place, now: float) -> None:
        """The server's epoch tells whether it remembers."""
        self._begin(Errand.CHECK, self._client.check(), RESEND, now)

    def remove(self, held: Place | None, now: float) -> None:
        """The router finds the mapping by our port."""
        self._begin(Errand.REMOVE, self._client.remove(), RESEND_LAST, now)

    def part(self, held: Place | None) -> None:
        """One datagram."""
        self.errand = None
        self._out.append(Send(self._client.remove(), self._server))

    def receive(self, data: bytes, now: float) -> Result | None:
        """None for an answer that does not belong to the errand. Raises ParseError."""
        if is_natpmp(data) != (self.service is Service.NAT_PMP):
            return None
        answer = self._client.read(data)
        content = answer.content
        fitting = isinstance(content, _FITTING[self.errand]) if self.errand else False
        if not fitting:
            return None
        checked, self.errand = self.errand is Errand.CHECK, None
        lost = self._epoch.note(answer.epoch, now)
        if isinstance(content, Granted):
            lifetime = min(content.lifetime, MAX_LIFETIME)
            return Granted(content.host or self._host, content.port, lifetime)
        if isinstance(content, Present):
            self._host = content.host
            return Lost("the router was started anew") if checked and lost else content
        return content

    def outcome(self, order: Order, outcome: Outcome) -> Result | None:
        """No order is of this way."""
        return None

    def tick(self, now: float) -> Result | None:
        """Send again, or give up."""
        if self.errand is None or now < self._due:
            return None
        if not self._waits:
            self.errand = None
            return Silent()
        self._send(now)
        return None

    def due(self) -> float | None:
        """When it is sent again, or given up."""
        return None if self.errand is None else self._due

    def take(self) -> list[Send | Order]:
        """What is to be sent."""
        out, self._out = self._out, []
        return out

    def _begin(self, errand: Errand, data: bytes, waits: tuple[float, ...], now: float) -> None:
        self.errand, self._data, self._waits = errand, data, waits
        self._send(now)

    def _send(self, now: float) -> None:
        self._out.append(Send(self._data, self._server))
        self._due = now + self._waits[0]
        self._waits = self._waits[1:]


# Which answers there may be to which errand.
_FITTING: Final = {
    Errand.ASK: (Granted, Removed, Refused),
    Errand.CHECK: (Present, Refused),
    Errand.REMOVE: (Removed, Refused),
}


class UpnpWay:
    """UPnP, at the gateway whose description is at `url`. Whoever carries out the orders bounds the
    time that they take."""

    def __init__(self, url: str, gateway: str, own: str, port: int) -> None:
        self.service: Service = Service.UPNP
        self.errand: Errand | None = None
        self._url = url
        self._gateway = gateway
        self._own = own
        self._port = port
        self._order: Order | None = None
        self._out: list[Send | Order] = []

    def ask(self, wanted: tuple[int, ...], held: Place | None, now: float) -> None:
        """We choose; a port that another has is passed over."""
        ports = (held.port,) if held else wanted
        self._give(Errand.ASK, Deed.MAP, ports, held.port if held else 0)

    def check(self, held: Place, now: float) -> None:
        """The router says whom it forwards the port to."""
        self._give(Errand.CHECK, Deed.CHECK, (held.port,), held.port)

    def remove(self, held: Place | None, now: float) -> None:
        """An order to ask for a port that is under way is undone when its outcome is known."""
        if held is not None:
            self._give(Errand.REMOVE, Deed.REMOVE, (held.port,), held.port)

    def part(self, held: Place | None) -> None:
        """An order whose outcome nobody waits for."""
        self.errand = self._order = None
        if held is not None:
            self._out.append(self._make(Deed.REMOVE, (held.port,), held.port))

    def receive(self, data: bytes, now: float) -> Result | None:
        """No datagram is of this way."""
        return None

    def outcome(self, order: Order, outcome: Outcome) -> Result | None:
        """None for an order that is not the errand."""
        if order is not self._order:
            return None
        self.errand = self._order = None
        if order.deed is Deed.REMOVE:
            return Removed()
        if order.deed is Deed.CHECK:
            return Lost(outcome.refusal) if outcome.refusal else Present(outcome.host)
        if outcome.refusal:
            return Refused(outcome.refusal)
        return Granted(outcome.host, outcome.port, outcome.lifetime)

    def tick(self, now: float) -> Result | None:
        """Nothing is due by time."""
        return None

    def due(self) -> float | None:
        """An order has its outcome by itself."""
        return None

    def take(self) -> list[Send | Order]:
        """The orders to be carried out, in this order."""
        out, self._out = self._out, []
        return out

    def _give(self, errand: Errand, deed: Deed, ports: tuple[int, ...], held: int) -> None:
        self.errand = errand
        self._order = self._make(deed, ports, held)
        self._out.append(self._order)

    def _make(self, deed: Deed, ports: tuple[int, ...], held: int) -> Order:
        return Order(deed, self._url, self._gateway, self._own, self._port, ports, held, LIFETIME)


def undone(order: Order, outcome: Outcome) -> Order | None:
    """The order that undoes one whose outcome nobody wants any more; None if it did nothing."""
    if order.deed is not Deed.MAP or outcome.refusal or not outcome.port:
        return None
    ports = (outcome.port,)
    return Order(Deed.REMOVE, order.url, order.gateway, order.own, order.port, ports, outcome.port)


class Pauses:
    """How long is waited where there is nothing to be had; a new one after a success."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE
        self._refused = 0

    def heed(self, seconds: int) -> None:
        """A refusal holds for so long."""
        self._refused = max(self._refused, seconds)

    def next(self, fraction: float) -> float:
        """The next pause, in seconds; `fraction` of 0 to 1 spreads it by a tenth to both sides."""
        pause = self._next * (0.9 + 0.2 * fraction)
        self._next = min(self._next * 2, LONGEST_PAUSE)
        refused, self._refused = self._refused, 0
        return max(pause, refused)


def check_announcement(data: bytes) -> None:
    """Whether a router could have said this unasked: a response of either protocol. Raises
    ParseError."""
    if is_natpmp(data):
        natpmp.parse_response(data)
    else:
        pcp.parse_response(data)


def make_way(
    service: Service, seen: AtGateway, port: int, secret: bytes, epochs: Mapping[Service, Epoch]
) -> Way:
    """The way to a mapping of our `port` by a service that was seen at a gateway."""
    gateway, own = seen.network.gateway, seen.network.own
    if service is Service.UPNP:
        return UpnpWay(seen.upnp, gateway, own, port)
    if service is Service.NAT_PMP:
        host = seen.found[service].external
        return UdpWay(natpmp.NatPmpClient(port), gateway, epochs[service], host)
    client = pcp.PcpClient(own, port, pcp.make_nonce(secret, gateway, own, str(port)))
    return UdpWay(client, gateway, epochs[service])


def wanted_ports(remembered: int, port: int, random: Callable[[int], bytes]) -> tuple[int, ...]:
    """External ports, the best first: what we had, 0 for nothing; our own, which a NAT that keeps
    ports gives our other packets too; and some at random, for our own may be taken."""
    wanted = [remembered, port if port >= LOWEST_PORT else 0]
    for _ in range(PORTS_TRIED):
        span = 0x1_0000 - LOWEST_PORT
        wanted.append(LOWEST_PORT + int.from_bytes(random(4), "big") % span)
    return tuple(dict.fromkeys(port for port in wanted if port))[:PORTS_TRIED]
