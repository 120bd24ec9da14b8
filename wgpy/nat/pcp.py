"""The Port Control Protocol, RFC 6887: MAP for one UDP port, and ANNOUNCE.

    request    version=2 opcode reserved(2) lifetime(4) client address(16)
    response   version=2 opcode|0x80 reserved result lifetime(4) epoch(4) reserved(12)
    MAP, both  nonce(12) protocol reserved(3) internal port(2) external port(2) external address(16)

Integers are big-endian; IPv4 addresses stand in the last 4 of 16 bytes, after ::ffff. A datagram is
24 to 1,100 bytes, a multiple of four. Options may follow; we send none, and pass over theirs.
`parse_response` raises ParseError and nothing else.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from wgpy.ip import address_text, parse_address
from wgpy.nat.mapping import (
    MAX_REFUSAL,
    Answer,
    Content,
    Granted,
    Present,
    Refused,
    Removed,
    Service,
)
from wgpy.nat.place import Place
from wgpy.protocol.hashes import mac
from wgpy.protocol.messages import ParseError

VERSION: Final = 2
NONCE_LENGTH: Final = 12
# Sections 7.1 and 7.2.
MAX_LENGTH: Final = 1_100
UDP: Final = 17

_REQUEST: Final = struct.Struct("!BBHI16s")
_RESPONSE: Final = struct.Struct("!BBBBII12x")
_MAP: Final = struct.Struct("!12sB3xHH16s")
_RESPONSE_BIT: Final = 0x80
_MAPPED_V4: Final = bytes(10) + b"\xff\xff"
_NONCE_LABEL: Final = b"wgpy PCP nonce v1"


class Opcode(IntEnum):
    """What is asked (sections 14 and 10)."""

    ANNOUNCE = 0
    MAP = 1


class Result(IntEnum):
    """Why a request failed (section 7.4)."""

    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    MALFORMED_REQUEST = 3
    UNSUPP_OPCODE = 4
    UNSUPP_OPTION = 5
    MALFORMED_OPTION = 6
    NETWORK_FAILURE = 7
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    CANNOT_PROVIDE_EXTERNAL = 11
    ADDRESS_MISMATCH = 12
    EXCESSIVE_REMOTE_PEERS = 13


_WORDS: Final = {
    int(Result.NOT_AUTHORIZED): "the router does not allow it",
    int(Result.NETWORK_FAILURE): "the router has no external address now",
    int(Result.NO_RESOURCES): "the router has no port left",
    int(Result.USER_EX_QUOTA): "the router gives us no more ports",
    int(Result.ADDRESS_MISMATCH): "there is a NAT between the router and us",
}


@dataclass(frozen=True, slots=True)
class Mapped:
    """The part of a MAP response. `external` is an address of 4 or 16 bytes."""

    nonce: bytes
    protocol: int
    internal_port: int
    external_port: int
    external: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """A response. `result` is a Result, or a number that RFC 6887 does not have; `lifetime` and
    `epoch` are seconds. `mapped` is there if it is a whole MAP response."""

    opcode: int
    result: int
    lifetime: int
    epoch: int
    mapped: Mapped | None = None


def to_16(address: bytes) -> bytes:
    """An address of 4 or 16 bytes as PCP writes it."""
    return _MAPPED_V4 + address if len(address) == 4 else address


def from_16(field: bytes) -> bytes:
    """The 4 or 16 bytes of an address that PCP wrote in 16."""
    return field[12:] if field.startswith(_MAPPED_V4) else field


def pack_announce(client: bytes) -> bytes:
    """ANNOUNCE from an address of ours, 24 bytes: the answer tells the server's epoch."""
    return _REQUEST.pack(VERSION, Opcode.ANNOUNCE, 0, 0, to_16(client))


def pack_map(client: bytes, lifetime: int, mapped: Mapped) -> bytes:
    """MAP, 60 bytes, for `lifetime` seconds; 0 removes the mapping.

    The external address and port in `mapped` are what we should like best; zeros leave the choice
    to the server.
    """
    return _REQUEST.pack(VERSION, Opcode.MAP, 0, lifetime, to_16(client)) + _MAP.pack(
        mapped.nonce,
        mapped.protocol,
        mapped.internal_port,
        mapped.external_port,
        to_16(mapped.external),
    )


