"""Who is in the network, what they offer to route, and who reaches whom."""

import logging
import re
from typing import Final

from wgpy.mesh import events, wire
from wgpy.mesh.callers import Caller
from wgpy.mesh.desk import Desk, Refuse
from wgpy.mesh.fields import texts
from wgpy.mesh.messages import Done, Map, MapNode, OfferRequest, Report
from wgpy.mesh.roll import of_changes, view
from wgpy.mesh.wire import MAX_MAP_NODES

_log = logging.getLogger(__name__)

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")


async def directory(
    desk: Desk, _caller: Caller, query: dict[str, str], _body: bytes
) -> tuple[int, bytes]:
    """GET /v1/directory?since=N: one page of what changed after that revision, 0 for all."""
    text = query.get("since", "0")
    if set(query) - {"since"} or not _NUMBER.fullmatch(text):
        raise Refuse(400, "malformed", "since is a revision, a whole number")
    since = int(text)
    if desk.roll.knows(since):
        return 200, desk.roll.page(since, desk.wall())
    desk.counters["directory_from_store"] += 1
    return 200, await desk.call(_from_store, desk, since)


def _from_store(desk: Desk, since: int) -> bytes:
    """The same for a revision that another coordinator has told, or one of before a copy."""
    changes = desk.store.changes(since, desk.wall(), wire.MAX_PAGE)
    settings = changes.settings or desk.store.settings()
    lists = [found[1] for x, _ in changes.crl if (found := desk.store.last_list(x)) is not None]
    return wire.encode(of_changes(changes, since, settings, lists[: wire.MAX_LISTS]))


async def offer(
    desk: Desk, caller: Caller, _query: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """POST /v1/offer: what the node would route, for an operator to approve."""
    asked = wire.decode(OfferRequest, body)
    node = await desk.call(desk.store.offer, caller.key, asked.offers)
    _log.info("%s", events.offered(node.name, texts(node.offers)))
    return 200, wire.encode(view(node, desk.settings))


async def report(
    desk: Desk, caller: Caller, _query: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """POST /v1/report: how the node reaches others."""
    desk.reports.take(caller.key, wire.decode(Report, body), desk.wall())
    return 200, wire.encode(Done())


async def map_(
    desk: Desk, _caller: Caller, _query: dict[str, str], _body: bytes
) -> tuple[int, bytes]:
    """GET /v1/map: who reaches whom, as they say."""
    return 200, wire.encode(the_map(desk))


def the_map(desk: Desk) -> Map:
    """Who is in the network, and who reaches whom."""
    return Map(
        nodes=tuple(
            MapNode(x.name, x.key, x.key in desk.hub) for x in desk.roll.nodes()[:MAX_MAP_NODES]
        ),
        paths=desk.reports.paths(desk.wall()),
    )
