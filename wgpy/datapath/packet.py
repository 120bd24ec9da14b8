"""Inner packets: the little of IPv4 and IPv6 that a tunnel must understand, and checksums."""

import struct

IPV4_HEADER = 20
IPV6_HEADER = 40

PROTOCOL_ICMP = 1
PROTOCOL_TCP = 6
PROTOCOL_ICMPV6 = 58

_LENGTH = struct.Struct("!H")


def length_and_source(packet: memoryview) -> tuple[int, bytes] | None:
    """The length that an inner packet claims, padding left out, and its source address.

    None if it is no IPv4 or IPv6 packet, or claims more than is there or less than a header.
    """
    size = len(packet)
    if size < IPV4_HEADER:
        return None
    version = packet[0] >> 4
    if version == 4:
        (length,) = _LENGTH.unpack_from(packet, 2)
        if IPV4_HEADER <= length <= size:
            return length, bytes(packet[12:16])
    elif version == 6 and size >= IPV6_HEADER:
        (payload,) = _LENGTH.unpack_from(packet, 4)
        if payload + IPV6_HEADER <= size:
            return payload + IPV6_HEADER, bytes(packet[8:24])
    return None


def destination(packet: memoryview) -> bytes | None:
    """The destination address of an inner packet, or None if it is neither IPv4 nor IPv6."""
    size = len(packet)
    if size >= IPV4_HEADER:
        version = packet[0] >> 4
        if version == 4:
            return bytes(packet[16:20])
        if version == 6 and size >= IPV6_HEADER:
            return bytes(packet[24:40])
    return None


def word_sum(data: memoryview | bytes | bytearray) -> int:
    """The sum of the 16-bit words of `data`, modulo 0xFFFF (RFC 1071).

    A number in base 2^16 is congruent to the sum of its digits modulo 2^16 - 1: one division of
    a large integer replaces a loop over words.
    """
    value = int.from_bytes(data, "big")
    return (value << 8 if len(data) & 1 else value) % 0xFFFF


def checksum(total: int) -> int:
    """The Internet checksum for a sum of words that are not all zero: 0 to 0xFFFE.

    Ones' complement has two zeros; a sum of words is the one that is written 0xFFFF.
    """
    return 0xFFFF - (total % 0xFFFF or 0xFFFF)


def transport_sum(packet: memoryview, protocol: int, header: int, length: int) -> int:
    """The sum of the pseudo header of a transport segment (RFC 9293 3.1, RFC 8200 8.1).

    `header` is the length of the IP header before it, `length` that of the segment.
    """
    addresses = packet[12:20] if header < IPV6_HEADER else packet[8:40]
    return word_sum(addresses) + protocol + length