def parse_response(data: bytes) -> Response:
    """Read a response of 24 to 1,100 bytes. Raises ParseError."""
    if not _RESPONSE.size <= len(data) <= MAX_LENGTH or len(data) % 4:
        raise ParseError(f"a PCP response has 24 to 1,100 bytes in fours; this has {len(data)}")
    version, opcode, _reserved, result, lifetime, epoch = _RESPONSE.unpack_from(data)
    # A server that knows only the draft says so with the draft's version (section 9).
    if version != VERSION and result != Result.UNSUPP_VERSION:
        raise ParseError(f"PCP has version 2; this has {version}")
    if not opcode & _RESPONSE_BIT:
        raise ParseError("a PCP request where a response should be")
    opcode &= ~_RESPONSE_BIT
    mapped = None
    if opcode == Opcode.MAP and len(data) >= _RESPONSE.size + _MAP.size:
        nonce, protocol, internal, external, address = _MAP.unpack_from(data, _RESPONSE.size)
        mapped = Mapped(nonce, protocol, internal, external, from_16(address))
    elif opcode == Opcode.MAP and result == Result.SUCCESS:
        raise ParseError("a PCP mapping without its second half")
    return Response(opcode, result, lifetime, epoch, mapped)


def make_nonce(secret: bytes, *parts: str) -> bytes:
    """The nonce of a mapping, 12 bytes: the same for the same parts as long as the secret is.

    A server lets only the nonce that made a mapping renew or remove it (section 11.3). One that is
    drawn at random is lost with the process, and then the port is for up to two hours; this one is
    found again, and nobody guesses it without the secret of 32 bytes.
    """
    return mac(secret, b"\0".join([_NONCE_LABEL, *(part.encode() for part in parts)]))[
        :NONCE_LENGTH
    ]


class PcpClient:
    """One mapping at one server: requests out, answers in. When to ask again is the caller's."""

    service: Final = Service.PCP

    def __init__(self, own: str, port: int, nonce: bytes) -> None:
        self._own = parse_address(own)
        self._port = port
        self._nonce = nonce

    def ask(self, lifetime: int, suggested: Place) -> bytes:
        """The request for a mapping, or for a renewal of it. An empty host in `suggested` leaves
        the address to the server, port 0 the port."""
        nothing = bytes(len(self._own))
        external = parse_address(suggested.host) if suggested.host else nothing
        wanted = Mapped(self._nonce, UDP, self._port, suggested.port, external)
        return pack_map(self._own, lifetime, wanted)

    def remove(self) -> bytes:
        """The request to end the mapping: all zeros of its family (section 15.1, erratum 3621)."""
        return self.ask(0, Place("", 0))

    def check(self) -> bytes:
        """The question whether the server is there and remembers."""
        return pack_announce(self._own)

    def read(self, data: bytes) -> Answer:
        """What an answer means for our mapping. Raises ParseError, with the reason `foreign` for an
        answer about another mapping."""
        response = parse_response(data)
        mapped = response.mapped
        if mapped is not None and (
            mapped.nonce != self._nonce
            or mapped.protocol != UDP
            or mapped.internal_port != self._port
        ):
            raise ParseError("an answer about somebody else's mapping", "foreign")
        return Answer(self.service, response.epoch, self._content(response))

    def _content(self, response: Response) -> Content:
        if response.result == Result.UNSUPP_VERSION:
            return Refused("the router speaks no PCP", absent=True)
        if response.opcode == Opcode.ANNOUNCE:
            # Also with an error: a server that knows version 2 is there.
            return Present()
        if response.result != Result.SUCCESS or response.mapped is None:
            words = f"the router answers with PCP error {response.result}"
            pause = min(response.lifetime, MAX_REFUSAL)
            return Refused(_WORDS.get(response.result, words), pause)
        if response.lifetime == 0:
            return Removed()
        mapped = response.mapped
        return Granted(address_text(mapped.external), mapped.external_port, response.lifetime)
