"""Endpoints as the socket calls take them: an address tuple, and the PKTINFO of sticky sources."""

import socket
import struct
from typing import NamedTuple

from wgpy.datapath.contract import Endpoint

# Python has no name for these before 3.14.
IP_PKTINFO = 8
UDP_SEGMENT = 103
UDP_GRO = 104

# struct in_pktinfo: interface index, our address, the address in the header. The last is not used
# when sending; it is written as it is received, so that routes to one place compare equal.
_PKTINFO4 = struct.Struct("@i4s4s")
# struct in6_pktinfo: our address, interface index.
_PKTINFO6 = struct.Struct("@16si")

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


class Route(NamedTuple):
    """Where a datagram goes to and from: `pktinfo` is the control message's data, or empty."""

    address: SocketAddress
    pktinfo: bytes = b""

    @property
    def is_v6(self) -> bool:
        """Whether the IPv6 socket carries it."""
        return len(self.address) == 4

    def control(self) -> list[tuple[int, int, bytes]]:
        """The control messages for sendmsg(2)."""
        if not self.pktinfo:
            return []
        if self.is_v6:
            return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, self.pktinfo)]
        return [(socket.IPPROTO_IP, IP_PKTINFO, self.pktinfo)]


def to_route(endpoint: Endpoint) -> Route:
    """What the socket calls take for an endpoint."""
    source = endpoint.source
    if ":" in endpoint.address:
        pktinfo = _PKTINFO6.pack(source, endpoint.ifindex) if source else b""
        return Route((endpoint.address, endpoint.port, 0, endpoint.scope), pktinfo)
    pktinfo = _PKTINFO4.pack(endpoint.ifindex, source, source) if source else b""
    return Route((endpoint.address, endpoint.port), pktinfo)


def to_endpoint(route: Route) -> Endpoint:
    """The endpoint that a received datagram's address and PKTINFO tell."""
    source: bytes | None = None
    ifindex = 0
    if len(route.address) == 4:
        host, port, _flow, scope = route.address
        if route.pktinfo:
            source, ifindex = _PKTINFO6.unpack(route.pktinfo)
        # recvmsg writes a link-local address with its %scope; the number stands beside it.
        return Endpoint(host.partition("%")[0], port, scope, source, ifindex)
    host, port = route.address
    if route.pktinfo:
        ifindex, source, _header = _PKTINFO4.unpack(route.pktinfo)
    return Endpoint(host, port, 0, source, ifindex)
