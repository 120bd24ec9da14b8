"""Revocations of a network: what removing a node revokes, what is in force, and the lists (CRL)."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from wgpy.mesh import store_rows
from wgpy.mesh.records import NodeRecord, Revocation, RevocationKind
from wgpy.mesh.store_schema import CERTIFICATE, CRL, REVOCATION
from wgpy.mesh.store_work import Work

# After its end a revocation says nothing that a certificate's own end does not; it is kept for who
# looks back, and for nodes that were away.
KEEP_SECONDS: Final = 90 * 86_400.0
# The newest certificates of a node that are revoked by serial number, for verifiers that know
# nothing else. Its key and its name are revoked too, which is what counts among nodes.
MAX_SERIALS: Final = 16

# Signs a list: its number, and what is in force. As `Issue`, inside the transaction.
SignList = Callable[[int, Sequence[Revocation]], bytes]


def revoke_node(work: Work, node: NodeRecord, now: float) -> float | None:
    """Revoke by key, by serial number, and by name up to its generation.

    Returns when the last certificate of the name ends, or None where none is valid.
    """
    connection = work.connection
    connection.execute(delete(REVOCATION).where(REVOCATION.c.until < now - KEEP_SECONDS))
    valid = connection.execute(
        select(CERTIFICATE)
        .where(CERTIFICATE.c.name == node.name, CERTIFICATE.c.not_after >= now)
        .order_by(CERTIFICATE.c.generation.desc())
    ).all()
    if not valid:
        return None
    until = float(max(x.not_after for x in valid))
    _revoke(work, RevocationKind.KEY, node.key.base64(), b"", 0, now, until)
    _revoke(work, RevocationKind.NAME, node.name, b"", node.generation, now, until)
    for row in valid[:MAX_SERIALS]:
        if row.key == bytes(node.key):
            _revoke(work, RevocationKind.SERIAL, row.serial, row.issuer, 0, now, row.not_after)
    return until


def _revoke(
    work: Work,
    kind: RevocationKind,
    value: str,
    issuer: bytes,
    generation: int,
    at: float,
    until: float,
) -> None:
    """Write one down; a name that was revoked before is now revoked further."""
    values: dict[str, Any] = {
        "generation": generation,
        "at": at,
        "until": until,
        "revision": work.revise(),
    }
    where = (
        (REVOCATION.c.kind == kind.value)
        & (REVOCATION.c.value == value)
        & (REVOCATION.c.issuer == issuer)
    )
    if work.connection.execute(select(REVOCATION.c.at).where(where)).first() is not None:
        work.connection.execute(update(REVOCATION).where(where).values(values))
    else:
        key = {"kind": kind.value, "value": value, "issuer": issuer}
        work.connection.execute(insert(REVOCATION).values({**key, **values}))


def in_force(connection: Connection, now: float) -> tuple[Revocation, ...]:
    """Every revocation that is of use, the oldest first."""
    rows = connection.execute(
        select(REVOCATION).where(REVOCATION.c.until >= now).order_by(REVOCATION.c.revision)
    )
    return tuple(store_rows.revocation(row) for row in rows)


def sign_list(work: Work, issuer: bytes, now: float, sign: SignList) -> tuple[int, bytes]:
    """An issuer's next list; its number is one more than that of the last."""
    connection = work.connection
    revocations = [x for x in in_force(connection, now) if x.issuer in (b"", issuer)]
    number = connection.execute(
        select(CRL.c.number).where(CRL.c.issuer == issuer)
    ).scalar_one_or_none()
    if number is None:
        connection.execute(insert(CRL).values(issuer=issuer, number=0, der=None, revision=0))
        number = 0
    number = int(number) + 1
    der = sign(number, revocations)
    connection.execute(
        update(CRL)
        .where(CRL.c.issuer == issuer)
        .values(number=number, der=der, revision=work.revise())
    )
    return number, der


def last_list(connection: Connection, issuer: bytes) -> tuple[int, bytes] | None:
    """An issuer's last list: its number and its DER."""
    row = connection.execute(select(CRL).where(CRL.c.issuer == issuer)).one_or_none()
    return None if row is None or row.der is None else (int(row.number), bytes(row.der))
