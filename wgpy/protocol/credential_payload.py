"""What the two messages of the handshake with credentials carry (docs/protocol.md).

    payload of 0x10  timestamp(12) version(1) network(16) fields, zeros to 1,064 bytes
    payload of 0x11  nothing, or version(1) network(16) fields, zeros to the end
    a field          type(u8) length(u16) value, in ascending order of types, none twice

Integers are little-endian. Bit 7 of a field's type says that who does not know it must refuse the
whole. Parsers raise ParseError and nothing else; `reason` in it is `malformed` or `version`.
"""

import functools
import struct
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from wgpy.protocol.constants import (
    CREDENTIAL_INITIATION_LENGTH,
    CREDENTIAL_RESPONSE_MAX_LENGTH,
    CREDENTIAL_RESPONSE_MIN_LENGTH,
    TIMESTAMP_LENGTH,
)
from wgpy.protocol.messages import ParseError

_FIELD = struct.Struct("<BH")
_FIELD_LENGTH: Final = _FIELD.size
# As much padding as a message has room for.
_ZEROS: Final = bytes(CREDENTIAL_INITIATION_LENGTH)

VERSION: Final = 1
_VERSION_BYTE: Final = bytes([VERSION])
NETWORK_LENGTH: Final = 16
ISSUER_LENGTH: Final = 32
# What is left of 1,200 bytes: the rest is type, indices, keys, tags and macs.
INITIATION_PAYLOAD_LENGTH: Final = CREDENTIAL_INITIATION_LENGTH - 136
RESPONSE_PAYLOAD_MAX_LENGTH: Final = CREDENTIAL_RESPONSE_MAX_LENGTH - CREDENTIAL_RESPONSE_MIN_LENGTH
# A dNSName is at most 253 characters (RFC 1035 section 2.3.4), a label 63.
MAX_NAME_LENGTH: Final = 253
MAX_LABEL_LENGTH: Final = 63
MAX_TOKEN_LENGTH: Final = 700

_LETTERS_DIGITS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789"
_HYPHEN: Final = ord("-")
_LDH: Final = _LETTERS_DIGITS + b"-."
_BASE64URL: Final = _LETTERS_DIGITS + b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-_"


class FieldType(IntEnum):
    """The fields of version 1. ISSUER is a hint, which may be ignored; the rest may not."""

    ISSUER = 0x01
    NAME = 0x81
    CERTIFICATE = 0x82
    INTERMEDIATE = 0x83
    TOKEN = 0x84


_KNOWN: Final = frozenset(int(each) for each in FieldType)
# Plain numbers, which are found sooner than members of an enumeration.
_ISSUER: Final = int(FieldType.ISSUER)
_NAME: Final = int(FieldType.NAME)
_CERTIFICATE: Final = int(FieldType.CERTIFICATE)
_INTERMEDIATE: Final = int(FieldType.INTERMEDIATE)
_TOKEN: Final = int(FieldType.TOKEN)
# Names that we ask for: one for each peer that is configured with one.
_REMEMBERED: Final = 256
# From here on, who does not know a field must refuse the message.
MUST_UNDERSTAND: Final = 0x80


class OfferKind(Enum):
    """What a peer offers as its credential."""

    CERTIFICATE = "certificate"
    TOKEN = "token"


_BY_CERTIFICATE: Final = OfferKind.CERTIFICATE


@dataclass(frozen=True, slots=True)
class Offer:
    """A credential as it was sent: unverified. A token may be a bearer's: it never prints itself.

    `body` is a certificate in DER, or a token in ASCII, at most 700 bytes. `intermediate` (DER) and
    `issuer` (SHA-256 of the SubjectPublicKeyInfo of the issuing key, 32 bytes, a hint where to look
    for it) go with a certificate only.
    """

    kind: OfferKind
    body: bytes = field(repr=False)
    intermediate: bytes | None = field(default=None, repr=False)
    issuer: bytes | None = None
    # Its fields, those that stand before the name and those behind it, once `prepared` made them.
    packed: tuple[bytes, bytes] | None = field(default=None, repr=False, compare=False)


class Asked(NamedTuple):
    """What 0x10 carries behind its timestamp."""

    network: bytes
    wanted: str | None
    offer: Offer | None


