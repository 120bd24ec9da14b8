"""Endpoints as the socket calls take them: an address tuple, and the PKTINFO of sticky sources."""

import functools
import socket
import struct
from typing import NamedTuple

from wgpy.datapath.contract import DataPathError, Endpoint, Via
from wgpy.ip import parse_address

# Python has no name for these before 3.14.
IP_PKTINFO = 8
UDP_SEGMENT = 103
UDP_GRO = 104
IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
# Of both: fragments are made where a datagram needs them; "do not fragment", whatever the known
# MTU of the path is.
PMTUDISC_DONT = 0
PMTUDISC_PROBE = 3

# What a header has room for.
MAX_TTL = 255

_INT = struct.Struct("@i")

# struct in_pktinfo: interface index, our address, the address in the header. The last is not used
# when sending; it is written as it is received, so that routes to one place compare equal.
_PKTINFO4 = struct.Struct("@i4s4s")
# struct in6_pktinfo: our address, interface index.
_PKTINFO6 = struct.Struct("@16si")

# The bytes of an endpoint's address: the same peers are asked for again and again.
address_bytes = functools.lru_cache(1024)(parse_address)

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


class Route(NamedTuple):
    """Where a datagram goes to and from: `pktinfo` is the control message's data, or empty, and
    `via` the socket, or with a `channel` the relay."""

    address: SocketAddress
    pktinfo: bytes = b""
    via: Via = 0
    channel: int = 0

    @property
    def is_v6(self) -> bool:
        """Whether the IPv6 socket carries it."""
        return len(self.address) == 4

    def without_source(self) -> "Route":
        """The same way from whatever address of ours."""
        return self._replace(pktinfo=b"")

    def leads_to(self, other: "Route | None") -> bool:
        """Whether the other side is the same place, whatever address of ours it hits."""
        return (
            other is not None
            and self[2:] == other[2:]
            and place_of(self) == place_of(other)
            # The scope of a link-local address.
            and self.address[3:] == other.address[3:]
        )

    def control(self, ttl: int = 0) -> list[tuple[int, int, bytes]]:
        """The control messages for sendmsg(2): the source, and a time to live unless it is 0."""
        messages = []
        if self.pktinfo and self.is_v6:
            messages.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, self.pktinfo))
        elif self.pktinfo:
            messages.append((socket.IPPROTO_IP, IP_PKTINFO, self.pktinfo))
        if ttl and self.is_v6:
            messages.append((socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, _INT.pack(ttl)))
        elif ttl:
            messages.append((socket.IPPROTO_IP, socket.IP_TTL, _INT.pack(ttl)))
        return messages

    def discover(self) -> tuple[int, int]:
        """The level and name of the socket option that says whether datagrams may be fragmented."""
        if self.is_v6:
            return socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER
        return socket.IPPROTO_IP, IP_MTU_DISCOVER


def place_of(route: Route) -> tuple[str, int]:
    """The address and port of the other side, without our own."""
    host, port = route.address[:2]
    # recvmsg writes a link-local address with its %scope; in an endpoint it stands beside it.
    return host.partition("%")[0], port


def check_ttl(ttl: int) -> None:
    """Whether it is a time to live, or 0. Raises DataPathError."""
    if not 0 <= ttl <= MAX_TTL:
        raise DataPathError(f"a time to live is at most {MAX_TTL}, not {ttl}")


def to_route(endpoint: Endpoint) -> Route:
    """What the socket calls take for an endpoint."""
    source = endpoint.source
    if ":" in endpoint.address:
        pktinfo = _PKTINFO6.pack(source, endpoint.ifindex) if source else b""
        address = (endpoint.address, endpoint.port, 0, endpoint.scope)
        return Route(address, pktinfo, endpoint.via, endpoint.channel)
    pktinfo = _PKTINFO4.pack(endpoint.ifindex, source, source) if source else b""
    return Route((endpoint.address, endpoint.port), pktinfo, endpoint.via, endpoint.channel)


def to_endpoint(route: Route) -> Endpoint:
    """The endpoint that a received datagram's address and PKTINFO tell."""
    source: bytes | None = None
    ifindex = 0
    if len(route.address) == 4:
        host, port, _flow, scope = route.address
        if route.pktinfo:
            source, ifindex = _PKTINFO6.unpack(route.pktinfo)
        # recvmsg writes a link-local address with its %scope; the number stands beside it.
        return Endpoint(host.partition("%")[0], port, scope, source, ifindex, *route[2:])
    host, port = route.address
    if route.pktinfo:
        ifindex, source, _header = _PKTINFO4.unpack(route.pktinfo)
    return Endpoint(host, port, 0, source, ifindex, *route[2:])


def source_of(endpoint: Endpoint) -> tuple[bytes, bytes]:
    """Who sent a datagram: what a rate counts by, and what a cookie is made over.

    An address of 4 or 16 bytes, and with its port (2 bytes, big-endian) behind it. Through a relay
    the relay's server has seen the address and nobody else has, so there both are its handle
    (4 bytes, big-endian) and the channel (2 bytes, big-endian). No address with its port reads as
    one of these: it would be of 0.0.0.0/8, from which nothing comes.
    """
    if endpoint.channel:
        relayed = endpoint.via.to_bytes(4, "big") + endpoint.channel.to_bytes(2, "big")
        return relayed, relayed
    address = address_bytes(endpoint.address)
    return address, address + endpoint.port.to_bytes(2, "big")
