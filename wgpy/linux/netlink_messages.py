"""The frame of netlink messages and their attributes (netlink(7)), for those of fixed shape.

`netlink.py` has a library for the rest, which the daemon does not load.
"""

import struct

# struct nlmsghdr: length, kind, flags, sequence number, port.
HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
# The two highest bits of an attribute's kind are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
_KIND = 0x3FFF


def messages(data: bytes, sequence: int | None = None) -> list[tuple[int, bytes]]:
    """The messages in a datagram: kind and body; of one sequence number if given."""
    found = []
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, _flags, number, _port = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            break
        if sequence is None or number == sequence:
            found.append((kind, data[at + HEADER.size : at + length]))
        at += (length + 3) & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    padding = bytes(-len(value) % 4)
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + padding


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in a body, by kind; of one that is there twice, the last."""
    found = {}
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < ATTRIBUTE.size:
            break
        found[kind & _KIND] = data[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found
