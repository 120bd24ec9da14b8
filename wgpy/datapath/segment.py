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
_U32 = struct.Struct("!I")
_LENGTH_AND_ID = struct.Struct("!HH")

_TCP_HEADER = 20
_TCP_CHECKSUM = 16


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
    if end < start + _TCP_HEADER or end > len(packet):
        raise OffloadError("the TCP header is longer than the packet")
    return _segments(packet, size, start, end, v4)


def _segments(
    packet: memoryview, size: int, tcp: int, end: int, v4: bool
) -> Iterator[tuple[bytearray, memoryview]]:
    header = bytearray(packet[:end])
    (sequence,) = _U32.unpack_from(packet, tcp + 4)
    (identification,) = _U16.unpack_from(packet, 4)
    flags = packet[tcp + 13]
    # Everything that each segment's sums share is added up once: addresses, protocol, and the TCP
    # header with sequence number, flags and checksum left out.
    _U32.pack_into(header, tcp + 4, 0)
    header[tcp + 13] = 0
    _U16.pack_into(header, tcp + _TCP_CHECKSUM, 0)
    addresses = packet[12:20] if v4 else packet[8:40]
    tcp_base = word_sum(addresses) + PROTOCOL_TCP + word_sum(header[tcp:])
    ip_base = _ipv4_base(header, tcp) if v4 else 0
    last = len(packet) - size
    for index, begin in enumerate(range(end, max(len(packet), end + 1), size)):
        payload = packet[begin : begin + size]
        mine = flags
        if begin < last:
            mine &= ~_LAST_ONLY
        if index:
            mine &= ~_CWR
        length = end - tcp + len(payload)
        if v4:
            ident = (identification + index) & 0xFFFF
            _LENGTH_AND_ID.pack_into(header, 2, tcp + length, ident)
            _U16.pack_into(header, 10, checksum(ip_base + tcp + length + ident))
        else:
            _U16.pack_into(header, 4, tcp + length - IPV6_HEADER)
        total = (
            tcp_base + length + (sequence >> 16) + (sequence & 0xFFFF) + mine + word_sum(payload)
        )
        _U32.pack_into(header, tcp + 4, sequence)
        header[tcp + 13] = mine
        _U16.pack_into(header, tcp + _TCP_CHECKSUM, checksum(total))
        yield header, payload
        sequence = (sequence + size) & 0xFFFFFFFF


def _ipv4_base(header: bytearray, length: int) -> int:
    """The sum of an IPv4 header with total length, identification and checksum left out."""
    bare = bytearray(header[:length])
    bare[2:6] = bytes(4)
    bare[10:12] = bytes(2)
    return word_sum(bare)
