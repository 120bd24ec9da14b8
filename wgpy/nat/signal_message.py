"""What two nodes tell each other before they punch, sealed, in one length (docs/protocol.md).

    version(1) sender's static key(32) nonce(24) sealed(280 + 16)     353 bytes
    associated data: version and sender

Whoever carries them sees who tells whom and nothing else. Integers are little-endian. Parsers raise
ParseError and nothing else; `reason` in it is `malformed`, `unauthenticated` or `version`.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from wgpy.keys import PublicKey
from wgpy.nat.candidates import MAX_CANDIDATES, Candidate, Kind
from wgpy.nat.facts import MAX_LAYERS, NUMBERS, UNKNOWN, NatFacts
from wgpy.nat.path_ids import IDS_IN_SIGNAL
from wgpy.nat.probe import pack_address, unpack_address
from wgpy.nat.sealed import NONCE_LENGTH, Box
from wgpy.protocol.constants import KEY_LENGTH, PATH_ID_LENGTH, TAG_LENGTH
from wgpy.protocol.messages import ParseError

VERSION: Final = 1
TRANSACTION_LENGTH: Final = 8
# Of a message that a program carries, and of one that people paste.
LIFE: Final = 60
MAX_LIFE: Final = 600
# A punch that is further off, or an answer that took longer, is a mistake.
MAX_DELAY_MS: Final = 10_000

_VERSION_BYTE: Final = bytes([VERSION])
_SEALED_AT: Final = len(_VERSION_BYTE) + KEY_LENGTH + NONCE_LENGTH
_HEAD: Final = struct.Struct("<BBQ8s8sHH")
_FACTS: Final = struct.Struct("<BBhBB")
_CANDIDATE: Final = struct.Struct("<B16sH")
_IDS_LENGTH: Final = IDS_IN_SIGNAL * PATH_ID_LENGTH
# 259 bytes are in use; the rest keeps the length a round one and is zeros.
_CONTENT_LENGTH: Final = 280
MESSAGE_LENGTH: Final = _SEALED_AT + _CONTENT_LENGTH + TAG_LENGTH
_FLAG_BIRTHDAY: Final = 1
_BEHAVIOURS: Final = {number: behaviour for behaviour, number in NUMBERS.items()}
_NOTHING: Final = bytes(TRANSACTION_LENGTH)


class SignalKind(IntEnum):
    """Three messages make a meeting: only who got an answer, or a punch, does anything."""

    OFFER = 1
    ANSWER = 2
    PUNCH = 3


class Method(IntEnum):
    """How the sender will punch."""

    # From the tunnel's own port.
    PLAIN = 0
    # From another port, opened for this round: after a failure the old one may be burnt.
    FRESH = 1
    BIRTHDAY = 2


@dataclass(frozen=True, slots=True)
class SignalMessage:
    """One message. `transaction` (8 random bytes) is the sender's own, zeros in a punch; `echo` is
    that of the message it replies to, zeros in an offer. `life` is in seconds. `delay_ms` is how
    long an answer was waited for on the other side, and in a punch, how long to wait.

    A punch has neither facts nor path ids nor candidates.
    """

    kind: SignalKind
    sequence: int
    transaction: bytes = _NOTHING
    echo: bytes = _NOTHING
    life: int = LIFE
    delay_ms: int = 0
    method: Method = Method.PLAIN
    facts: NatFacts = UNKNOWN
    path_ids: tuple[bytes, ...] = ()
    candidates: tuple[Candidate, ...] = ()


def sender_of(data: bytes) -> PublicKey:
    """Who claims to have sealed a message: whose keys to open it with. Raises ParseError."""
    if len(data) != MESSAGE_LENGTH:
        raise ParseError(f"a signal has {MESSAGE_LENGTH} bytes; this has {len(data)}")
    if data[0] != VERSION:
        raise ParseError(f"version {data[0]}; this is version {VERSION}", "version")
    return PublicKey(data[1 : 1 + KEY_LENGTH])


def pack_signal(signal: SignalMessage, box: Box, sender: PublicKey, nonce: bytes) -> bytes:
    """The 353 bytes. A nonce is 24 random bytes. Raises ValueError for what cannot be sent."""
    content = _HEAD.pack(
        signal.kind,
        signal.method,
        signal.sequence,
        signal.transaction,
        signal.echo,
        signal.life,
        signal.delay_ms,
    )
    if signal.kind is not SignalKind.PUNCH:
        content += _pack_facts(signal.facts) + b"".join(signal.path_ids)
        content += bytes([len(signal.candidates)])
        for kind, host, port in signal.candidates:
            content += _CANDIDATE.pack(kind, pack_address(host), port)
    content = content.ljust(_CONTENT_LENGTH, b"\0")
    try:
        _parse(content)
    except ParseError as error:
        raise ValueError(f"this cannot be sent: {error}") from None
    head = _VERSION_BYTE + bytes(sender)
    return head + nonce + box.seal(nonce, content, head)


def parse_signal(data: bytes, box: Box) -> SignalMessage:
    """Open and read 353 bytes. Raises ParseError."""
    sender_of(data)
    nonce_at = len(_VERSION_BYTE) + KEY_LENGTH
    content = box.open(data[nonce_at:_SEALED_AT], data[_SEALED_AT:], data[:nonce_at])
    return _parse(content)


def _parse(content: bytes) -> SignalMessage:
    if len(content) != _CONTENT_LENGTH:
        raise ParseError(f"a signal's content has {_CONTENT_LENGTH} bytes")
    kind_number, method_number, sequence, transaction, echo, life, delay = _HEAD.unpack_from(
        content
    )
    try:
        kind, method = SignalKind(kind_number), Method(method_number)
    except ValueError:
        raise ParseError("a kind or a method that there is not") from None
    if not 0 < life <= MAX_LIFE or delay > MAX_DELAY_MS:
        raise ParseError("a life or a delay beyond the bounds")
    if (transaction == _NOTHING) != (kind is SignalKind.PUNCH):
        raise ParseError("a transaction where none belongs, or none where one does")
    if (echo == _NOTHING) != (kind is SignalKind.OFFER):
        raise ParseError("an echo where none belongs, or none where one does")
    head = (kind, sequence, transaction, echo, life, delay, method)
    if kind is SignalKind.PUNCH:
        _expect_zeros(content[_HEAD.size :])
        if method is not Method.PLAIN:
            raise ParseError("a punch with a method")
        return SignalMessage(*head)
    facts = _parse_facts(content)
    ids_at = _HEAD.size + _FACTS.size
    ids = tuple(
        content[at : at + PATH_ID_LENGTH]
        for at in range(ids_at, ids_at + _IDS_LENGTH, PATH_ID_LENGTH)
    )
    if len(set(ids)) != len(ids):
        raise ParseError("one path id twice")
    return SignalMessage(*head, facts, ids, _parse_candidates(content, ids_at + _IDS_LENGTH))


def _pack_facts(facts: NatFacts) -> bytes:
    flags = _FLAG_BIRTHDAY if facts.birthday else 0
    return _FACTS.pack(
        NUMBERS[facts.mapping], NUMBERS[facts.filtering], facts.step, facts.layers, flags
    )


def _parse_facts(content: bytes) -> NatFacts:
    mapping, filtering, step, layers, flags = _FACTS.unpack_from(content, _HEAD.size)
    if not 0 < layers <= MAX_LAYERS or flags & ~_FLAG_BIRTHDAY:
        raise ParseError("facts of a NAT that there cannot be")
    try:
        return NatFacts(_BEHAVIOURS[mapping], _BEHAVIOURS[filtering], step, layers, bool(flags))
    except KeyError:
        raise ParseError("a behaviour of a NAT that there is not") from None


def _parse_candidates(content: bytes, at: int) -> tuple[Candidate, ...]:
    count, at = content[at], at + 1
    if count > MAX_CANDIDATES:
        raise ParseError(f"{count} candidates; {MAX_CANDIDATES} is the most")
    found = []
    for _ in range(count):
        number, address, port = _CANDIDATE.unpack_from(content, at)
        at += _CANDIDATE.size
        try:
            kind = Kind(number)
        except ValueError:
            raise ParseError("a kind of candidate that there is not") from None
        found.append(Candidate(kind, unpack_address(address), port))
    _expect_zeros(content[at:])
    return tuple(found)


def _expect_zeros(rest: bytes) -> None:
    if rest.strip(b"\0"):
        raise ParseError("padding that is not zeros")
