"""What an operator may ask of a coordinator; each answer is a JSON object."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from wgpy.identity.profile import within
from wgpy.identity.signer import Signer
from wgpy.ip import Prefix
from wgpy.mesh import events, fields, invites, wire
from wgpy.mesh.api_directory import the_map
from wgpy.mesh.desk import Desk, Refuse
from wgpy.mesh.fields import RecordError
from wgpy.mesh.records import (
    MAX_USES,
    NodeRecord,
    NodeState,
    invite_to_json,
    node_to_json,
)
from wgpy.mesh.settings import NetworkSettings, settings_from_json, settings_to_json

Asked = dict[str, Any]
Act = Callable[[Desk, Signer, Asked], Awaitable[dict[str, Any]]]

_log = logging.getLogger(__name__)


async def _status(desk: Desk, _key: Signer, asked: Asked) -> dict[str, Any]:
    _finish(asked)
    settings = desk.settings
    return {
        "network": settings.id.hex(),
        "domain": settings.domain,
        "revision": desk.roll.revision,
        "nodes": len(desk.roll.nodes()),
        "connected": len(desk.hub),
        "store": desk.store.place,
        "settings": settings_to_json(settings),
        "issuer": {
            "expires": desk.issuer.authority.not_after,
            "groups": list(_may_give(desk)[0]),
            "routes": fields.texts(_may_give(desk)[1]),
        },
        "counters": desk.shown(),
    }


async def _invite(desk: Desk, key: Signer, asked: Asked) -> dict[str, Any]:
    wanted = fields.optional(asked.pop("name", None), "name", fields.name)
    groups = fields.groups(asked.pop("groups", []), "groups")
    uses = fields.number(asked.pop("uses", 1), 1, MAX_USES, "uses")
    seconds = fields.time(asked.pop("seconds", invites.DEFAULT_SECONDS), "seconds")
    _finish(asked)
    if wanted is not None and uses > 1:
        raise Refuse(400, "uses", "an invitation with a name is for one node, used once")
    made = await desk.call(
        invites.invite,
        desk,
        key,
        name=None if wanted is None else _whole(desk, wanted),
        groups=groups,
        uses=uses,
        seconds=seconds,
    )
    record = made.record
    _log.info("%s", events.invited(record.jti, record.expires, record.uses, record.name))
    return {**invite_to_json(record), "line": made.line}


async def _invites(desk: Desk, _key: Signer, asked: Asked) -> dict[str, Any]:
    _finish(asked)
    found = await desk.call(desk.store.invites)
    return {"invites": [invite_to_json(x) for x in found], "now": desk.wall()}


async def _revoke_invite(desk: Desk, _key: Signer, asked: Asked) -> dict[str, Any]:
    jti = fields.text(asked.pop("jti", None), fields.MAX_JTI, "jti")
    _finish(asked)
    found = await desk.call(desk.store.revoke_invite, jti)
    _log.info("%s", events.invite_revoked(jti))
    return invite_to_json(found)


async def _nodes(desk: Desk, _key: Signer, asked: Asked) -> dict[str, Any]:
    removed = fields.flag(asked.pop("removed", False), "removed")
    _finish(asked)
    found = await desk.call(desk.store.nodes, removed=removed)
    return {"nodes": [_shown(desk, x) for x in found], "now": desk.wall()}


async def _approve(desk: Desk, _key: Signer, asked: Asked) -> dict[str, Any]:
    name = _whole(desk, asked.pop("name", None))
    _finish(asked)
    node = await desk.call(desk.store.approve, name, desk.wall(), desk.issue)
    _log.info("%s", events.node_approved(name))
    return _shown(desk, node)


async def _remove(desk: Desk, _key: Signer, asked: Asked) -> dict[str, Any]:
    name = _whole(desk, asked.pop("name", None))
    _finish(asked)
    node = await desk.call(desk.store.node, name)
    if node is not None and node.key == desk.public:
        raise Refuse(409, "ourselves", f"{name} is this coordinator; let another one remove it")
    node = await desk.call(desk.store.remove, name, desk.wall())
    _log.info("%s", events.node_removed(name))
    await desk.sign_list()
    return _shown(desk, node)


async def _rights(desk: Desk, _key: Signer, asked: Asked) -> dict[str, Any]:
    """What is not said stays; `offers` true approves what the node offers to route."""
    name = _whole(desk, asked.pop("name", None))
    groups = fields.optional(asked.pop("groups", None), "groups", fields.groups)
    routes = fields.optional(asked.pop("routes", None), "routes", fields.prefixes)
    offers = fields.flag(asked.pop("offers", False), "offers")
    _finish(asked)
    node = await desk.call(desk.store.node, name)
    if node is None:
        raise Refuse(404, "unknown-node", f"there is no node {name}")
    groups = node.groups if groups is None else groups
    routes = node.routes if routes is None else routes
    if offers:
        routes = tuple(dict.fromkeys((*routes, *node.offers)))
    invites.check_groups(desk, groups)
    _check_routes(desk, routes)
    node = await desk.call(desk.store.set_rights, name, groups, routes)
    _log.info("%s", events.rights_changed(name, groups, fields.texts(routes)))
    return _shown(desk, node)


async def _settings(desk: Desk, _key: Signer, asked: Asked) -> dict[str, Any]:
    """The settings; those members that are given take the place of what there was."""
    changed = asked.pop("set", None)
    secret = asked.pop("turn_secret", None)
    _finish(asked)
    now: NetworkSettings = await desk.call(desk.store.settings)
    if secret is not None:
        # An empty text takes it away.
        said = fields.text(secret, 512, "turn_secret") if secret else None
        await desk.call(desk.store.set_turn_secret, said)
    if changed is not None:
        if not isinstance(changed, dict):
            raise RecordError("set is no JSON object")
        now = settings_from_json({**settings_to_json(now), **changed})
        await desk.call(desk.store.change_settings, now)
    return settings_to_json(now)


async def _map(desk: Desk, _key: Signer, asked: Asked) -> dict[str, Any]:
    _finish(asked)
    return wire.to_json(the_map(desk))


ACTS: Final[dict[str, Act]] = {
    "status": _status,
    "invite": _invite,
    "invites": _invites,
    "revoke-invite": _revoke_invite,
    "nodes": _nodes,
    "approve": _approve,
    "remove": _remove,
    "rights": _rights,
    "settings": _settings,
    "map": _map,
}


def _finish(asked: Asked) -> None:
    if asked:
        raise RecordError(f"there is no member {next(iter(asked))!r} here")


def _whole(desk: Desk, name: object) -> str:
    """A node's whole name; one label is completed with the domain."""
    found = fields.name(name, "name")
    return found if "." in found else f"{found}.{desk.settings.domain}"


def _shown(desk: Desk, node: NodeRecord) -> dict[str, Any]:
    """A node for an operator: its record, and whether it is connected here."""
    shown = node_to_json(replace(node, certificate=None))
    del shown["certificate"]
    connected = node.state is NodeState.ACTIVE and node.key in desk.hub
    coordinator = any(x.key == node.key for x in desk.settings.coordinators)
    return {**shown, "connected": connected, "coordinator": coordinator}


def _may_give(desk: Desk) -> tuple[tuple[str, ...], tuple[Prefix, ...]]:
    rights = desk.issuer.authority.rights
    return ((), ()) if rights is None else (rights.groups, rights.prefixes)


def _check_routes(desk: Desk, routes: tuple[Prefix, ...]) -> None:
    may = _may_give(desk)[1]
    for route in routes:
        if not within(route, may):
            allowed = ", ".join(map(str, may)) or "none"
            raise Refuse(
                400,
                "route",
                f"the CA may not grant the route {route}; it may: {allowed} (`wgpy mesh init "
                "--routes` says which)",
            )
