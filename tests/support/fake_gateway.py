"""A router with port mapping services, and a PortMap on its network, on a fake clock.

    life = Life(Router({"PCP", "NAT-PMP"}))
    life.run(7_200)
    assert life.router.forwards(41_000) == (OWN, PORT)

The router is written from RFC 6887 and RFC 6886 with a codec of its own, so that it and the package
cannot be wrong in the same way.
"""

import heapq
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from wgpy.nat.mapping import Changed, Mapping
from wgpy.nat.place import Place, Send
from wgpy.nat.portmap import PortMap
from wgpy.nat.portmap_look import Network
from wgpy.nat.upnp import Deed, Order, Outcome

GATEWAY, OWN = "192.168.1.1", "192.168.1.50"
EXTERNAL = "11.0.0.7"
NETWORK = Network(GATEWAY, OWN, 2)
GATEWAY_V6, OWN_V6 = "fe80::1", "2a00:5::50"
NETWORK_V6 = Network(GATEWAY_V6, OWN_V6, 2)
PORT = 41_000
SECRET = bytes(range(32))
SERVER = 5351
START = 1_000.0
# One way; the network of a home.
DELAY = 0.002


def wide(host: str) -> bytes:
    """An address in 16 bytes, as PCP has it."""
    address = ip_address(host)
    return bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed


def narrow(field: bytes) -> str:
    """The text of such an address."""
    return str(ip_address(field[12:] if field[:12] == bytes(10) + b"\xff\xff" else field))


@dataclass
class Forward:
    """What the router forwards an external port to."""

    host: str
    port: int
    expires: float
    nonce: bytes = b""


