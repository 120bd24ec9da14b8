"""TCP coalescing (GRO): consecutive packets of one flow into one large write to the TUN.

The kernel then acknowledges the whole at once, which spares it and us most of the packets back.
Packets are merged only where the kernel would split the result into the very same packets again:
its own rules (tcp_gro_receive), and a checksum that was verified.
"""

import struct
from collections.abc import Callable, Sequence

from wgpy.datapath.packet import (
    IPV4_HEADER,
    IPV6_HEADER,
    PROTOCOL_TCP,
    checksum,
    ipv4_header_is_valid,
    transport_is_valid,
    transport_sum,
    word_sum,
)
from wgpy.datapath.vnet import (
    FLAG_NEEDS_CSUM,
    GSO_TCPV4,
    GSO_TCPV6,
    VNET_HEADER,
    VNET_HEADER_LENGTH,
)

Buffer = memoryview | bytes | bytearray

_ACK = 0x10
_PSH = 0x08
_TCP_CHECKSUM = 16
_DONT_FRAGMENT = 0x40
_ZEROS = bytes(VNET_HEADER_LENGTH)
# An IPv4 packet's total length is 16 bits; one bound serves both versions.
_MAX_LENGTH = 65_535

_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")


class Coalescer:
    """Gathers packets that follow one another and writes them through `write`, order kept.

    Without `merge` it only writes: a TUN without vnet headers takes no large packets.

    Packets are slices of a buffer with VNET_HEADER_LENGTH spare bytes before each, which must stay
    as it is until `flush`.
    """

    def __init__(self, write: Callable[[Sequence[Buffer]], None], *, merge: bool) -> None:
        self._write = write
        self._merge = merge
        self._buffer = memoryview(b"")
        self._start = 0
        self._packet = memoryview(b"")
        self._header = 0
        self._flow: tuple[bytes, ...] | None = None
        self._size = 0
        self._length = 0
        self._next = 0
        self._push = False
        self._valid: bool | None = None
        self._more: list[memoryview] = []

    def add(self, buffer: memoryview, start: int, length: int) -> None:
        """Take the inner packet at buffer[start : start + length]."""
        packet = buffer[start : start + length]
        parsed = _parse(packet) if self._merge else None
        if parsed is not None and self._flow is not None and self._append(packet, *parsed):
            return
        self.flush()
        self._buffer, self._start, self._packet = buffer, start, packet
        self._length = length
        self._flow = None
        if parsed is not None:
            header, self._flow = parsed
            self._header = header
            self._size = length - header
            self._valid = None
            self._push = bool(packet[_tcp(packet) + 13] & _PSH)
            (sequence,) = _U32.unpack_from(packet, _tcp(packet) + 4)
            self._next = (sequence + self._size) & 0xFFFFFFFF

    def _append(self, packet: memoryview, header: int, flow: tuple[bytes, ...]) -> bool:
        size = len(packet) - header
        tcp = _tcp(packet)
        if (
            flow != self._flow
            or self._push
            or size > self._size
            or _U32.unpack_from(packet, tcp + 4)[0] != self._next
            or self._length + size > _MAX_LENGTH
        ):
            return False
        if self._valid is None:
            self._valid = _is_valid(self._packet, tcp)
        if not self._valid or not _is_valid(packet, tcp):
            return False
        self._more.append(packet[header:])
        self._length += size
        self._next = (self._next + size) & 0xFFFFFFFF
        # A shorter segment, or one that pushes, is the last of what the kernel would have made.
        self._push = size < self._size or bool(packet[tcp + 13] & _PSH)
        if packet[tcp + 13] & _PSH:
            self._packet[tcp + 13] |= _PSH
        return True

    def flush(self) -> None:
        """Write what is gathered."""
        if not len(self._packet):
            return
        if self._more:
            self._write([self._merged_header(), self._packet[self._header :], *self._more])
        else:
            # The vnet header of zeros goes into the spare bytes: nothing is copied.
            begin = self._start - VNET_HEADER_LENGTH
            self._buffer[begin : self._start] = _ZEROS
            self._write([self._buffer[begin : self._start + self._length]])
        self._packet = self._buffer = memoryview(b"")
        self._more = []
        self._flow = None

    def _merged_header(self) -> bytearray:
        tcp = _tcp(self._packet)
        v4 = tcp == IPV4_HEADER
        head = bytearray(VNET_HEADER_LENGTH) + self._packet[: self._header]
        VNET_HEADER.pack_into(
            head,
            0,
            FLAG_NEEDS_CSUM,
            GSO_TCPV4 if v4 else GSO_TCPV6,
            self._header,
            self._size,
            tcp,
            _TCP_CHECKSUM,
        )
        ip = VNET_HEADER_LENGTH
        if v4:
            _U16.pack_into(head, ip + 2, self._length)
            _U16.pack_into(head, ip + 10, 0)
            _U16.pack_into(head, ip + 10, checksum(word_sum(head[ip : ip + tcp])))
        else:
            _U16.pack_into(head, ip + 4, self._length - IPV6_HEADER)
        total = transport_sum(self._packet, PROTOCOL_TCP, tcp, self._length - tcp)
        _U16.pack_into(head, ip + tcp + _TCP_CHECKSUM, total % 0xFFFF)
        return head


def _tcp(packet: memoryview) -> int:
    """Where TCP begins in a packet that `_parse` took."""
    return IPV4_HEADER if packet[0] == 0x45 else IPV6_HEADER


def _is_valid(packet: memoryview, tcp: int) -> bool:
    """Whether the checksums that merging would write anew were right before."""
    if tcp == IPV4_HEADER and not ipv4_header_is_valid(packet, tcp):
        return False
    return transport_is_valid(packet, PROTOCOL_TCP, tcp)


def _parse(packet: memoryview) -> tuple[int, tuple[bytes, ...]] | None:
    """Length of the headers and what must be equal in a whole flow; None if never merged."""
    size = len(packet)
    if size <= IPV4_HEADER + 20:
        return None
    if packet[0] == 0x45:
        # No fragment, and "do not fragment" set: identifications may then be anything.
        if packet[9] != PROTOCOL_TCP or packet[6] != _DONT_FRAGMENT or packet[7]:
            return None
        tcp = IPV4_HEADER
        network = bytes(packet[8:10]) + bytes(packet[12:20]) + bytes(packet[1:2])
    elif packet[0] >> 4 == 6 and packet[6] == PROTOCOL_TCP and size > IPV6_HEADER + 20:
        tcp = IPV6_HEADER
        network = bytes(packet[:4]) + bytes(packet[7:40])
    else:
        return None
    header = tcp + (packet[tcp + 12] >> 4) * 4
    # Only ACK, with or without PSH, and with data.
    if header < tcp + 20 or header >= size or packet[tcp + 13] & ~_PSH != _ACK:
        return None
    # Ports; acknowledgment and offset; window; options: equal, or the kernel would not merge.
    return header, (
        network,
        bytes(packet[tcp : tcp + 4]),
        bytes(packet[tcp + 8 : tcp + 13]),
        bytes(packet[tcp + 14 : tcp + 16]),
        bytes(packet[tcp + 18 : header]),
    )
