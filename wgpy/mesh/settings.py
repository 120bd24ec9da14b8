"""What holds for a whole network, as its nodes are told; immutable, with a JSON form.

A network is its identifier of 16 random bytes. Its domain and its ranges are in certificates and in
what every node keeps, so they stay as they are for as long as the network lives.
"""

from dataclasses import dataclass
from typing import Any, Final

from wgpy.device.servers import parse_stun_server, parse_turn_uri
from wgpy.identity.profile import NETWORK_LENGTH
from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.mesh import fields
from wgpy.mesh.addresses import AddressError, check_ranges
from wgpy.mesh.fields import RecordError

# Coordinators may be away for two days without hurting anybody: nodes renew at two thirds.
VALIDITY: Final = 7 * 86_400
# A minute is for tests; a certificate of more than a year is no longer one that is renewed.
LEAST_VALIDITY: Final = 60
MOST_VALIDITY: Final = 366 * 86_400
# As many as a joining line has room for, and more than a network has use for.
MAX_COORDINATORS: Final = 8
# Where a coordinator is found: two versions of IP, a name, and what a router forwards.
MAX_ENDPOINTS: Final = 8
# A node asks two of them (RFC 5780); the rest is for when they are away.
MAX_STUN: Final = 8
MAX_TURN: Final = 8
# A host name has 253 characters at the most; a scheme, a port and a transport come on top.
_MAX_SERVER: Final = 300


@dataclass(frozen=True, slots=True)
class Coordinator:
    """A node that coordinates: name, static key, and `HOST:PORT` where its tunnel listens."""

    name: str
    key: PublicKey
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """A network as its nodes know it. Raises RecordError for what cannot be one.

    `validity` is a certificate's life in seconds. With `approval` an operator lets each node in.
    `stun` are `HOST:PORT`, `turn` are URIs (RFC 7065), their credentials are given to each node.
    """

    id: bytes
    domain: str
    range4: Prefix
    range6: Prefix
    validity: int = VALIDITY
    approval: bool = False
    stun: tuple[str, ...] = ()
    turn: tuple[str, ...] = ()
    coordinators: tuple[Coordinator, ...] = ()

    def __post_init__(self) -> None:
        if len(self.id) != NETWORK_LENGTH:
            raise RecordError(f"a network's id is {NETWORK_LENGTH} bytes")
        fields.name(self.domain, "the domain")
        try:
            check_ranges(self.range4, self.range6)
        except AddressError as error:
            raise RecordError(str(error)) from None
        fields.number(self.validity, LEAST_VALIDITY, MOST_VALIDITY, "the validity, in seconds,")
        fields.each(list(self.stun), MAX_STUN, "stun", _stun)
        fields.each(list(self.turn), MAX_TURN, "turn", _turn)
        for coordinator in self.coordinators:
            if not is_under(coordinator.name, self.domain):
                raise RecordError(f"the coordinator {coordinator.name} is not in {self.domain}")
            fields.each(list(coordinator.endpoints), MAX_ENDPOINTS, "endpoints", _stun)
        fields.items(list(self.coordinators), MAX_COORDINATORS, "coordinators")
        for what in ("name", "key"):
            if len({getattr(x, what) for x in self.coordinators}) != len(self.coordinators):
                raise RecordError(f"two coordinators have one {what}")


def is_under(name: str, domain: str) -> bool:
    """Whether a name is one of a node's in a domain: labels before it."""
    return name.endswith(f".{domain}")


def settings_to_json(settings: NetworkSettings) -> dict[str, Any]:
    """The JSON object that `settings_from_json` reads."""
    return {
        "id": settings.id.hex(),
        "domain": settings.domain,
        "range4": str(settings.range4),
        "range6": str(settings.range6),
        "validity": settings.validity,
        "approval": settings.approval,
        "stun": list(settings.stun),
        "turn": list(settings.turn),
        "coordinators": [
            {"name": x.name, "key": x.key.base64(), "endpoints": list(x.endpoints)}
            for x in settings.coordinators
        ],
    }


_MEMBERS: Final = frozenset(NetworkSettings.__dataclass_fields__)


def settings_from_json(value: object) -> NetworkSettings:
    """Read the JSON form, strictly. Raises RecordError."""
    found = fields.members(value, _MEMBERS, "the network")
    return NetworkSettings(
        id=fields.network_id(found["id"], "id"),
        domain=fields.name(found["domain"], "domain"),
        range4=fields.prefix(found["range4"], "range4"),
        range6=fields.prefix(found["range6"], "range6"),
        validity=fields.number(found["validity"], LEAST_VALIDITY, MOST_VALIDITY, "validity"),
        approval=fields.flag(found["approval"], "approval"),
        stun=fields.each(found["stun"], MAX_STUN, "stun", _stun),
        turn=fields.each(found["turn"], MAX_TURN, "turn", _turn),
        coordinators=fields.each(
            found["coordinators"], MAX_COORDINATORS, "coordinators", _coordinator
        ),
    )


def _coordinator(value: object, what: str) -> Coordinator:
    found = fields.members(value, ("name", "key", "endpoints"), what)
    return Coordinator(
        name=fields.name(found["name"], "a coordinator's name"),
        key=fields.key(found["key"], "a coordinator's key"),
        endpoints=fields.each(found["endpoints"], MAX_ENDPOINTS, "endpoints", _stun),
    )


def _stun(value: object, what: str) -> str:
    written = fields.text(value, _MAX_SERVER, what)
    try:
        parse_stun_server(written)
    except ValueError as error:
        raise RecordError(f"{what}: {error}") from None
    return written


def _turn(value: object, what: str) -> str:
    written = fields.text(value, _MAX_SERVER, what)
    try:
        parse_turn_uri(written)
    except ValueError as error:
        raise RecordError(f"{what}: {error}") from None
    return written