@dataclass
class Router:
    """What a router does, and where it errs or lies. Times are the fake clock's."""

    services: set[str]
    gateway: str = GATEWAY
    external: str = EXTERNAL
    # The least and the most that it grants, in seconds.
    lifetimes: tuple[int, int] = (120, 86_400)
    # External ports of other machines.
    taken: set[int] = field(default_factory=set)
    # Answers to requests for a mapping: a result code of PCP or NAT-PMP.
    refuses: int = 0
    refuses_for: int = 0
    # What it grants instead of what it should.
    lie: Callable[[int], int] | None = None
    only_permanent: bool = False
    started: float = START - 500
    clock: Callable[[], float] = lambda: START
    forwarded: dict[int, Forward] = field(default_factory=dict)
    # Each request for a mapping: service, our port, the port that is wanted, the lifetime.
    asked: list[tuple[str, int, int, int]] = field(default_factory=list)
    most: int = 0

    def reboot(self, *, external: str | None = None) -> None:
        """Forget every mapping, and begin a new epoch."""
        self.forwarded.clear()
        self.started = self.clock()
        self.external = external or self.external

    def forwards(self, external: int) -> tuple[str, int] | None:
        """Whom it forwards a port to now."""
        found = self.forwarded.get(external)
        return (found.host, found.port) if found and found.expires > self.clock() else None

    def ours(self) -> list[int]:
        """The external ports that lead somewhere now."""
        return [port for port in self.forwarded if self.forwards(port)]

    @property
    def epoch(self) -> int:
        return int(self.clock() - self.started)

    def hear(self, send: Send) -> list[tuple[bytes, Place]]:
        """The answers to a datagram, and where they come from."""
        server = Place(self.gateway, SERVER)
        if send.to == server and send.data[0] == 2:
            answer = self.pcp(send.data)
            return [(answer, server)] if answer else []
        if send.to == server:
            answer = self.natpmp(send.data)
            return [(answer, server)] if answer else []
        if "UPnP" in self.services and send.to.port == 1900 and b"InternetGateway" in send.data:
            text = f"HTTP/1.1 200 OK\r\nLocation: http://{self.gateway}:5000/root.xml\r\n\r\n"
            return [(text.encode(), Place(self.gateway, 1900))]
        return []

    # --- PCP (RFC 6887, 7 and 11) ---

    def pcp(self, data: bytes) -> bytes:
        if "PCP" not in self.services:
            # Section 3.5 of RFC 6886: what a NAT-PMP server says of another version.
            if "NAT-PMP" not in self.services:
                return b""
            return struct.pack("!BBHI", 0, 128 | data[1], 1, self.epoch)
        opcode, lifetime, client = data[1], *struct.unpack_from("!I16s", data, 4)
        if opcode == 0:
            return self._pcp_head(0, 0, 0)
        nonce, protocol, inner, outer, host = struct.unpack_from("!12sB3xHH16s", data, 24)
        assert protocol == 17
        self.asked.append(("PCP", inner, outer, lifetime))
        own = narrow(client)
        result = self.refuses
        before = self._held(own, inner)
        if not result and before is not None and self.forwarded[before].nonce != nonce:
            result = 2
        if result:
            return self._pcp_head(1, result, self.refuses_for) + data[24:60]
        if lifetime == 0:
            assert outer == 0, "section 15.1"
            assert host in (bytes(16), wide("0.0.0.0")), "section 15.1"
            self.forwarded.pop(before or 0, None)
            return self._pcp_head(1, 0, 0) + data[24:60]
        least, most = self.lifetimes
        lifetime = min(max(lifetime, least), most)
        # The port of an IPv6 host that a firewall opens is its own.
        is_v6 = ":" in own
        granted = inner if is_v6 else self._grant(own, inner, outer, lifetime, nonce)
        external = own if is_v6 and self.external == EXTERNAL else self.external
        if is_v6:
            self.forwarded[granted] = Forward(own, inner, self.clock() + lifetime, nonce)
        if self.lie:
            granted = self.lie(granted)
        mapped = struct.pack("!12sB3xHH16s", nonce, 17, inner, granted, wide(external))
        return self._pcp_head(1, 0, lifetime) + mapped

    def _pcp_head(self, opcode: int, result: int, lifetime: int) -> bytes:
        return struct.pack("!BBBBII12x", 2, 128 | opcode, 0, result, lifetime, self.epoch)

    # --- NAT-PMP (RFC 6886, 3) ---

    def natpmp(self, data: bytes) -> bytes:
        if "NAT-PMP" not in self.services:
            return b""
        if data[1] == 0:
            external = ip_address(self.external).packed
            return struct.pack("!BBHI4s", 0, 128, 0, self.epoch, external)
        inner, outer, lifetime = struct.unpack_from("!HHI", data, 4)
        self.asked.append(("NAT-PMP", inner, outer, lifetime))
        if self.refuses:
            return struct.pack("!BBHI", 0, 129, self.refuses, self.epoch)
        if lifetime == 0:
            assert outer == 0, "section 3.4"
            self.forwarded.pop(self._held(OWN, inner) or 0, None)
            return struct.pack("!BBHIHHI", 0, 129, 0, self.epoch, inner, 0, 0)
        least, most = self.lifetimes
        lifetime = min(max(lifetime, least), most)
        granted = self._grant(OWN, inner, outer, lifetime, b"")
        if self.lie:
            granted = self.lie(granted)
        return struct.pack("!BBHIHHI", 0, 129, 0, self.epoch, inner, granted, lifetime)

    # --- UPnP, as upnp_worker.py brings it about ---

    def obey(self, order: Order) -> Outcome:
        assert order.own == OWN
        if "UPnP" not in self.services:
            return Outcome(refusal="No UPnP device discovered")
        if order.deed is Deed.MAP:
            return self._upnp_map(order)
        if self.forwards(order.external[0]) != (order.own, order.port):
            return Outcome(refusal="the router has lost the mapping")
        if order.deed is Deed.REMOVE:
            self.forwarded.pop(order.external[0])
            return Outcome()
        return Outcome("", self.external, order.external[0], 1)

    def _upnp_map(self, order: Order) -> Outcome:
        lifetime = 0 if self.only_permanent else min(order.lifetime, self.lifetimes[1])
        for port in order.external:
            self.asked.append(("UPnP", order.port, port, lifetime))
            if self.refuses:
                return Outcome(refusal="Action not authorized")
            if port in self.taken or self.forwards(port) not in (None, (order.own, order.port)):
                continue
            until = self.clock() + lifetime if lifetime else float("inf")
            self._keep(port, Forward(order.own, order.port, until))
            granted = self.lie(port) if self.lie else port
            return Outcome("", self.external, granted, lifetime)
        return Outcome(refusal="every port that was asked for is another's")

    # --- The table ---

    def _held(self, own: str, inner: int) -> int | None:
        found = (p for p in self.ours() if self.forwards(p) == (own, inner))
        return next(found, None)

    def _grant(self, own: str, inner: int, outer: int, lifetime: int, nonce: bytes) -> int:
        port = self._held(own, inner) or outer or inner
        while port in self.taken or self.forwards(port) not in (None, (own, inner)):
            port += 1
        self._keep(port, Forward(own, inner, self.clock() + lifetime, nonce))
        return port

    def _keep(self, port: int, forward: Forward) -> None:
        self.forwarded[port] = forward
        self.most = max(self.most, len(self.ours()))


