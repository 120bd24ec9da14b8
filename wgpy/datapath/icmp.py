"""ICMP errors for packets that no peer can take, as the kernel's WireGuard answers them.

The kernel answers from an address of the interface, which the data path does not know. Ours come
from the address that cannot be reached: the routing table points it at the tunnel, so that reverse
path filters let it pass.
"""

import struct

from wgpy.datapath.packet import (
    IPV4_HEADER,
    IPV6_HEADER,
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    checksum,
    transport_sum,
    word_sum,
)

# Type 3 code 1, host unreachable (RFC 792); type 1 code 3, address unreachable (RFC 4443 3.1).
_HOST_UNREACHABLE = (3, 1)
_ADDRESS_UNREACHABLE = (1, 3)
# RFC 1812 4.3.2.3 and RFC 4443 2.4(c): as much of the packet as fits the least MTU.
_QUOTE4 = 576 - IPV4_HEADER - 8
_QUOTE6 = 1280 - IPV6_HEADER - 8
_HOP_LIMIT = 64

_ICMP4_ERRORS = frozenset((3, 4, 5, 11, 12))
_ICMP6_REDIRECT = 137
# Hop-by-hop, routing, fragment and destination options (RFC 8200 4.1): each says what follows it.
_EXTENSIONS = frozenset((0, 43, 44, 60))
_FRAGMENT = 44
# Each kind comes once, destination options twice; what has more is no packet of an honest sender.
_MOST_EXTENSIONS = 6

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_ICMP = struct.Struct("!BBHI")


def unreachable(packet: memoryview) -> bytes | None:
    """The ICMP error that answers `packet`, or None where none may be sent (RFC 1122 3.2.2)."""
    if len(packet) >= IPV4_HEADER and packet[0] >> 4 == 4:
        return _unreachable4(packet)
    if len(packet) >= IPV6_HEADER and packet[0] >> 4 == 6:
        return _unreachable6(packet)
    return None


def _unreachable4(packet: memoryview) -> bytes | None:
    source, target = bytes(packet[12:16]), bytes(packet[16:20])
    header = (packet[0] & 15) * 4
    later_fragment = int.from_bytes(packet[6:8], "big") & 0x1FFF
    # Multicast, broadcast and reserved addresses start at 224; a source of zeros hears nothing.
    if later_fragment or target[0] >= 224 or source[0] >= 224 or source == bytes(4):
        return None
    if packet[9] == PROTOCOL_ICMP and len(packet) > header and packet[header] in _ICMP4_ERRORS:
        return None
    quote = bytes(packet[:_QUOTE4])
    body = bytearray(_ICMP.pack(*_HOST_UNREACHABLE, 0, 0) + quote)
    struct.pack_into("!H", body, 2, checksum(word_sum(body)))
    length = IPV4_HEADER + len(body)
    head = bytearray(
        _IPV4.pack(0x45, 0xC0, length, 0, 0, _HOP_LIMIT, PROTOCOL_ICMP, 0, target, source)
    )
    struct.pack_into("!H", head, 10, checksum(word_sum(head)))
    return bytes(head + body)


def _unreachable6(packet: memoryview) -> bytes | None:
    source, target = bytes(packet[8:24]), bytes(packet[24:40])
    if target[0] == 0xFF or source[0] == 0xFF or source == bytes(16):
        return None
    if not _may_answer6(packet):
        return None
    body = bytearray(_ICMP.pack(*_ADDRESS_UNREACHABLE, 0, 0) + bytes(packet[:_QUOTE6]))
    head = _IPV6.pack(6 << 28, len(body), PROTOCOL_ICMPV6, _HOP_LIMIT, target, source)
    total = transport_sum(memoryview(head), PROTOCOL_ICMPV6, IPV6_HEADER, len(body))
    struct.pack_into("!H", body, 2, checksum(total + word_sum(body)))
    return head + bytes(body)


def _may_answer6(packet: memoryview) -> bool:
    """Whether it is surely no error, redirect or later fragment (RFC 4443 2.4(e))."""
    kind, at = packet[6], IPV6_HEADER
    for _ in range(_MOST_EXTENSIONS):
        if kind not in _EXTENSIONS:
            break
        if at + 8 > len(packet):
            return False
        if kind == _FRAGMENT and (packet[at + 2] or packet[at + 3] & 0xF8):
            return False
        length = 8 if kind == _FRAGMENT else packet[at + 1] * 8 + 8
        kind, at = packet[at], at + length
    else:
        return False
    # Types below 128 are errors (RFC 4443 2.1).
    return kind != PROTOCOL_ICMPV6 or (
        at < len(packet) and packet[at] >= 128 and packet[at] != _ICMP6_REDIRECT
    )
