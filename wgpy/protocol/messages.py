"""The handshake's three messages on the wire (whitepaper 5.4.2, 5.4.3 and 5.4.7).

Integers are little-endian. The type is read as one u32, so its three reserved bytes must be zero,
and every length is exact. Parsers raise ParseError and nothing else.

    initiation    type sender ephemeral(32) sealed_static(48) sealed_timestamp(28) mac1(16) mac2(16)
    response      type sender receiver ephemeral(32) sealed_empty(16) mac1(16) mac2(16)
    cookie reply  type receiver nonce(24) sealed_cookie(32)
"""

import struct
from dataclasses import dataclass

from wgpy.protocol.constants import (
    COOKIE_REPLY_LENGTH,
    INITIATION_LENGTH,
    RESPONSE_LENGTH,
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
)

_TYPE = struct.Struct("<I")
_INITIATION = struct.Struct("<II32s48s28s16s16s")
_RESPONSE = struct.Struct("<III32s16s16s16s")
_COOKIE_REPLY = struct.Struct("<II24s32s")


class ParseError(Exception):
    """Bytes from the network that are not the message they were taken for. `reason` names a
    counter."""

    def __init__(self, text: str, reason: str = "malformed") -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Initiation:
    """The first message, 148 bytes, from the initiator. `sender` is the initiator's index."""

    sender: int
    ephemeral: bytes
    sealed_static: bytes
    sealed_timestamp: bytes
    mac1: bytes
    mac2: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """The second message, 92 bytes. `receiver` is the initiator's index, `sender` the other's."""

    sender: int
    receiver: int
    ephemeral: bytes
    sealed_empty: bytes
    mac1: bytes
    mac2: bytes


@dataclass(frozen=True, slots=True)
class CookieReply:
    """A responder under load asks for proof of address, 64 bytes. `receiver` is the index of the
    one whose message it answers."""

    receiver: int
    nonce: bytes
    sealed_cookie: bytes


def message_type(data: bytes) -> int:
    """The type of a datagram, of which reserved bytes are a part. Raises ParseError."""
    if len(data) < _TYPE.size:
        raise ParseError(f"{len(data)} bytes are too few for a message type")
    number: int = _TYPE.unpack_from(data)[0]
    return number


def _expect(data: bytes, type_number: int, length: int, name: str) -> None:
    if len(data) != length:
        raise ParseError(f"{name} is {length} bytes; this has {len(data)}")
    if message_type(data) != type_number:
        raise ParseError(f"{name} has type {type_number}; this has {message_type(data)}")


def parse_initiation(data: bytes) -> Initiation:
    """Read 148 bytes. Raises ParseError."""
    _expect(data, TYPE_INITIATION, INITIATION_LENGTH, "an initiation")
    return Initiation(*_INITIATION.unpack(data)[1:])


def parse_response(data: bytes) -> Response:
    """Read 92 bytes. Raises ParseError."""
    _expect(data, TYPE_RESPONSE, RESPONSE_LENGTH, "a response")
    return Response(*_RESPONSE.unpack(data)[1:])


def parse_cookie_reply(data: bytes) -> CookieReply:
    """Read 64 bytes. Raises ParseError."""
    _expect(data, TYPE_COOKIE_REPLY, COOKIE_REPLY_LENGTH, "a cookie reply")
    return CookieReply(*_COOKIE_REPLY.unpack(data)[1:])


def pack_initiation(message: Initiation) -> bytes:
    """The 148 bytes of an initiation."""
    return _INITIATION.pack(
        TYPE_INITIATION,
        message.sender,
        message.ephemeral,
        message.sealed_static,
        message.sealed_timestamp,
        message.mac1,
        message.mac2,
    )


def pack_response(message: Response) -> bytes:
    """The 92 bytes of a response."""
    return _RESPONSE.pack(
        TYPE_RESPONSE,
        message.sender,
        message.receiver,
        message.ephemeral,
        message.sealed_empty,
        message.mac1,
        message.mac2,
    )


def pack_cookie_reply(message: CookieReply) -> bytes:
    """The 64 bytes of a cookie reply."""
    return _COOKIE_REPLY.pack(
        TYPE_COOKIE_REPLY, message.receiver, message.nonce, message.sealed_cookie
    )
