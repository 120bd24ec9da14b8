"""The joining line: all that a machine needs to enrol, as one text to paste or to scan.

    wgpy-join: and base64url, without padding, of

    version(u8: 1) length(u16: of all) network(16) domain(text)
    count(u8: 1 to 3), and for each coordinator
        key(32)
        count(u8: 1 to 4), and for each endpoint    port(u16) host(text)
        count(u8: 1 or 2), and for each address in the tunnel    its bytes, 4 or 16 (text)
    token(u16, that many bytes) checksum(4)

Integers are big-endian; a text is a u8 and that many bytes. The checksum is the beginning of the
SHA-256 of a label and everything before it: it finds what was not copied whole, and protects from
nobody. There is one text for each line, but for white space anywhere, since mail and terminals
break lines. The coordinators' keys are what who joins trusts; the token is as good as a key for
whoever reads the line. docs/protocol.md has the reasons.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self, TypeVar

from wgpy.identity import profile, token
from wgpy.identity.claims import CredentialError
from wgpy.identity.jose import JsonError, b64decode, b64encode
from wgpy.identity.token import Enrolment
from wgpy.ip import address_text, parse_address
from wgpy.keys import PublicKey

PREFIX: Final = "wgpy-join:"
VERSION: Final = 1
# Its text is then 2,742 characters, which one QR code holds: 2,953 bytes (ISO/IEC 18004, version
# 40, level L). A usual line, of one coordinator, has 400 bytes.
MAX_LENGTH: Final = 2048
# Enough for one to be away and one to be moved.
MAX_COORDINATORS: Final = 3
# An address of each version of IP, a name, and what a router forwards.
MAX_ENDPOINTS: Final = 4
# One of each version of IP.
MAX_ADDRESSES: Final = 2
# What somebody pastes by mistake is not read to the end.
MAX_PASTED: Final = 8192

_LABEL: Final = b"wgpy joining line"
_CHECKSUM: Final = 4
_HEAD: Final = 3
_SHORTEST: Final = _HEAD + profile.NETWORK_LENGTH + _CHECKSUM
# What `wgpy punch` makes begins so.
_OFFER: Final = "wgpy1:"

_T = TypeVar("_T")


class LineError(ValueError):
    """A text that is no joining line; says what is wrong with it, for the person who pasted it."""


class Endpoint(NamedTuple):
    """Where a coordinator's UDP port is: a name in lower case, or a numeric address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Coordinator:
    """One who lets others enrol. `addresses` are its own inside the tunnel, of 4 or 16 bytes; there
    is one of IPv6, since who enrols has no other. Raises LineError."""

    key: PublicKey
    endpoints: tuple[Endpoint, ...]
    addresses: tuple[bytes, ...]

    def __post_init__(self) -> None:
        try:
            profile.check_key(self.key)
        except CredentialError as error:
            raise LineError(f"a coordinator's key cannot be: {error}") from None
        _check_count("endpoints", self.endpoints, MAX_ENDPOINTS)
        for endpoint in self.endpoints:
            _check_endpoint(endpoint)
        _check_count("addresses", self.addresses, MAX_ADDRESSES)
        if not all(len(x) in (4, 16) and profile.is_unicast(x) for x in self.addresses):
            raise LineError("a coordinator's address is none that a machine can have")
        if all(len(x) == 4 for x in self.addresses):
            raise LineError("a coordinator has no IPv6 address, which who enrols asks at")


@dataclass(frozen=True, slots=True)
class JoinLine:
    """What a joining line says. Raises LineError for what cannot be one.

    `network` has 16 bytes; `token` is the token to enrol, which nobody here can verify.
    """

    network: bytes
    domain: str
    coordinators: tuple[Coordinator, ...]
    token: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.network) != profile.NETWORK_LENGTH:
            raise LineError(f"a network is {profile.NETWORK_LENGTH} bytes")
        if not profile.is_name(self.domain):
            raise LineError("its domain is no name in lower case")
        _check_count("coordinators", self.coordinators, MAX_COORDINATORS)
        _check_count("keys", [bytes(x.key) for x in self.coordinators], MAX_COORDINATORS)
        if self.enrolment.network != self.network:
            raise LineError("its token is for another network")

    @property
    def enrolment(self) -> Enrolment:
        """What the token says of itself, unverified: until when it is good, and for which name."""
        try:
            return token.unverified_enrolment(self.token)
        except CredentialError as error:
            raise LineError(f"its token cannot be used: {error}") from None


def format_line(line: JoinLine) -> str:
    """The text of a line. Raises LineError for one that is longer than a QR code holds."""
    body = line.network + _text(line.domain.encode("ascii")) + bytes([len(line.coordinators)])
    for coordinator in line.coordinators:
        body += bytes(coordinator.key) + bytes([len(coordinator.endpoints)])
        for endpoint in coordinator.endpoints:
            body += endpoint.port.to_bytes(2, "big") + _text(endpoint.host.encode("ascii"))
        body += bytes([len(coordinator.addresses)]) + b"".join(map(_text, coordinator.addresses))
    body += len(line.token).to_bytes(2, "big") + line.token
    length = _HEAD + len(body) + _CHECKSUM
    if length > MAX_LENGTH:
        raise LineError(f"it has {length} bytes, of at most {MAX_LENGTH}: leave out an endpoint")
    whole = bytes([VERSION]) + length.to_bytes(2, "big") + body
    return PREFIX + b64encode(whole + _checksum(whole))


