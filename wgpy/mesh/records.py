"""What is kept of each node, each invitation and each revocation; immutable, with JSON forms.

Times are seconds of the wall clock since 1970. A `revision` says when something last changed: the
network counts its changes, and no two have one number.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from wgpy.identity.profile import MAX_ADDRESSES, MAX_GENERATION
from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.mesh import fields
from wgpy.mesh.fields import MAX_CERTIFICATE, MAX_JTI, MAX_NUMBER, RecordError

# An invitation for a whole company is still a line that somebody has to keep to himself.
MAX_USES: Final = 1_000
_FINGERPRINT: Final = 32
# 20 bytes at the most (RFC 5280 section 4.1.2.2), in hexadecimal.
_MAX_SERIAL: Final = 40


class NodeState(Enum):
    """Where a node stands."""

    PENDING = "pending"  # it has a name and addresses, and waits for an operator
    ACTIVE = "active"  # it was issued a certificate
    REMOVED = "removed"  # it left, or was removed: its key never comes in again


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node. `groups` and `routes` are what it may have, and its next certificate will say.

    `offers` are the prefixes that it would route; those of `routes` an operator has approved.
    `generation` is that of the certificate, 0 without one; `expires` is the certificate's end.
    """

    name: str
    key: PublicKey
    addresses: tuple[Prefix, ...]
    state: NodeState
    groups: tuple[str, ...] = ()
    routes: tuple[Prefix, ...] = ()
    offers: tuple[Prefix, ...] = ()
    generation: int = 0
    certificate: bytes | None = field(default=None, repr=False)  # DER
    created: float = 0.0
    last_seen: float | None = None
    expires: float | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class InviteRecord:
    """An invitation: who has its token may enrol, `uses` static keys until `expires`.

    `name` is the one that the node will have; None lets it choose.
    """

    jti: str
    expires: float
    name: str | None = None
    groups: tuple[str, ...] = ()
    uses: int = 1
    used: int = 0
    created: float = 0.0
    revoked: bool = False