class InitiationPayload(NamedTuple):
    """What 0x10 carries. `timestamp` is TAI64N, 12 bytes; `network` has 16.

    `wanted` is the name that the responder must have; None asks for a responder without a name.
    """

    timestamp: bytes
    network: bytes
    wanted: str | None = None
    offer: Offer | None = None


@dataclass(frozen=True, slots=True)
class ResponsePayload:
    """What 0x11 carries, where it carries anything. `network` has 16 bytes."""

    network: bytes
    offer: Offer
    # All of it, once `prepared_answer` made it.
    packed: bytes | None = field(default=None, repr=False, compare=False)


def prepared_answer(answer: ResponsePayload) -> ResponsePayload:
    """The same answer, packed once for every message. Raises ValueError for what cannot be sent."""
    return replace(answer, packed=pack_response_payload(answer))


def prepared(offer: Offer) -> Offer:
    """The same offer, packed once for every message. Raises ValueError for what cannot be sent."""
    return replace(offer, packed=_pack_offer(offer))


def pack_initiation_payload(payload: InitiationPayload) -> bytes:
    """The 1,064 bytes that 0x10 seals. Raises ValueError for what cannot be sent."""
    if len(payload.timestamp) != TIMESTAMP_LENGTH:
        raise ValueError(f"a timestamp is {TIMESTAMP_LENGTH} bytes")
    packed = payload.timestamp + _pack(payload.network, payload.wanted, payload.offer)
    return _pad(packed, INITIATION_PAYLOAD_LENGTH)


def pack_response_payload(payload: ResponsePayload | None) -> bytes:
    """What 0x11 seals: nothing for None, else 1,108 bytes. Raises ValueError.

    Padded, so that its size does not tell whose certificate it is.
    """
    if payload is None:
        return b""
    if payload.packed is not None:
        return payload.packed
    return _pad(_pack(payload.network, None, payload.offer), RESPONSE_PAYLOAD_MAX_LENGTH)


def parse_initiation_payload(data: bytes) -> InitiationPayload:
    """Read the 1,064 bytes that 0x10 sealed. Raises ParseError."""
    if len(data) != INITIATION_PAYLOAD_LENGTH:
        raise ParseError(f"this payload is {INITIATION_PAYLOAD_LENGTH} bytes; this has {len(data)}")
    return InitiationPayload(data[:TIMESTAMP_LENGTH], *parse_asked(data[TIMESTAMP_LENGTH:]))


def parse_asked(data: bytes) -> Asked:
    """What stands behind the timestamp. Raises ParseError."""
    network, fields = _parse(data)
    name = fields.pop(_NAME, None)
    if name is not None and (fault := _name_fault(name)):
        raise ParseError(fault)
    return Asked(network, None if name is None else name.decode("ascii"), _offer(fields))


def parse_response_payload(data: bytes) -> ResponsePayload | None:
    """Read what 0x11 sealed, None if that is nothing. Raises ParseError."""
    if not data:
        return None
    if len(data) > RESPONSE_PAYLOAD_MAX_LENGTH:
        raise ParseError(
            f"this payload is at most {RESPONSE_PAYLOAD_MAX_LENGTH} bytes; this has {len(data)}"
        )
    network, fields = _parse(data)
    if _NAME in fields:
        raise ParseError("a response asks for a name")
    offer = _offer(fields)
    if offer is None:
        raise ParseError("a response with a payload has no credential")
    return ResponsePayload(network, offer)


# --- Fields ---


def _pack(network: bytes, wanted: str | None, offer: Offer | None) -> bytes:
    if len(network) != NETWORK_LENGTH:
        raise ValueError(f"a network is {NETWORK_LENGTH} bytes; this has {len(network)}")
    # In ascending order of types.
    before, behind = (b"", b"") if offer is None else offer.packed or _pack_offer(offer)
    name = b"" if wanted is None else _pack_name(wanted)
    return b"".join((_VERSION_BYTE, network, before, name, behind))


def _pack_offer(offer: Offer) -> tuple[bytes, bytes]:
    """The fields of an offer that stand before the name, and those that stand behind it."""
    if fault := _offer_fault(offer):
        raise ValueError(fault)
    certificate = offer.kind is OfferKind.CERTIFICATE
    body = _field(_CERTIFICATE if certificate else _TOKEN, offer.body)
    behind = body + _field(_INTERMEDIATE, offer.intermediate)
    return _field(_ISSUER, offer.issuer), behind


