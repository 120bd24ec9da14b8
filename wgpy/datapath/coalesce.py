"""TCP coalescing (GRO): consecutive packets of one flow into one large write to the TUN.

The kernel then acknowledges the whole at once, which spares it and us most of the packets back.
Packets are merged only where the kernel would split the result into the very same packets again:
its own rules (tcp_gro_receive), and a checksum that was verified.
"""

import functools
import struct
from collections.abc import Callable, Sequence

from wgpy.datapath.packet import (
    IPV4_HEADER,
    IPV6_HEADER,
    PROTOCOL_TCP,
    checksum,
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
_LEAST_TCP = 20
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
        # The first packet, and what was appended to it.
        self._buffer = memoryview(b"")
        self._start = 0
        self._packet = memoryview(b"")
        self._length = 0
        self._more: list[memoryview] = []
        # What the next packet must be; a header length of zero: nothing can be appended.
        self._header = 0
        self._tcp = 0
        self._mask = 0
        self._key = 0
        self._size = 0
        self._next = 0
        self._pseudo = 0
        self._valid: bool | None = None

    def add(self, buffer: memoryview, start: int, length: int) -> None:
        """Take the inner packet at buffer[start : start + length]."""
        packet = buffer[start : start + length]
        if self._header and self._append(packet, length):
            return
        self.flush()
        self._buffer, self._start, self._packet = buffer, start, packet
        self._length = length
        if self._merge:
            self._begin(packet, length)

    def _begin(self, packet: memoryview, length: int) -> None:
        """See whether others may follow `packet`."""
        header = _mergeable(packet, length)
        self._header = header
        if not header:
            return
        tcp = self._tcp = IPV4_HEADER if packet[0] == 0x45 else IPV6_HEADER
        self._mask = _mask(tcp, header)
        self._key = int.from_bytes(packet[:header], "big") & self._mask
        self._size = length - header
        (sequence,) = _U32.unpack_from(packet, tcp + 4)
        self._next = (sequence + self._size) & 0xFFFFFFFF
        self._pseudo = transport_sum(packet, PROTOCOL_TCP, tcp, 0)
        self._valid = None
        if packet[tcp + 13] & _PSH:
            self._header = 0

    def _append(self, packet: memoryview, length: int) -> bool:
        header, tcp = self._header, self._tcp
        size = length - header
        if not 0 < size <= self._size or self._length + size > _MAX_LENGTH:
            return False
        number = int.from_bytes(packet[:header], "big")
        if number & self._mask != self._key or _U32.unpack_from(packet, tcp + 4)[0] != self._next:
            return False
        if self._valid is None:
            self._valid = self._is_valid(self._packet, len(self._packet))
        if not self._valid or not self._is_valid(packet, length):
            return False
        self._more.append(packet[header:])
        self._length += size
        self._next = (self._next + size) & 0xFFFFFFFF
        push = packet[tcp + 13] & _PSH
        if push:
            self._packet[tcp + 13] |= _PSH
        if push or size < self._size:
            # A shorter segment, or one that pushes, is the last of what the kernel would make.
            self._header = 0
        return True

    def _is_valid(self, packet: memoryview, length: int) -> bool:
        """Whether the checksums that merging would write anew were right before."""
        tcp = self._tcp
        if tcp == IPV4_HEADER and word_sum(packet[:tcp]):
            return False
        number = int.from_bytes(packet[tcp:length], "big")
        total = self._pseudo + length - tcp + (number << 8 if length - tcp & 1 else number)
        return total % 0xFFFF == 0

    def flush(self) -> None:
        """Write what is gathered."""
        if not self._length:
            return
        if self._more:
            header = self._merged_header()
            self._write([header, self._packet[len(header) - VNET_HEADER_LENGTH :], *self._more])
            self._more = []
        else:
            # The vnet header of zeros goes into the spare bytes: nothing is copied.
            begin = self._start - VNET_HEADER_LENGTH
            self._buffer[begin : self._start] = _ZEROS
            self._write([self._buffer[begin : self._start + self._length]])
        self._length = self._header = 0

    def _merged_header(self) -> bytearray:
        """The vnet header and the packet's own headers, for the length that it has by now."""
        tcp = self._tcp
        header = tcp + (self._packet[tcp + 12] >> 4) * 4
        v4 = tcp == IPV4_HEADER
        head = bytearray(VNET_HEADER_LENGTH) + self._packet[:header]
        gso = GSO_TCPV4 if v4 else GSO_TCPV6
        VNET_HEADER.pack_into(head, 0, FLAG_NEEDS_CSUM, gso, header, self._size, tcp, _TCP_CHECKSUM)
        ip = VNET_HEADER_LENGTH
        if v4:
            _U16.pack_into(head, ip + 2, self._length)
            _U16.pack_into(head, ip + 10, 0)
            _U16.pack_into(head, ip + 10, checksum(word_sum(head[ip : ip + tcp])))
        else:
            _U16.pack_into(head, ip + 4, self._length - IPV6_HEADER)
        pseudo = (self._pseudo + self._length - tcp) % 0xFFFF
        _U16.pack_into(head, ip + tcp + _TCP_CHECKSUM, pseudo)
        return head


def _mergeable(packet: memoryview, length: int) -> int:
    """The length of a packet's headers if others may follow it, else 0."""
    if length <= IPV4_HEADER + _LEAST_TCP:
        return 0
    if packet[0] == 0x45:
        # No fragment, and "do not fragment" set: identifications may then be anything.
        if packet[9] != PROTOCOL_TCP or packet[6] != _DONT_FRAGMENT or packet[7]:
            return 0
        tcp = IPV4_HEADER
    elif packet[0] >> 4 == 6 and packet[6] == PROTOCOL_TCP and length > IPV6_HEADER + _LEAST_TCP:
        tcp = IPV6_HEADER
    else:
        return 0
    header = tcp + (packet[tcp + 12] >> 4) * 4
    # Only ACK, with or without PSH, and with data.
    if header < tcp + _LEAST_TCP or header >= length or packet[tcp + 13] & ~_PSH != _ACK:
        return 0
    return header


@functools.cache
def _mask(tcp: int, header: int) -> int:
    """Ones where the headers of one flow must be equal, for the kernel would not merge else.

    Left out: lengths, identification and checksums, sequence number, PSH.
    """
    mask = bytearray(b"\xff" * header)
    left_out = ((2, 6), (10, 12)) if tcp == IPV4_HEADER else ((4, 6),)
    for begin, end in (*left_out, (tcp + 4, tcp + 8), (tcp + 16, tcp + 18)):
        mask[begin:end] = bytes(end - begin)
    mask[tcp + 13] = 0xFF & ~_PSH
    return int.from_bytes(mask, "big")
