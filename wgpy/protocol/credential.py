"""The two messages of the handshake with credentials on the wire (docs/protocol.md).

    0x10  type sender ephemeral(32) sealed_static(48) sealed_payload(1080) mac1(16) mac2(16)
    0x11  type sender receiver ephemeral(32) sealed_payload(16 to 1124) mac1(16) mac2(16)

Integers are little-endian, and the type is one u32, as in messages.py. A 0x10 is 1,200 bytes; a
0x11 is 92 to 1,200. Parsers raise ParseError and nothing else.
"""

import struct
from typing import Final, NamedTuple

from wgpy.protocol.constants import (
    CREDENTIAL_INITIATION_LENGTH,
    CREDENTIAL_RESPONSE_MAX_LENGTH,
    CREDENTIAL_RESPONSE_MIN_LENGTH,
    MAC_LENGTH,
    TYPE_CREDENTIAL_INITIATION,
    TYPE_CREDENTIAL_RESPONSE,
)
from wgpy.protocol.messages import ParseError

_INITIATION = struct.Struct("<II32s48s1080s16s16s")
_RESPONSE_HEAD = struct.Struct("<III32s")
_RESPONSE_MACS = struct.Struct("16s16s")
_HEAD_LENGTH: Final = _RESPONSE_HEAD.size


class CredentialInitiation(NamedTuple):
    """Type 0x10, 1,200 bytes, from the initiator. `sender` is the initiator's index."""

    sender: int
    ephemeral: bytes
    sealed_static: bytes
    sealed_payload: bytes
    mac1: bytes
    mac2: bytes


class CredentialResponse(NamedTuple):
    """Type 0x11, 92 to 1,200 bytes. `receiver` is the initiator's index, `sender` the other's."""

    sender: int
    receiver: int
    ephemeral: bytes
    sealed_payload: bytes
    mac1: bytes
    mac2: bytes


def parse_credential_initiation(data: bytes) -> CredentialInitiation:
    """Read 1,200 bytes. Raises ParseError."""
    if len(data) != CREDENTIAL_INITIATION_LENGTH:
        raise ParseError(
            f"a credential initiation is {CREDENTIAL_INITIATION_LENGTH} bytes; this has {len(data)}"
        )
    kind, *parts = _INITIATION.unpack(data)
    if kind != TYPE_CREDENTIAL_INITIATION:
        raise ParseError(f"a credential initiation has type 16; this has {kind}")
    return CredentialInitiation(*parts)


def parse_credential_response(data: bytes) -> CredentialResponse:
    """Read 92 to 1,200 bytes. Raises ParseError."""
    if not CREDENTIAL_RESPONSE_MIN_LENGTH <= len(data) <= CREDENTIAL_RESPONSE_MAX_LENGTH:
        raise ParseError(
            f"a credential response is {CREDENTIAL_RESPONSE_MIN_LENGTH} to "
            f"{CREDENTIAL_RESPONSE_MAX_LENGTH} bytes; this has {len(data)}"
        )
    kind, sender, receiver, ephemeral = _RESPONSE_HEAD.unpack_from(data)
    if kind != TYPE_CREDENTIAL_RESPONSE:
        raise ParseError(f"a credential response has type 17; this has {kind}")
    sealed = data[_HEAD_LENGTH : -2 * MAC_LENGTH]
    mac1, mac2 = data[-2 * MAC_LENGTH : -MAC_LENGTH], data[-MAC_LENGTH:]
    return CredentialResponse(sender, receiver, ephemeral, sealed, mac1, mac2)


def pack_credential_initiation(message: CredentialInitiation) -> bytes:
    """The 1,200 bytes of a credential initiation."""
    return _INITIATION.pack(
        TYPE_CREDENTIAL_INITIATION,
        message.sender,
        message.ephemeral,
        message.sealed_static,
        message.sealed_payload,
        message.mac1,
        message.mac2,
    )


def pack_credential_response(message: CredentialResponse) -> bytes:
    """The 92 to 1,200 bytes of a credential response."""
    head = _RESPONSE_HEAD.pack(
        TYPE_CREDENTIAL_RESPONSE, message.sender, message.receiver, message.ephemeral
    )
    return head + message.sealed_payload + _RESPONSE_MACS.pack(message.mac1, message.mac2)
