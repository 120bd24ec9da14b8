"""The NAT Port Mapping Protocol, RFC 6886: the external IPv4 address, and one UDP port.

    address request    version=0 opcode=0
    mapping request    version=0 opcode=1 reserved(2) internal port(2) external port(2) lifetime(4)
    address response   version=0 opcode=128 result(2) epoch(4) external address(4)
    mapping response   version=0 opcode=129 result(2) epoch(4) internal(2) external(2) lifetime(4)

Integers are big-endian. A response that is an error may end after its epoch. `parse_response`
raises ParseError and nothing else.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from wgpy.ip import address_text
from wgpy.nat.mapping import Answer, Granted, Present, Refused, Removed, Service
from wgpy.nat.place import Place
from wgpy.protocol.messages import ParseError

VERSION: Final = 0
_REQUEST_ADDRESS: Final = bytes((VERSION, 0))
_REQUEST_MAPPING: Final = struct.Struct("!BBHHHI")
_HEAD: Final = struct.Struct("!BBHI")
_MAPPING: Final = struct.Struct("!HHI")
_RESPONSE_BIT: Final = 0x80
# The longest response; an error may copy what the request had.
_MAX_LENGTH: Final = _HEAD.size + _MAPPING.size


class Opcode(IntEnum):
    """What is asked (sections 3.2 and 3.3)."""

    ADDRESS = 0
    MAP_UDP = 1


class Result(IntEnum):
    """Why a request failed (section 3.5)."""

    SUCCESS = 0
    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    OUT_OF_RESOURCES = 4
    UNSUPPORTED_OPCODE = 5


_WORDS: Final = {
    int(Result.NOT_AUTHORIZED): "the router does not allow it",
    int(Result.NETWORK_FAILURE): "the router has no external address now",
    int(Result.OUT_OF_RESOURCES): "the router has no port left",
}


@dataclass(frozen=True, slots=True)
class Mapped:
    """The part of a mapping response; `lifetime` is in seconds."""

    internal_port: int
    external_port: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class Response:
    """A response. `result` is a Result or another number. With success there is `external`, of
    4 bytes, or `mapped`, as the opcode says."""

    opcode: int
    result: int
    epoch: int
    external: bytes = b""
    mapped: Mapped | None = None


def pack_address() -> bytes:
    """The question for the external address, 2 bytes."""
    return _REQUEST_ADDRESS


def pack_mapping(internal_port: int, external_port: int, lifetime: int) -> bytes:
    """The request for a mapping of a UDP port, 12 bytes. External port 0 leaves it to the router;
    lifetime 0 removes the mapping, and then the external port must be 0 (section 3.4)."""
    return _REQUEST_MAPPING.pack(VERSION, Opcode.MAP_UDP, 0, internal_port, external_port, lifetime)


def is_natpmp(data: bytes) -> bool:
    """Whether a datagram is of this protocol, and not of PCP, which has the same port."""
    return data[:1] == _REQUEST_ADDRESS[:1]


def parse_response(data: bytes) -> Response:
    """Read a response of 8 to 16 bytes. Raises ParseError."""
    if not _HEAD.size <= len(data) <= _MAX_LENGTH:
        raise ParseError(f"a NAT-PMP response has 8 to 16 bytes; this has {len(data)}")
    version, opcode, result, epoch = _HEAD.unpack_from(data)
    if version != VERSION:
        raise ParseError(f"NAT-PMP has version 0; this has {version}")
    if not opcode & _RESPONSE_BIT:
        raise ParseError("a NAT-PMP request where a response should be")
    opcode &= ~_RESPONSE_BIT
    rest = data[_HEAD.size :]
    if result != Result.SUCCESS:
        return Response(opcode, result, epoch)
    if opcode == Opcode.ADDRESS and len(rest) == 4:
        return Response(opcode, result, epoch, external=rest)
    if opcode == Opcode.MAP_UDP and len(rest) == _MAPPING.size:
        return Response(opcode, result, epoch, mapped=Mapped(*_MAPPING.unpack(rest)))
    raise ParseError(f"a NAT-PMP response to opcode {opcode} of {len(data)} bytes")


class NatPmpClient:
    """One mapping at one server: requests out, answers in. When to ask again is the caller's."""

    service: Final = Service.NAT_PMP

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, lifetime: int, suggested: Place) -> bytes:
        """The request for a mapping, or for a renewal of it; the address cannot be chosen."""
        return pack_mapping(self._port, suggested.port, lifetime)

    def remove(self) -> bytes:
        """The request to end the mapping."""
        return pack_mapping(self._port, 0, 0)

    def check(self) -> bytes:
        """The question for the external address, which tells the epoch as well."""
        return pack_address()

    def read(self, data: bytes) -> Answer:
        """What an answer means for our mapping. Raises ParseError, with the reason `foreign` for an
        answer about another mapping."""
        response = parse_response(data)
        if response.result == Result.UNSUPPORTED_VERSION:
            content = Refused("the router speaks no NAT-PMP", absent=True)
            return Answer(self.service, response.epoch, content)
        if response.result != Result.SUCCESS:
            words = f"the router answers with NAT-PMP error {response.result}"
            refused = Refused(_WORDS.get(response.result, words))
            return Answer(self.service, response.epoch, refused)
        if response.mapped is None:
            present = Present(address_text(response.external))
            return Answer(self.service, response.epoch, present)
        mapped = response.mapped
        if mapped.internal_port != self._port:
            raise ParseError("an answer about somebody else's mapping", "foreign")
        if mapped.lifetime == 0:
            return Answer(self.service, response.epoch, Removed())
        granted = Granted("", mapped.external_port, mapped.lifetime)
        return Answer(self.service, response.epoch, granted)