class RevocationKind(Enum):
    """What is revoked."""

    KEY = "key"  # a static key, whatever certificate it shows
    SERIAL = "serial"  # one certificate
    NAME = "name"  # every certificate of a name up to a generation


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation, in force from `at`, and pointless after `until`, when nothing is valid.

    `value` is a key in base64, a serial number in hexadecimal, or a name. `issuer` goes with a
    serial number: the identifier of the key that signed, as the certificate names it.
    """

    kind: RevocationKind
    value: str
    at: float
    until: float
    generation: int = 0
    issuer: bytes = b""
    revision: int = 0


def node_to_json(node: NodeRecord) -> dict[str, Any]:
    """The JSON object that `node_from_json` reads."""
    certificate = node.certificate
    return {
        "name": node.name,
        "key": node.key.base64(),
        "addresses": fields.texts(node.addresses),
        "state": node.state.value,
        "groups": list(node.groups),
        "routes": fields.texts(node.routes),
        "offers": fields.texts(node.offers),
        "generation": node.generation,
        "certificate": None if certificate is None else fields.octets_text(certificate),
        "created": node.created,
        "last_seen": node.last_seen,
        "expires": node.expires,
        "revision": node.revision,
    }


_NODE: Final = frozenset(NodeRecord.__dataclass_fields__)


def node_from_json(value: object) -> NodeRecord:
    """Read the JSON form, strictly. Raises RecordError. Certificates are not looked into."""
    found = fields.members(value, _NODE, "the node")
    certificate = found["certificate"]
    return NodeRecord(
        name=fields.name(found["name"], "name"),
        key=fields.key(found["key"], "key"),
        addresses=fields.each(found["addresses"], MAX_ADDRESSES, "addresses", _address),
        state=_state(found["state"]),
        groups=fields.groups(found["groups"], "groups"),
        routes=fields.prefixes(found["routes"], "routes"),
        offers=fields.prefixes(found["offers"], "offers"),
        generation=fields.number(found["generation"], 0, MAX_GENERATION, "generation"),
        certificate=None
        if certificate is None
        else fields.octets(certificate, MAX_CERTIFICATE, "certificate"),
        created=fields.time(found["created"], "created"),
        last_seen=fields.optional(found["last_seen"], "last_seen", fields.time),
        expires=fields.optional(found["expires"], "expires", fields.time),
        revision=fields.number(found["revision"], 0, MAX_NUMBER, "revision"),
    )


def invite_to_json(invite: InviteRecord) -> dict[str, Any]:
    """The JSON object that `invite_from_json` reads."""
    return {
        "jti": invite.jti,
        "expires": invite.expires,
        "name": invite.name,
        "groups": list(invite.groups),
        "uses": invite.uses,
        "used": invite.used,
        "created": invite.created,
        "revoked": invite.revoked,
    }


_INVITE: Final = frozenset(InviteRecord.__dataclass_fields__)


def invite_from_json(value: object) -> InviteRecord:
    """Read the JSON form, strictly. Raises RecordError."""
    found = fields.members(value, _INVITE, "the invitation")
    uses = fields.number(found["uses"], 1, MAX_USES, "uses")
    return InviteRecord(
        jti=fields.text(found["jti"], MAX_JTI, "jti"),
        expires=fields.time(found["expires"], "expires"),
        name=fields.optional(found["name"], "name", fields.name),
        groups=fields.groups(found["groups"], "groups"),
        uses=uses,
        used=fields.number(found["used"], 0, uses, "used"),
        created=fields.time(found["created"], "created"),
        revoked=fields.flag(found["revoked"], "revoked"),
    )


def revocation_to_json(revocation: Revocation) -> dict[str, Any]:
    """The JSON object that `revocation_from_json` reads."""
    return {
        "kind": revocation.kind.value,
        "value": revocation.value,
        "at": revocation.at,
        "until": revocation.until,
        "generation": revocation.generation,
        "issuer": revocation.issuer.hex(),
        "revision": revocation.revision,
    }


_REVOCATION: Final = frozenset(Revocation.__dataclass_fields__)


def revocation_from_json(value: object) -> Revocation:
    """Read the JSON form, strictly. Raises RecordError."""
    found = fields.members(value, _REVOCATION, "the revocation")
    kind = found["kind"]
    if kind == RevocationKind.KEY.value:
        written = fields.key(found["value"], "value").base64()
    elif kind == RevocationKind.NAME.value:
        written = fields.name(found["value"], "value")
    elif kind == RevocationKind.SERIAL.value:
        written = _hexadecimal(found["value"], _MAX_SERIAL, "value")
    else:
        raise RecordError("kind is none of key, serial and name")
    serial = kind == RevocationKind.SERIAL.value
    issuer = _hexadecimal(found["issuer"], 2 * _FINGERPRINT, "issuer") if serial else ""
    if found["issuer"] != issuer:
        raise RecordError("issuer goes with a serial number only")
    named = kind == RevocationKind.NAME.value
    return Revocation(
        kind=RevocationKind(kind),
        value=written,
        at=fields.time(found["at"], "at"),
        until=fields.time(found["until"], "until"),
        generation=fields.number(
            found["generation"], 0, MAX_GENERATION if named else 0, "generation"
        ),
        issuer=bytes.fromhex(issuer),
        revision=fields.number(found["revision"], 0, MAX_NUMBER, "revision"),
    )


def _address(value: object, what: str) -> Prefix:
    found = fields.prefix(value, what)
    if found.length != 8 * len(found.address):
        raise RecordError(f"{what} has what is no whole address")
    return found


def _state(value: object) -> NodeState:
    try:
        return NodeState(value)
    except ValueError:
        raise RecordError("state is none of pending, active and removed") from None


def _hexadecimal(value: object, most: int, what: str) -> str:
    written = fields.text(value, most, what)
    if len(written) % 2 or not set(written) <= set("0123456789abcdef"):
        raise RecordError(f"{what} is not whole bytes in lower-case hexadecimal")
    return written
