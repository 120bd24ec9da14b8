"""Inner packets made and taken apart the plain way, by no code of the data path.

What a test believes of a packet must not come from what it tests: the checksum here adds words in
a loop, and the segmenter writes each packet field by field as RFC 791, 8200 and 9293 draw them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
DONT_FRAGMENT = 0x4000
MORE_FRAGMENTS = 0x2000

VNET_LENGTH = 10
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_ECN = 0, 1, 4, 0x80

V4 = (bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
V6 = (bytes.fromhex("fd000000000000000000000000000001"), bytes.fromhex("fd" + "00" * 14 + "02"))


def checksum(*parts: bytes) -> int:
    """RFC 1071, word by word. Over data with a right checksum inside it is zero."""
    total = 0
    for part in parts:
        padded = part + b"\0" if len(part) % 2 else part
        for (word,) in struct.iter_unpack("!H", padded):
            total += word
            total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(source: bytes, target: bytes, protocol: int, length: int) -> bytes:
    """RFC 9293 3.1 for IPv4, RFC 8200 8.1 for IPv6."""
    if len(source) == 4:
        return source + target + struct.pack("!BBH", 0, protocol, length)
    return source + target + struct.pack("!IHBB", length, 0, 0, protocol)


def ip_packet(
    protocol: int,
    body: bytes,
    *,
    source: bytes = V4[0],
    target: bytes = V4[1],
    tos: int = 0,
    ttl: int = 64,
    ident: int = 0,
    fragment: int = DONT_FRAGMENT,
    options: bytes = b"",
) -> bytes:
    """An IPv4 or IPv6 packet around `body`. The last three are of IPv4 alone."""
    if len(source) == 16:
        head = struct.pack("!IHBB", 6 << 28 | tos << 20, len(body), protocol, ttl)
        return head + source + target + body
    size = 20 + len(options)
    fields = (0x40 | size // 4, tos, size + len(body), ident, fragment, ttl, protocol)
    start = struct.pack("!BBHHHBB", *fields)
    sums = checksum(start, b"\0\0", source, target, options)
    return start + struct.pack("!H", sums) + source + target + options + body


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment, field by field; `bytes()` makes the packet."""

    payload: bytes = b""
    source: bytes = V4[0]
    target: bytes = V4[1]
    ports: tuple[int, int] = (40000, 80)
    sequence: int = 0
    acknowledged: int = 7
    flags: int = ACK
    window: int = 512
    urgent: int = 0
    options: bytes = b""
    tos: int = 0
    ttl: int = 64
    ident: int = 0
    fragment: int = DONT_FRAGMENT
    ip_options: bytes = b""
    # What to mix into the right checksum of TCP, and of IPv4.
    spoil: int = 0
    spoil_ip: int = 0

    def __bytes__(self) -> bytes:
        offset = (20 + len(self.options)) // 4 << 4
        numbers = (self.sequence, self.acknowledged, offset, self.flags, self.window)
        start = struct.pack("!HHIIBBH", *self.ports, *numbers)
        end = struct.pack("!H", self.urgent) + self.options + self.payload
        size = len(start) + 2 + len(end)
        sums = checksum(pseudo_header(self.source, self.target, TCP, size), start, end)
        packet = ip_packet(
            TCP,
            start + struct.pack("!H", sums ^ self.spoil) + end,
            source=self.source,
            target=self.target,
            tos=self.tos,
            ttl=self.ttl,
            ident=self.ident,
            fragment=self.fragment,
            options=self.ip_options,
        )
        if not self.spoil_ip or len(self.source) == 16:
            return packet
        (right,) = struct.unpack_from("!H", packet, 10)
        return packet[:10] + struct.pack("!H", right ^ self.spoil_ip) + packet[12:]

    @property
    def header(self) -> int:
        """The length of its IP and TCP headers."""
        ip = 40 if len(self.source) == 16 else 20 + len(self.ip_options)
        return ip + 20 + len(self.options)

    def split(self, size: int) -> Iterator["Segment"]:
        """What the kernel would make of it: segments of `size` payload bytes each."""
        starts = range(0, max(len(self.payload), 1), size)
        for number, start in enumerate(starts):
            flags = self.flags
            if start + size < len(self.payload):
                flags &= ~(FIN | PSH)
            if number:
                flags &= ~CWR
            yield replace(
                self,
                payload=self.payload[start : start + size],
                sequence=(self.sequence + start) % 2**32,
                ident=(self.ident + number) % 2**16,
                flags=flags,
            )

    def vnet(self, size: int) -> bytes:
        """The header that the kernel puts before it where it leaves segmentation to us."""
        ip = 40 if len(self.source) == 16 else 20 + len(self.ip_options)
        kind = GSO_TCPV6 if len(self.source) == 16 else GSO_TCPV4
        return struct.pack("=BBHHHH", NEEDS_CSUM, kind, self.header, size, ip, 16)


