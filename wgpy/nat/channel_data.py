"""ChannelData of TURN, and what stands between its messages in a stream (RFC 8656, section 12).

    0        2        4
    ┌────────┬────────┬────────────────┬─────────┐
    │ number │ length │ data           │ padding │     both numbers big-endian
    └────────┴────────┴────────────────┴─────────┘

The number is 0x4000 to 0x4FFF, the length that of the data alone. In a datagram there need be no
padding, and ours have none. In a stream (TCP, TLS) it fills up to a multiple of 4, and STUN
messages stand between, which tell themselves apart by the first two bits.
"""

import struct
from dataclasses import dataclass
from typing import Final

from wgpy.nat.stun import COOKIE, HEADER_LENGTH, ParseError

FIRST_CHANNEL: Final = 0x4000
LAST_CHANNEL: Final = 0x4FFF
CHANNEL_HEADER: Final = 4
# What STUN's types are below, RFC 7983 says so: methods beyond that are nobody's.
STUN_TYPES: Final = 0x0400

# A STUN message has at most this in its length field that is a multiple of 4; the Data indication
# of a full UDP datagram comes close.
MAX_STUN: Final = HEADER_LENGTH + 0xFFFC
# What a frame may need before it is whole: 65,535 bytes of data, padded, and its header.
MAX_FRAME: Final = CHANNEL_HEADER + 0x10000

_HEADER = struct.Struct("!HH")


@dataclass(frozen=True, slots=True)
class ChannelData:
    """One datagram on a channel."""

    channel: int
    data: bytes


def pack_channel_data(channel: int, data: bytes, *, padded: bool = False) -> bytes:
    """As a datagram carries it, or `padded` as a stream does. Raises ValueError for a number out of
    range and for more than 65,535 bytes."""
    if not FIRST_CHANNEL <= channel <= LAST_CHANNEL:
        raise ValueError(f"0x{channel:04x} is no channel number")
    if len(data) > 0xFFFF:
        raise ValueError(f"{len(data)} bytes are more than a datagram holds")
    return _HEADER.pack(channel, len(data)) + data + bytes(-len(data) % 4 if padded else 0)


def parse_channel_data(datagram: bytes) -> ChannelData:
    """What a datagram says. There may be padding behind, of any length (section 12.5: a server may
    send some). Raises ParseError."""
    if len(datagram) < CHANNEL_HEADER:
        raise ParseError("ChannelData is shorter than its header")
    channel, length = _HEADER.unpack_from(datagram)
    if not FIRST_CHANNEL <= channel <= LAST_CHANNEL:
        raise ParseError("the channel number is out of range")
    if CHANNEL_HEADER + length > len(datagram):
        raise ParseError("ChannelData is longer than its datagram")
    return ChannelData(channel, datagram[CHANNEL_HEADER : CHANNEL_HEADER + length])


class Deframer:
    """Bytes of a stream into messages. It never holds more than one whole frame of MAX_STUN or
    MAX_FRAME bytes beside what it was given last."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __len__(self) -> int:
        """How many bytes wait for the rest of their message."""
        return len(self._buffer)

    def feed(self, data: bytes | memoryview) -> list[bytes | ChannelData]:
        """The messages that are whole now: STUN as bytes, and ChannelData without padding.

        Raises ParseError where neither begins: nothing that follows could be told apart.
        """
        buffer = self._buffer
        buffer += data
        found: list[bytes | ChannelData] = []
        start = 0
        while len(buffer) - start >= CHANNEL_HEADER:
            size, length = self._sizes(start)
            if len(buffer) - start < size:
                break
            if buffer[start] < 4:
                found.append(bytes(buffer[start : start + size]))
            else:
                channel = int.from_bytes(buffer[start : start + 2], "big")
                body = start + CHANNEL_HEADER
                found.append(ChannelData(channel, bytes(buffer[body : body + length])))
            start += size
        del buffer[:start]
        return found

    def _sizes(self, start: int) -> tuple[int, int]:
        """How long the message at `start` is with everything, and what its length field says."""
        kind, length = _HEADER.unpack_from(self._buffer, start)
        if FIRST_CHANNEL <= kind <= LAST_CHANNEL:
            return CHANNEL_HEADER + length + -length % 4, length
        if kind >= STUN_TYPES:
            raise ParseError("neither STUN nor ChannelData begins here")
        if length % 4:
            raise ParseError("the length of a STUN message is no multiple of 4")
        cookie = self._buffer[start + 4 : start + 8]
        if bytes(cookie) != COOKIE[: len(cookie)]:
            raise ParseError("a STUN message has no magic cookie")
        return HEADER_LENGTH + length, length
