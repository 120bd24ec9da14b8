"""STUN messages on the wire (RFC 8489), and those of RFC 3489 and RFC 5780 that are of use.

    0                   2                 4              8                    20
    | class and method  | length of rest  | magic cookie | transaction id 12  | attributes ...
    attribute: type 2 | length 2 | value | zeros up to a multiple of 4

The values of attributes are aioice's to read and write. The walk over them is ours, for a stranger
writes them: a value that is cut off, bytes that belong to no attribute, a wrong FINGERPRINT are
refused; of two equal attributes the first counts (section 14); types that must be understood and
are not are told. `parse` raises ParseError and nothing else.
"""

import hmac
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wgpy.ip import address_text, parse_address
from wgpy.nat.aioice_stun import stun as aioice
from wgpy.protocol.messages import ParseError

__all__ = [
    "CHANGE_ADDRESS",
    "CHANGE_PORT",
    "COOKIE",
    "HEADER_LENGTH",
    "Class",
    "Message",
    "Method",
    "ParseError",
    "is_stun",
    "mapped_address",
    "pack",
    "parse",
]

Class = aioice.Class
Method = aioice.Method

HEADER_LENGTH: Final = 20
COOKIE: Final = aioice.COOKIE.to_bytes(4, "big")
TRANSACTION_LENGTH: Final = 12
# RFC 3489 had no cookie: its place was a part of the id.
CLASSIC_TRANSACTION_LENGTH: Final = 16

# Flags of CHANGE-REQUEST (RFC 5780, 7.2).
CHANGE_ADDRESS: Final = 0x04
CHANGE_PORT: Final = 0x02

