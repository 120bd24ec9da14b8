"""Path probes and their replies on the wire: types 0x12 and 0x13 (docs/protocol.md).

    type(u32) path id(8) nonce(24) sealed(16 + n)     associated data: type and path id

    of a probe, n is 44 to 8,920   version(1) transaction(8) counter(u64), zeros
    of a reply, n is 44            version(1) transaction(8) counter(u64)
                                   address(16) port(u16) arrived(u16), zeros

Integers are little-endian. The path id is one that the receiver gave out. Parsers raise ParseError
and nothing else; `reason` in it is `malformed`, `unauthenticated` or `version`.
"""

import struct
from dataclasses import dataclass
from typing import Final

from wgpy.ip import address_text, parse_address
from wgpy.nat.sealed import NONCE_LENGTH, Box
from wgpy.protocol.constants import (
    PATH_ID_LENGTH,
    PROBE_MAX_LENGTH,
    PROBE_MIN_LENGTH,
    PROBE_REPLY_LENGTH,
    TAG_LENGTH,
    TYPE_PROBE,
    TYPE_PROBE_REPLY,
)
from wgpy.protocol.messages import ParseError, message_type

VERSION: Final = 1
TRANSACTION_LENGTH: Final = 8
MAX_COUNTER: Final = (1 << 64) - 1
# Counters that may still arrive behind the greatest one. Probes over two paths overtake each other
# by a few, and those of the birthday method by a tenth of a second's, 20.
WINDOW: Final = 64

_HEAD: Final = struct.Struct("<I8s")
_SEALED_AT: Final = _HEAD.size + NONCE_LENGTH
_PROBE: Final = struct.Struct("<B8sQ")
_REPLY: Final = struct.Struct("<B8sQ16sHH")
_OVERHEAD: Final = _SEALED_AT + TAG_LENGTH
_V4_PREFIX: Final = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to one place. `transaction` has 8 random bytes; `length` is the datagram's."""

    transaction: bytes
    counter: int
    length: int = PROBE_MIN_LENGTH


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer. `host` and `port` are where the probe came from as its receiver saw it, `arrived`
    is the length that the probe had there."""

    transaction: bytes
    counter: int
    host: str
    port: int
    arrived: int


def path_id(data: bytes) -> bytes:
    """The 8 bytes that name the receiver, of a probe or a reply. Raises ParseError."""
    if len(data) < PROBE_MIN_LENGTH or message_type(data) not in (TYPE_PROBE, TYPE_PROBE_REPLY):
        raise ParseError("neither a probe nor a reply")
    found: bytes = _HEAD.unpack_from(data)[1]
    return found


def pack_probe(probe: Probe, box: Box, to: bytes, nonce: bytes) -> bytes:
    """The datagram, of `probe.length` bytes. `to` is the receiver's path id, a nonce 24 random
    bytes. Raises ValueError for a length that no probe has."""
    if not PROBE_MIN_LENGTH <= probe.length <= PROBE_MAX_LENGTH:
        raise ValueError(f"a probe has {PROBE_MIN_LENGTH} to {PROBE_MAX_LENGTH} bytes")
    content = _PROBE.pack(VERSION, probe.transaction, probe.counter)
    return _seal(TYPE_PROBE, content, probe.length, box, to, nonce)


def pack_reply(reply: Reply, box: Box, to: bytes, nonce: bytes) -> bytes:
    """The datagram, of 96 bytes."""
    content = _REPLY.pack(
        VERSION,
        reply.transaction,
        reply.counter,
        pack_address(reply.host),
        reply.port,
        reply.arrived,
    )
    return _seal(TYPE_PROBE_REPLY, content, PROBE_REPLY_LENGTH, box, to, nonce)


def parse_probe(data: bytes, box: Box) -> Probe:
    """Open and read a datagram of type 0x12. Raises ParseError."""
    if not PROBE_MIN_LENGTH <= len(data) <= PROBE_MAX_LENGTH:
        raise ParseError(f"a probe has {PROBE_MIN_LENGTH} to {PROBE_MAX_LENGTH} bytes")
    content = _open(TYPE_PROBE, data, box, _PROBE.size)
    _, transaction, counter = _PROBE.unpack_from(content)
    return Probe(transaction, counter, len(data))


def parse_reply(data: bytes, box: Box) -> Reply:
    """Open and read a datagram of type 0x13. Raises ParseError."""
    if len(data) != PROBE_REPLY_LENGTH:
        raise ParseError(f"a reply has {PROBE_REPLY_LENGTH} bytes")
    content = _open(TYPE_PROBE_REPLY, data, box, _REPLY.size)
    _, transaction, counter, address, port, arrived = _REPLY.unpack_from(content)
    if not PROBE_MIN_LENGTH <= arrived <= PROBE_MAX_LENGTH:
        raise ParseError("a reply to a probe of a length that no probe has")
    return Reply(transaction, counter, unpack_address(address), port, arrived)


def pack_address(host: str) -> bytes:
    """A numeric address in 16 bytes, IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2)."""
    address = parse_address(host)
    return address if len(address) == 16 else _V4_PREFIX + address


def unpack_address(address: bytes) -> str:
    """The text of an address of 16 bytes; the one spelling of each."""
    return address_text(address[12:] if address.startswith(_V4_PREFIX) else address)


def _seal(type_: int, content: bytes, length: int, box: Box, to: bytes, nonce: bytes) -> bytes:
    if len(to) != PATH_ID_LENGTH:
        raise ValueError(f"a path id has {PATH_ID_LENGTH} bytes; this has {len(to)}")
    head = _HEAD.pack(type_, to)
    return head + nonce + box.seal(nonce, content.ljust(length - _OVERHEAD, b"\0"), head)


def _open(type_: int, data: bytes, box: Box, used: int) -> bytes:
    if message_type(data) != type_:
        raise ParseError(f"type {type_:#x} was expected; this has {message_type(data):#x}")
    head, nonce = data[: _HEAD.size], data[_HEAD.size : _SEALED_AT]
    content = box.open(nonce, data[_SEALED_AT:], head)
    if content[0] != VERSION:
        raise ParseError(f"version {content[0]}; this is version {VERSION}", "version")
    if content.count(0, used) != len(content) - used:
        raise ParseError("padding that is not zeros")
    return content


class Window:
    """Which of the last 64 counters were seen. Ask only after a datagram was authenticated."""

    __slots__ = ("_greatest", "_seen")

    def __init__(self) -> None:
        self._greatest = -1
        self._seen = 0

    def accept(self, counter: int) -> bool:
        """Whether a counter is new, and remember it. Bit 0 of what was seen is the greatest."""
        ahead = counter - self._greatest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self._greatest = counter
            return True
        if -ahead >= WINDOW:
            return False
        bit = 1 << -ahead
        if self._seen & bit:
            return False
        self._seen |= bit
        return True