def parse_segment(packet: bytes) -> Segment:
    """Take a TCP packet apart. The checksums are left to the reader."""
    if packet[0] >> 4 == 6:
        tos, at, ttl = packet[0] << 4 & 0xF0 | packet[1] >> 4, 40, packet[7]
        source, target, ident, fragment, ip_options = packet[8:24], packet[24:40], 0, 0, b""
    else:
        at = (packet[0] & 15) * 4
        tos, ident, fragment, ttl = packet[1], *struct.unpack_from("!HHB", packet, 4)
        source, target, ip_options = packet[12:16], packet[16:20], packet[20:at]
    fields = struct.unpack_from("!HHIIBBHHH", packet, at)
    end = at + (fields[4] >> 4) * 4
    return Segment(
        payload=packet[end:],
        source=source,
        target=target,
        ports=(fields[0], fields[1]),
        sequence=fields[2],
        acknowledged=fields[3],
        flags=fields[5],
        window=fields[6],
        urgent=fields[8],
        options=packet[at + 20 : end],
        tos=tos,
        ttl=ttl,
        ident=ident,
        fragment=fragment,
        ip_options=ip_options,
    )


def kernel_receives(frame: bytes) -> list[bytes]:
    """What a frame written to a TUN, vnet header first, is to whoever receives its packets."""
    flags, kind, header, size, start, offset = struct.unpack_from("=BBHHHH", frame)
    packet = frame[VNET_LENGTH:]
    if kind == GSO_NONE:
        assert frame[:VNET_LENGTH] == bytes(VNET_LENGTH)
        return [packet]
    large = parse_segment(packet)
    v6 = len(large.source) == 16
    assert kind == (GSO_TCPV6 if v6 else GSO_TCPV4)
    assert flags == NEEDS_CSUM
    assert (header, start, offset) == (large.header, large.header - 20 - len(large.options), 16)
    assert len(large.payload) > size > 0
    if v6:
        assert struct.unpack_from("!H", packet, 4) == (len(packet) - 40,)
    else:
        assert struct.unpack_from("!H", packet, 2) == (len(packet),)
        assert checksum(packet[:start]) == 0
    # The kernel adds the rest of the segment to what stands in the checksum's place.
    partial = checksum(pseudo_header(large.source, large.target, TCP, len(packet) - start))
    (written,) = struct.unpack_from("!H", packet, start + offset)
    assert written % 0xFFFF == (~partial & 0xFFFF) % 0xFFFF
    return [bytes(segment) for segment in large.split(size)]


def checksums_are_right(packet: bytes) -> bool:
    """Of a TCP packet: that of IPv4, and that of TCP."""
    segment = parse_segment(packet)
    v6 = len(segment.source) == 16
    ip = 40 if v6 else (packet[0] & 15) * 4
    pseudo = pseudo_header(segment.source, segment.target, TCP, len(packet) - ip)
    return (v6 or checksum(packet[:ip]) == 0) and checksum(pseudo, packet[ip:]) == 0