@functools.lru_cache(_REMEMBERED)
def _pack_name(wanted: str) -> bytes:
    name = wanted.encode("ascii", "replace")
    if fault := _name_fault(name):
        raise ValueError(fault)
    return _field(_NAME, name)


def _field(kind: int, value: bytes | None) -> bytes:
    if value is None:
        return b""
    if len(value) > CREDENTIAL_INITIATION_LENGTH:
        raise ValueError(f"a credential of {len(value)} bytes is too long to be sent")
    return _FIELD.pack(kind, len(value)) + value


def _pad(packed: bytes, length: int) -> bytes:
    if len(packed) > length:
        raise ValueError(f"a credential is {len(packed) - length} bytes too long to be sent")
    return packed.ljust(length, b"\0")


def _parse(data: bytes) -> tuple[bytes, dict[int, bytes]]:
    """From the version on: the network, and the fields that are known."""
    start = 1 + NETWORK_LENGTH
    if len(data) < start:
        raise ParseError(f"{len(data)} bytes are too few for a version and a network")
    if data[0] != VERSION:
        raise ParseError(f"a payload has version {data[0]}, not {VERSION}", "version")
    return data[1:start], _fields(data, start)


def _fields(data: bytes, position: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    last, end = 0, len(data)
    while position < end:
        if data[position] == 0:
            if data[position:] != _ZEROS[: end - position]:
                raise ParseError("the padding is not zeros")
            break
        start = position + _FIELD_LENGTH
        if start > end:
            raise ParseError("a field breaks off")
        number, length = _FIELD.unpack_from(data, position)
        if number <= last:
            raise ParseError(f"field {number:#04x} comes after {last:#04x}")
        last, position = number, start + length
        if position > end:
            raise ParseError(f"field {number:#04x} is longer than what is left")
        if number in _KNOWN:
            found[number] = data[start:position]
        elif number >= MUST_UNDERSTAND:
            raise ParseError(f"field {number:#04x} must be understood and is not known")
    return found


def _offer(fields: dict[int, bytes]) -> Offer | None:
    certificate, token = fields.get(_CERTIFICATE), fields.get(_TOKEN)
    intermediate, issuer = fields.get(_INTERMEDIATE), fields.get(_ISSUER)
    if certificate is not None and token is not None:
        raise ParseError("a certificate and a token at once")
    if certificate is not None:
        offer = Offer(_BY_CERTIFICATE, certificate, intermediate, issuer)
    elif token is not None:
        offer = Offer(OfferKind.TOKEN, token, intermediate, issuer)
    elif intermediate is None and issuer is None:
        return None
    else:
        raise ParseError("an issuer without a certificate")
    if fault := _offer_fault(offer):
        raise ParseError(fault)
    return offer


def _offer_fault(offer: Offer) -> str | None:
    if not offer.body or offer.intermediate == b"":
        return "a credential is empty"
    if offer.issuer is not None and len(offer.issuer) != ISSUER_LENGTH:
        return f"an issuer is {ISSUER_LENGTH} bytes; this has {len(offer.issuer)}"
    if offer.kind is _BY_CERTIFICATE:
        return None
    if offer.intermediate is not None or offer.issuer is not None:
        return "a token comes with an issuer's certificate"
    if len(offer.body) > MAX_TOKEN_LENGTH:
        return f"a token is at most {MAX_TOKEN_LENGTH} bytes; this has {len(offer.body)}"
    parts = offer.body.split(b".")
    if len(parts) != 3 or not all(parts) or b"".join(parts).translate(None, _BASE64URL):
        return "a token is three parts of base64url with dots between"
    return None


def _name_fault(name: bytes) -> str | None:
    """Lower-case letters, digits and hyphens in labels (RFC 5890 section 2.3.1), no final dot."""
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        return f"a name is 1 to {MAX_NAME_LENGTH} bytes; this has {len(name)}"
    if name.translate(None, _LDH):
        return "a name has lower-case letters, digits, hyphens and dots only"
    labels = name.split(b".")
    shortest, longest = min(map(len, labels)), max(map(len, labels))
    if shortest == 0 or longest > MAX_LABEL_LENGTH:
        wrong = longest if shortest > 0 else 0
        return f"a label of a name is 1 to {MAX_LABEL_LENGTH} bytes; this has {wrong}"
    if name[0] == _HYPHEN or name[-1] == _HYPHEN or b"-." in name or b".-" in name:
        return "a label of a name begins and ends with a letter or a digit"
    return None