def parse_line(text: str) -> JoinLine:
    """Read a joining line. Raises LineError, and nothing else whatever `text` is."""
    whole = _whole(text)
    if whole[0] > VERSION:
        raise LineError("a newer wgpy made this line: update wgpy here, and paste it again")
    if whole[0] < VERSION:
        raise LineError("too old a wgpy made this line: update it there, and ask for a new line")
    length = int.from_bytes(whole[1:_HEAD], "big")
    if len(whole) < length:
        raise LineError(f"it was cut off: {len(whole)} of its {length} bytes are here")
    if whole[-_CHECKSUM:] != _checksum(whole[:-_CHECKSUM]) or len(whole) > length:
        raise LineError("it was changed on its way here: copy the whole line once more")
    reader = _Reader(whole[_HEAD:-_CHECKSUM])
    line = JoinLine(
        reader.take(profile.NETWORK_LENGTH),
        reader.ascii(),
        reader.each(MAX_COORDINATORS, _coordinator),
        reader.take(reader.number(2)),
    )
    reader.finish()
    return line


def qr_text(text: str) -> str:
    """A QR code of a line, for a terminal: half blocks, black on white whatever its colours are."""
    # Late, as it is wanted for a person who invites another, and for nobody else.
    import segno

    rows = [bytes(row) for row in segno.make_qr(text, error="l").matrix_iter(border=4)]
    if len(rows) % 2:
        rows.append(bytes(len(rows[0])))
    glyphs = (" ", "▄", "▀", "█")
    lines = (
        "".join(glyphs[2 * (upper & 1) + (lower & 1)] for upper, lower in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    )
    return "".join(f"\x1b[30;107m{line}\x1b[0m\n" for line in lines)


def _whole(text: str) -> bytes:
    """The bytes of a text. Raises LineError."""
    if len(text) > MAX_PASTED:
        raise LineError(f"the text has {len(text)} characters: that is no joining line")
    text = "".join(text.split())
    if text.startswith(_OFFER):
        raise LineError("this is an offer of `wgpy punch`, and no joining line")
    if not text.startswith(PREFIX):
        raise LineError(f"a joining line begins with {PREFIX}")
    coded = text[len(PREFIX) :]
    if len(coded) % 4 == 1:
        # No bytes have so many characters: one at least is missing.
        raise LineError("it was cut off: copy the whole line once more")
    try:
        whole = b64decode(coded)
    except JsonError:
        raise LineError("it was changed on its way here: copy the whole line once more") from None
    if len(whole) < _SHORTEST:
        raise LineError("it was cut off: copy the whole line once more")
    if len(whole) > MAX_LENGTH:
        raise LineError("it is longer than any line: copy it once more, and nothing else")
    return whole


class _Reader:
    """Takes a body apart. Every method raises LineError."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, length: int) -> bytes:
        found = self._body[self._at : self._at + length]
        if len(found) < length:
            raise LineError("it has no meaning: ask for a new line")
        self._at += length
        return found

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def text(self) -> bytes:
        return self.take(self.number(1))

    def ascii(self) -> str:
        # What is no ASCII is no name either, and is refused as that.
        return self.text().decode("ascii", "replace")

    def each(self, most: int, read: "Callable[[Self], _T]") -> tuple[_T, ...]:
        count = self.number(1)
        if count > most:
            raise LineError("it has no meaning: ask for a new line")
        return tuple(read(self) for _ in range(count))

    def finish(self) -> None:
        if self._at < len(self._body):
            raise LineError("it has no meaning: ask for a new line")


def _coordinator(reader: _Reader) -> Coordinator:
    return Coordinator(
        PublicKey(reader.take(32)),
        reader.each(MAX_ENDPOINTS, _endpoint),
        reader.each(MAX_ADDRESSES, _Reader.text),
    )


def _endpoint(reader: _Reader) -> Endpoint:
    port = reader.number(2)
    return Endpoint(reader.ascii(), port)


def _check_endpoint(endpoint: Endpoint) -> None:
    if not 0 < endpoint.port < 1 << 16:
        raise LineError("an endpoint has no port")
    try:
        numeric = parse_address(endpoint.host)
    except ValueError:
        if not profile.is_name(endpoint.host):
            raise LineError("an endpoint is neither a name in lower case nor an address") from None
        return
    if address_text(numeric) != endpoint.host or not profile.is_unicast(numeric):
        raise LineError("an endpoint's address is none, or not in its usual spelling")


def _check_count(what: str, values: tuple[object, ...] | list[bytes], most: int) -> None:
    if not 1 <= len(values) <= most or len(set(values)) != len(values):
        raise LineError(f"it has not 1 to {most} {what}, each once")


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value


def _checksum(whole: bytes) -> bytes:
    return hashlib.sha256(_LABEL + whole).digest()[:_CHECKSUM]