class Life:
    """A PortMap, its router, and the clock. `loss` says of each datagram whether it is lost."""

    def __init__(
        self, router: Router, network: Network | None = NETWORK, *, upnp_refusal: str = ""
    ) -> None:
        self.now = START
        self.router = router
        router.clock = lambda: self.now
        self.random = random.Random(1)
        self.map = PortMap(self.random.randbytes, SECRET, upnp_refusal=upnp_refusal)
        self.loss: Callable[[Send], bool] = lambda send: False
        # One way, and for what a process does.
        self.delay = DELAY
        self.order_time = 0.3
        # Moments and datagrams, orders, changes.
        self.sent: list[tuple[float, Send]] = []
        self.orders: list[tuple[float, Order]] = []
        self.changes: list[tuple[float, Changed]] = []
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        if network is not None:
            self.map.set(network, PORT, self.now)
            self.flush()

    @property
    def mapping(self) -> Mapping | None:
        return self.map.mapping

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        for _ in range(200_000):
            moments = [when for when in (self.map.due(), *(x[0] for x in self._coming[:1])) if when]
            if not moments or min(moments) > end:
                self.now = end
                return
            self.now = max(self.now, min(moments))
            if self._coming and self._coming[0][0] <= self.now:
                heapq.heappop(self._coming)[2]()
            else:
                self.map.tick(self.now)
            self.flush()
        raise AssertionError("a life that does not go on")

    def flush(self) -> None:
        """Carry out what the PortMap wants."""
        for item in self.map.take():
            if isinstance(item, Changed):
                self.changes.append((self.now, item))
            elif isinstance(item, Order):
                self.orders.append((self.now, item))
                self._later(self.order_time, lambda order=item: self._obey(order))
            else:
                self.sent.append((self.now, item))
                if not self.loss(item):
                    self._later(self.delay, lambda send=item: self._reach(send))

    def deliver(self, data: bytes, source: Place) -> None:
        """A datagram arrives now."""
        self.map.receive(data, source, self.now)
        self.flush()

    def release(self) -> None:
        """Leave, and wait until it is done or a second is over."""
        self.map.release(self.now)
        self.flush()
        self.run(1.0)

    def _reach(self, send: Send) -> None:
        for data, source in self.router.hear(send):
            self._later(self.delay, lambda d=data, s=source: self.map.receive(d, s, self.now))

    def _obey(self, order: Order) -> None:
        self.map.outcome(order, self.router.obey(order), self.now)

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._coming, (self.now + delay, self._number, call))
