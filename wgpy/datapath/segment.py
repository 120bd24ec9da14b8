"""TCP segmentation (TSO): one large packet of the kernel into packets that fit the MTU.

A TUN with offloads hands over up to 64 KiB of one TCP flow at once, with the checksum left to us.
"""

import struct
from collections.abc import Iterator

from wgpy.datapath.packet import IPV4_HEADER, IPV6_HEADER, PROTOCOL_TCP, checksum, word_sum
from wgpy.datapath.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, VNET_HEADER

_FIN = 0x01
_PSH = 0x08
_CWR = 0x80
_LAST_ONLY = _FIN | _PSH

_U16 = struct.Struct("!H")
# Of an IPv4 header from byte 2: total length, identification, fragment, TTL, protocol, checksum.
_IPV4_FIELDS = struct.Struct("!HHHBBH")
# Of a TCP header from byte 4: sequence, acknowledgment, offset, flags, window, checksum.
_TCP_FIELDS = struct.Struct("!IIBBHH")

_TCP_HEADER = 20
_TCP_CHECKSUM = 16
# IPv6 extension headers may come before TCP, and the kernel bounds them by nothing but the packet:
# more than the native data path has room for is refused here too.
_MAX_HEADERS = 512


class OffloadError(Exception):
    """A packet whose vnet header does not fit it: dropped and counted."""


def finish_checksum(packet: memoryview, start: int, offset: int) -> None:
    """Complete a checksum that the kernel left to us: `start` and `offset` as in the vnet header.

    The field holds the sum of the pseudo header already. Raises OffloadError.
    """
    field = start + offset
    if field + 2 > len(packet):
        raise OffloadError("the checksum field is outside of the packet")
    # UDP writes a checksum of zero as 0xFFFF (RFC 768), which TCP accepts as well.
    _U16.pack_into(packet, field, checksum(word_sum(packet[start:])) or 0xFFFF)


def segments(
    packet: memoryview, vnet: bytes | memoryview
) -> Iterator[tuple[bytearray, memoryview]]:
    """The packets that a TUN read stands for: header and payload of each, in order.

    `packet` is the inner packet after its vnet header `vnet` (10 bytes), whose GSO type is not
    "none". The headers are one reused buffer: copy each before asking for the next. Raises
    OffloadError before the first is given.
    """
    _flags, gso_type, _length, size, start, offset = VNET_HEADER.unpack(vnet)
    if gso_type & ~GSO_ECN not in (GSO_TCPV4, GSO_TCPV6) or not size:
        raise OffloadError(f"segmentation of type {gso_type} and size {size} was not asked for")
    v4 = gso_type & ~GSO_ECN == GSO_TCPV4
    least = IPV4_HEADER if v4 else IPV6_HEADER
    if offset != _TCP_CHECKSUM or start < least or start + _TCP_HEADER > len(packet):
        raise OffloadError("the vnet header does not describe a TCP packet")
    if packet[0] >> 4 != (4 if v4 else 6):
        raise OffloadError("the vnet header names the other IP version")
    end = start + (packet[start + 12] >> 4) * 4
    if end < start + _TCP_HEADER or end > min(len(packet), _MAX_HEADERS):
        raise OffloadError(f"the headers are longer than the packet, or than {_MAX_HEADERS} bytes")
    return _segments(packet, size, start, end, v4)


def _segments(
    packet: memoryview, size: int, tcp: int, end: int, v4: bool
) -> Iterator[tuple[bytearray, memoryview]]:
    header = bytearray(packet[:end])
    sequence, acknowledged, offset, flags, window, _checksum = _TCP_FIELDS.unpack_from(
        header, tcp + 4
    )
    _total, ident, fragment, ttl, protocol, _checksum = _IPV4_FIELDS.unpack_from(header, 2)
    # Everything that the segments' sums share is added up once: addresses, protocol, and the
    # headers without what changes from one segment to the next.
    _TCP_FIELDS.pack_into(header, tcp + 4, 0, acknowledged, offset, 0, window, 0)
    addresses = header[12:20] if v4 else header[8:40]
    tcp_base = word_sum(addresses) + PROTOCOL_TCP + word_sum(header[tcp:])
    if v4:
        _IPV4_FIELDS.pack_into(header, 2, 0, 0, fragment, ttl, protocol, 0)
    ip_base = word_sum(header[:tcp])
    last = len(packet) - size
    # An empty payload is one segment as well.
    for begin in range(end, max(len(packet), end + 1), size):
        payload = packet[begin : begin + size]
        mine = flags if begin >= last else flags & ~_LAST_ONLY
        if begin > end:
            mine &= ~_CWR
        length = end - tcp + len(payload)
        if v4:
            total = tcp + length
            ip_sum = 0xFFFF - ((ip_base + total + ident) % 0xFFFF or 0xFFFF)
            _IPV4_FIELDS.pack_into(header, 2, total, ident, fragment, ttl, protocol, ip_sum)
            ident = (ident + 1) & 0xFFFF
        else:
            _U16.pack_into(header, 4, tcp + length - IPV6_HEADER)
        # word_sum and checksum, written out: this runs once for each packet on the wire.
        number = int.from_bytes(payload, "big")
        total = tcp_base + length + (sequence >> 16) + (sequence & 0xFFFF) + mine
        total += number << 8 if len(payload) & 1 else number
        tcp_sum = 0xFFFF - (total % 0xFFFF or 0xFFFF)
        _TCP_FIELDS.pack_into(
            header, tcp + 4, sequence, acknowledged, offset, mine, window, tcp_sum
        )
        yield header, payload
        sequence = (sequence + size) & 0xFFFFFFFF