# Types from here on may be passed over by who does not know them (RFC 8489, 14).
_OPTIONAL: Final = 0x8000
_LENGTH: Final = struct.Struct("!2xH")
_ATTRIBUTE: Final = struct.Struct("!HH")
_HEADER: Final = struct.Struct("!HH")
_INTEGRITY: Final = "MESSAGE-INTEGRITY"
_INTEGRITY_SHA256: Final = "MESSAGE-INTEGRITY-SHA256"
_FINGERPRINT: Final = "FINGERPRINT"
_MAPPED_V4: Final = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `attributes` are by name, with values as aioice has them: an address is
    `(host, port)`, ERROR-CODE `(code, reason)`, a number an int, text a str.

    `transaction` has 12 bytes, or 16 where there is no cookie (RFC 3489). `unknown` are the types
    that a receiver must understand and we do not. `signed` is what MESSAGE-INTEGRITY covers, and
    `signed_sha256` what MESSAGE-INTEGRITY-SHA256 does.
    """

    method: Method
    kind: Class
    transaction: bytes
    attributes: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[int, ...] = ()
    signed: bytes = b""
    signed_sha256: bytes = b""

    @property
    def has_fingerprint(self) -> bool:
        """Whether it came with a FINGERPRINT, which then was right."""
        return _FINGERPRINT in self.attributes

    def is_authentic(self, key: bytes, *, sha256: bool = False) -> bool:
        """Whether it has a MESSAGE-INTEGRITY, and made with this key; with `sha256`, whether that
        is so of its MESSAGE-INTEGRITY-SHA256, which must be whole (RFC 8489, 14.6)."""
        found = self.attributes.get(_INTEGRITY_SHA256 if sha256 else _INTEGRITY)
        if not isinstance(found, bytes):
            return False
        if sha256:
            return hmac.compare_digest(found, _integrity_sha256(self.signed_sha256, key))
        return hmac.compare_digest(found, aioice.message_integrity(self.signed, key))


def _integrity_sha256(data: bytes, key: bytes) -> bytes:
    length = len(data) - HEADER_LENGTH + _ATTRIBUTE.size + 32
    return hmac.digest(key, aioice.set_body_length(data, length), "sha256")


def _pack_types(types: tuple[int, ...]) -> bytes:
    return struct.pack(f"!{len(types)}H", *types)


def _unpack_types(value: bytes) -> tuple[int, ...]:
    return struct.unpack(f"!{len(value) // 2}H", value)


def _unpack_error(value: bytes) -> tuple[int, str]:
    """ERROR-CODE. The bits before the class are reserved and mean nothing (RFC 8489, 14.8)."""
    if len(value) < 4:
        raise ValueError("an error code has four bytes")
    hundreds, rest = value[2] & 7, value[3]
    if not (3 <= hundreds <= 6 and rest < 100):
        raise ValueError("an error code is 300 to 699")
    return hundreds * 100 + rest, value[4:].decode()


# What aioice knows of attributes, with what it does not have, or not as the RFC does. Its own
# tables stay as they are. ANSWER-AFTER is ours (stun_server.py): one that others pass over, from
# the range that is given out on request (RFC 8489, 18.3).
_BY_NAME: Final[dict[str, aioice.AttributeEntry]] = {
    **aioice.ATTRIBUTES_BY_NAME,
    "UNKNOWN-ATTRIBUTES": (0x000A, "UNKNOWN-ATTRIBUTES", _pack_types, _unpack_types),
    "ANSWER-AFTER": (0xCA7E, "ANSWER-AFTER", aioice.pack_unsigned, aioice.unpack_unsigned),
    "ERROR-CODE": (0x0009, "ERROR-CODE", aioice.pack_error_code, _unpack_error),
    # Who signs, and how: RFC 8489, 14.4, 14.6, 14.11 and 14.12.
    _INTEGRITY_SHA256: (0x001C, _INTEGRITY_SHA256, aioice.pack_bytes, aioice.unpack_bytes),
    "PASSWORD-ALGORITHM": (0x001D, "PASSWORD-ALGORITHM", aioice.pack_bytes, aioice.unpack_bytes),
    "USERHASH": (0x001E, "USERHASH", aioice.pack_bytes, aioice.unpack_bytes),
    "PASSWORD-ALGORITHMS": (0x8002, "PASSWORD-ALGORITHMS", aioice.pack_bytes, aioice.unpack_bytes),
    # RFC 8656, 18.6, and RFC 8489, 14.15.
    "REQUESTED-ADDRESS-FAMILY": (
        *(0x0017, "REQUESTED-ADDRESS-FAMILY"),
        *(aioice.pack_unsigned, aioice.unpack_unsigned),
    ),
    "ALTERNATE-SERVER": (0x8023, "ALTERNATE-SERVER", aioice.pack_address, aioice.unpack_address),
}
_BY_TYPE: Final = {entry[0]: entry for entry in _BY_NAME.values()}


def is_stun(data: bytes) -> bool:
    """Whether a datagram is a STUN message by its first 8 bytes and its length: how it is told from
    others on one port (RFC 8489, 5 and 6.3)."""
    return (
        len(data) >= HEADER_LENGTH
        and data[0] < 4
        and data[4:8] == COOKIE
        and HEADER_LENGTH + _LENGTH.unpack_from(data)[0] == len(data)
    )


def is_binding(data: bytes) -> bool:
    """Whether a datagram is of the method Binding, if it is a STUN message at all."""
    return len(data) >= HEADER_LENGTH and _HEADER.unpack_from(data)[0] & 0x3EEF == Method.BINDING


def parse(data: bytes, *, classic: bool = False) -> Message:
    """Read a message; with `classic` also one without the cookie (RFC 3489). Raises ParseError."""
    if len(data) < HEADER_LENGTH or data[0] >= 4:
        raise ParseError("no STUN message")
    if HEADER_LENGTH + _LENGTH.unpack_from(data)[0] != len(data) or len(data) % 4:
        raise ParseError("a length that is not that of the message")
    is_classic = data[4:8] != COOKIE
    if is_classic and not classic:
        raise ParseError("no magic cookie", "no_cookie")
    number: int = _HEADER.unpack_from(data)[0]
    try:
        method = Method(number & 0x3EEF)
    except ValueError:
        raise ParseError(f"an unknown method in {number:#06x}", "unknown_method") from None
    transaction = data[4:HEADER_LENGTH] if is_classic else data[8:HEADER_LENGTH]
    try:
        attributes, unknown, signed, sha256 = _attributes(data, transaction)
    except (ValueError, IndexError, struct.error) as error:
        raise ParseError(f"an attribute that cannot be read: {error}") from None
    kind = Class(number & 0x0110)
    return Message(method, kind, transaction, attributes, unknown, signed, sha256)


def _attributes(
    data: bytes, transaction: bytes
) -> tuple[dict[str, Any], tuple[int, ...], bytes, bytes]:
    """Attributes by name, types that must be known and are not, what MESSAGE-INTEGRITY covers, and
    what MESSAGE-INTEGRITY-SHA256 does.

    Raises ParseError and what the codecs of values raise.
    """
    found: dict[str, Any] = {}
    unknown: list[int] = []
    signed = {_INTEGRITY: b"", _INTEGRITY_SHA256: b""}
    # What may follow those, which protect what comes before them (RFC 8489, 14.5 and 14.6).
    may_follow: tuple[str, ...] | None = None
    place = HEADER_LENGTH
    while place < len(data):
        if _FINGERPRINT in found:
            raise ParseError("something follows the FINGERPRINT")
        kind, length = _ATTRIBUTE.unpack_from(data, place)
        start = place + _ATTRIBUTE.size
        end = start + length + aioice.padding_length(length)
        if end > len(data):
            raise ParseError("an attribute ends after its message")
        entry = _BY_TYPE.get(kind)
        name = "" if entry is None else entry[1]
        passed_over = name in found or (may_follow is not None and name not in may_follow)
        if not passed_over and entry is not None:
            found[name] = _value(entry, data[start : start + length], transaction)
            if name in signed:
                signed[name] = data[:place]
                may_follow = (_INTEGRITY_SHA256, _FINGERPRINT)[name == _INTEGRITY_SHA256 :]
            elif name == _FINGERPRINT and found[name] != aioice.message_fingerprint(data[:place]):
                raise ParseError("a wrong FINGERPRINT", "wrong_fingerprint")
        elif not passed_over and kind < _OPTIONAL:
            unknown.append(kind)
        place = end
    return found, tuple(unknown), signed[_INTEGRITY], signed[_INTEGRITY_SHA256]


def _value(entry: aioice.AttributeEntry, value: bytes, transaction: bytes) -> Any:
    unpack = entry[3]
    if unpack is aioice.unpack_xor_address:
        return unpack(value, transaction)
    return unpack(value)


def pack(message: Message, key: bytes | None = None, *, sha256: bool = False) -> bytes:
    """The bytes of a message; with `key` MESSAGE-INTEGRITY is added, or the one of SHA-256, and
    FINGERPRINT always, but to one without cookie, whose readers do not know it. Raises ValueError
    and KeyError for attributes that there are not.
    """
    body = b""
    for name, value in message.attributes.items():
        if name in (_INTEGRITY, _INTEGRITY_SHA256, _FINGERPRINT):
            raise ValueError(f"{name} is made here")
        kind, _, write, _ = _BY_NAME[name]
        packer: Callable[..., bytes] = write
        if packer is aioice.pack_xor_address:
            body += _attribute(kind, packer(value, message.transaction))
        else:
            body += _attribute(kind, packer(value))
    is_classic = len(message.transaction) == CLASSIC_TRANSACTION_LENGTH
    start = (b"" if is_classic else COOKIE) + message.transaction
    data = _HEADER.pack(message.method | message.kind, len(body)) + start + body
    if key is not None and sha256:
        data += _attribute(_BY_NAME[_INTEGRITY_SHA256][0], _integrity_sha256(data, key))
    elif key is not None:
        data += _attribute(_BY_NAME[_INTEGRITY][0], aioice.message_integrity(data, key))
    if not is_classic:
        check = aioice.message_fingerprint(data)
        data += _attribute(_BY_NAME[_FINGERPRINT][0], check.to_bytes(4, "big"))
    return aioice.set_body_length(data, len(data) - HEADER_LENGTH)


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(aioice.padding_length(len(value)))
    return _ATTRIBUTE.pack(kind, len(value)) + value + padding


def mapped_address(message: Message) -> tuple[str, int] | None:
    """The address and port that a server saw us come from, in their usual text, or None.

    MAPPED-ADDRESS counts where there is nothing else: routers are known that rewrite addresses of
    theirs which they find in packets, which is why the other one is mixed with the cookie.
    """
    found = message.attributes.get("XOR-MAPPED-ADDRESS") or message.attributes.get("MAPPED-ADDRESS")
    if found is None:
        return None
    host, port = found
    # A server whose IPv6 socket serves IPv4 as well may write the address so.
    packed = parse_address(host)
    if packed.startswith(_MAPPED_V4):
        host = address_text(packed[len(_MAPPED_V4) :])
    return host, port
