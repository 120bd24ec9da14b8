"""A machine comes in, renews its certificate, and leaves."""

import logging
import secrets
from typing import Final

from wgpy.identity.profile import is_name
from wgpy.mesh import events, wire
from wgpy.mesh.callers import Caller
from wgpy.mesh.desk import Desk, Refuse, refusal_of
from wgpy.mesh.messages import Done, EnrolRequest, Joined, RenewRequest, Waiting
from wgpy.mesh.records import NodeRecord, NodeState
from wgpy.mesh.roll import view
from wgpy.mesh.store import Enrolment, Refusal, Refused
from wgpy.mesh.wire import WireError

_log = logging.getLogger(__name__)

# Names that are tried for a machine that has none of its own: `laptop`, `laptop-2` and so on.
_TRIES: Final = 8
_SPREAD: Final = 100
_MAX_LABEL: Final = 63
# What a machine is called whose host name has no letter that a name may have.
_NAMELESS: Final = "node"


async def enrol(
    desk: Desk, caller: Caller, _query: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """POST /v1/enrol, from quarantine: by the token that the session was opened with."""
    asked = wire.decode(EnrolRequest, body)
    assert caller.jti is not None, "the server lets only those in quarantine come here"
    wanted = asked.name
    if wanted is not None and "." not in wanted:
        wanted = f"{wanted}.{desk.settings.domain}"
    key, jti = caller.key.base64(), caller.jti
    try:
        node = await _enrolled(desk, caller, asked.hostname, wanted)
    except Refused as refused:
        if refused.reason is Refusal.NAME_TAKEN:
            _log.info("%s", events.name_taken(wanted or caller.name, key))
        else:
            _log.info("%s", events.enrol_refused(str(refused), key))
        raise
    desk.counters["enrolled"] += 1
    if node.state is NodeState.PENDING:
        _log.info("%s", events.node_waits(node.name, key, jti))
        return 202, wire.encode(Waiting())
    desk.remember(node)
    _log.info("%s", events.node_enrolled(node.name, key, jti))
    return 200, joined(desk, node)


async def _enrolled(desk: Desk, caller: Caller, hostname: str, wanted: str | None) -> NodeRecord:
    """The node, with the name that it asks for, its token's, or one like its host name."""
    assert caller.jti is not None, "as above"
    known = desk.roll.node(caller.key)
    if wanted is not None or caller.name or known is not None:
        # A key that is known keeps its name, and one that its token names has that.
        return await _try(desk, Enrolment(caller.jti, caller.key, wanted))
    number = 1
    for attempt in range(_TRIES):
        name = _like(hostname, number, desk.settings.domain)
        while desk.roll.named(name) is not None:
            number += 1
            name = _like(hostname, number, desk.settings.domain)
        try:
            return await _try(desk, Enrolment(caller.jti, caller.key, name))
        except Refused as refused:
            if refused.reason is Refusal.KEY_IN_USE:
                # It has enrolled before, and our roll has yet to hear of it.
                return await _try(desk, Enrolment(caller.jti, caller.key, None))
            if refused.reason is not Refusal.NAME_TAKEN:
                raise
        # A roomful of machines of one name, all at once: they get out of each other's way.
        number += 1 if attempt < _TRIES // 2 else 1 + secrets.randbelow(_SPREAD)
    raise Refuse(409, "name-taken", f"many machines are called {hostname}: choose a name")


async def _try(desk: Desk, request: Enrolment) -> NodeRecord:
    return await desk.call(desk.store.enrol, request, desk.wall(), desk.issue)


def _like(hostname: str, number: int, domain: str) -> str:
    """A name in the domain that is like a host name; later ones have a number."""
    label = hostname.partition(".")[0].lower()
    label = "".join(x if x.isascii() and x.isalnum() else "-" for x in label).strip("-")
    end = "" if number == 1 else f"-{number}"
    label = label[: _MAX_LABEL - len(end)].strip("-") or _NAMELESS
    name = f"{label}{end}.{domain}"
    return name if is_name(name) else f"{_NAMELESS}{end}.{domain}"


async def renew(
    desk: Desk, caller: Caller, _query: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """POST /v1/renew: the next certificate, for the same key only."""
    asked = wire.decode(RenewRequest, body)
    node = caller.node
    assert node is not None, "the server lets only nodes come here"
    renewed = await desk.call(
        desk.store.renew, node.name, caller.key, desk.wall(), desk.issue, force=asked.force
    )
    if renewed.generation != node.generation and renewed.expires is not None:
        _log.info("%s", events.node_renewed(renewed.name, renewed.expires))
    return 200, joined(desk, renewed)


async def leave(
    desk: Desk, caller: Caller, _query: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """POST /v1/leave: the node is removed, as it asks itself."""
    wire.decode(Done, body)
    left = await desk.call(desk.store.leave, caller.key, desk.wall())
    _log.info("%s", events.node_left(left.name))
    try:
        await desk.sign_list()
    except Exception as error:
        # It has left. Who follows the store sees that a list is missing, and signs it.
        if refusal_of(error) is None:
            raise
        desk.counters["lists_failed"] += 1
    return 200, wire.encode(Done())


def joined(desk: Desk, node: NodeRecord) -> bytes:
    """What a node is given that was let in."""
    if node.certificate is None:
        raise WireError("the node has no certificate")
    return wire.encode(
        Joined(
            certificate=node.certificate,
            intermediates=(desk.issuer.authority.der, *desk.others),
            cas=(desk.issuer.root.der,),
            settings=desk.settings,
            node=view(node, desk.settings),
        )
    )
