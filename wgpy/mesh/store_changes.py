"""What has changed since a revision, in pages: how coordinators and nodes follow a network."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from wgpy.mesh import store_rows
from wgpy.mesh.records import NodeRecord, NodeState, Revocation
from wgpy.mesh.settings import NetworkSettings
from wgpy.mesh.store_schema import CRL, NETWORK, NODE, REVOCATION
from wgpy.mesh.store_work import NoNetwork, check_version, read_settings

# A record is a kilobyte, so a page is half a megabyte; a network of a few hundred comes in one.
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Changes:
    """One page. `revision` is what to ask from next; `more` says to ask at once.

    With `reset` the page begins from nothing, because the revision that was asked for is none of
    this store's, or from before a copy was put back: whatever was known is to be forgotten.
    `settings` are None if they are as before. `crl` has the issuers whose list is a new one, each
    with its number. Before the revision `floor` a copy was put back: who is that old begins afresh.
    """

    revision: int
    nodes: tuple[NodeRecord, ...]
    revocations: tuple[Revocation, ...]
    settings: NetworkSettings | None
    crl: tuple[tuple[bytes, int], ...]
    more: bool
    reset: bool
    floor: int = 0


def changes(connection: Connection, since: int, now: float, limit: int) -> Changes:
    """Nodes and revocations with revisions after `since`, the lowest first, at most `limit`.

    From 0 on, what is history is left out: removed nodes, and revocations that are of no use.
    """
    check_version(connection)
    network = connection.execute(select(NETWORK)).one_or_none()
    if network is None:
        raise NoNetwork
    # What changes while this reads has a later revision, and comes with the next page.
    head = int(network.revision)
    reset = since > head or 0 < since < network.floor
    if reset:
        since = 0
    settings = read_settings(network.settings)
    nodes = select(NODE).where(NODE.c.revision > since, NODE.c.revision <= head)
    revoked = select(REVOCATION).where(REVOCATION.c.revision > since, REVOCATION.c.revision <= head)
    if since == 0:
        nodes = nodes.where(NODE.c.state != NodeState.REMOVED.value)
        revoked = revoked.where(REVOCATION.c.until >= now)
    found: list[NodeRecord | Revocation] = [
        *(
            store_rows.node(row, settings)
            for row in connection.execute(nodes.order_by(NODE.c.revision).limit(limit + 1))
        ),
        *(
            store_rows.revocation(row)
            for row in connection.execute(revoked.order_by(REVOCATION.c.revision).limit(limit + 1))
        ),
    ]
    found.sort(key=lambda x: x.revision)
    more = len(found) > limit
    found = found[:limit]
    upto = found[-1].revision if more else head
    lists = connection.execute(
        select(CRL.c.issuer, CRL.c.number).where(CRL.c.revision > since, CRL.c.revision <= upto)
    )
    return Changes(
        revision=upto,
        nodes=tuple(x for x in found if isinstance(x, NodeRecord)),
        revocations=tuple(x for x in found if isinstance(x, Revocation)),
        settings=settings if since < network.settings_revision <= upto else None,
        crl=tuple((bytes(row.issuer), int(row.number)) for row in lists),
        more=more,
        reset=reset,
        floor=int(network.floor),
    )
