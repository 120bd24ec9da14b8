"""Rows of the tables as records, and back."""

import json
from typing import Any

from sqlalchemy import Row

from wgpy.ip import Prefix, parse_prefix
from wgpy.keys import PublicKey
from wgpy.mesh.addresses import addresses_of
from wgpy.mesh.records import InviteRecord, NodeRecord, NodeState, Revocation, RevocationKind
from wgpy.mesh.settings import NetworkSettings


def node(row: Row[Any], settings: NetworkSettings) -> NodeRecord:
    """A row of mesh_node. Its addresses follow from its number."""
    return NodeRecord(
        name=row.name,
        key=PublicKey(row.key),
        addresses=addresses_of(row.number, settings.range4, settings.range6),
        state=NodeState(row.state),
        groups=_texts(row.groups),
        routes=_prefixes(row.routes),
        offers=_prefixes(row.offers),
        generation=row.generation,
        certificate=row.certificate,
        created=row.created,
        last_seen=row.last_seen,
        expires=row.expires,
        revision=row.revision,
    )


def node_values(record: NodeRecord) -> dict[str, Any]:
    """What may change of a node. Its key, name and number never do; touch writes `last_seen`."""
    return {
        "state": record.state.value,
        "groups": json.dumps(record.groups),
        "routes": json.dumps([str(x) for x in record.routes]),
        "offers": json.dumps([str(x) for x in record.offers]),
        "generation": record.generation,
        "certificate": record.certificate,
        "expires": record.expires,
        "revision": record.revision,
    }


def invite(row: Row[Any]) -> InviteRecord:
    """A row of mesh_invite."""
    return InviteRecord(
        jti=row.jti,
        expires=row.expires,
        name=row.name,
        groups=_texts(row.groups),
        uses=row.uses,
        used=row.used,
        created=row.created,
        revoked=bool(row.revoked),
    )


def invite_values(record: InviteRecord) -> dict[str, Any]:
    """A new invitation."""
    return {
        "jti": record.jti,
        "name": record.name,
        "groups": json.dumps(record.groups),
        "uses": record.uses,
        "used": record.used,
        "created": record.created,
        "expires": record.expires,
        "revoked": record.revoked,
    }


def revocation(row: Row[Any]) -> Revocation:
    """A row of mesh_revocation."""
    return Revocation(
        kind=RevocationKind(row.kind),
        value=row.value,
        at=row.at,
        until=row.until,
        generation=row.generation,
        issuer=row.issuer,
        revision=row.revision,
    )


def _texts(written: str) -> tuple[str, ...]:
    return tuple(json.loads(written))


def _prefixes(written: str) -> tuple[Prefix, ...]:
    return tuple(parse_prefix(x) for x in json.loads(written))
