"""What helps two nodes to find each other: sealed signals passed on, and relays' credentials."""

import base64
import hmac
from typing import Final

from wgpy.keys import PublicKey
from wgpy.mesh import wire
from wgpy.mesh.callers import Caller
from wgpy.mesh.desk import Desk, Refuse, refusal_of
from wgpy.mesh.messages import (
    Passed,
    SignalAnswer,
    Signalled,
    SignalRequest,
    TurnCredentials,
)
from wgpy.mesh.records import NodeState
from wgpy.mesh.wire import WireError

# Seconds: a working day, so that a relayed session outlives a coordinator that is away for a while.
TURN_SECONDS: Final = 12 * 3_600


async def signal(
    desk: Desk, caller: Caller, _query: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """POST /v1/signal: 353 bytes for another node, which only that one can open."""
    asked = wire.decode(SignalRequest, body)
    if not desk.signal_rate.allow(caller.key, desk.clock()):
        raise Refuse(429, "rate", "too many signals: send fewer")
    return 200, wire.encode(SignalAnswer(await pass_on(desk, caller.key, asked)))


async def pass_on(desk: Desk, sender: PublicKey, asked: SignalRequest) -> bool:
    """Give a signal to its node here, or to the other coordinators; False if nobody can have it."""
    node = desk.roll.node(asked.to)
    if node is None or node.state is not NodeState.ACTIVE:
        return False
    event = wire.encode_event(Signalled(sender, asked.data))
    if desk.hub.signal(asked.to, event):
        return True
    if asked.to in desk.hub or len(desk.settings.coordinators) < 2:
        return False
    passed = Passed(desk.origin, asked.to, sender, asked.data)
    try:
        posted = await desk.call(desk.store.post, wire.encode(passed).decode())
    except Exception as error:
        # A signal may be lost, and is sent again.
        if refusal_of(error) is None:
            raise
        desk.counters["signals_not_posted"] += 1
        return False
    desk.counters["signals_posted"] += posted
    return posted


def take_post(desk: Desk, text: str) -> None:
    """What some coordinator has posted: a signal, perhaps for a node that is connected here."""
    try:
        found = wire.decode(Passed, text.encode())
    except WireError:
        desk.counters["posts_malformed"] += 1
        return
    if found.origin == desk.origin:
        return
    if desk.hub.signal(found.to, wire.encode_event(Signalled(found.sender, found.data))):
        desk.counters["signals_taken"] += 1


async def turn(
    desk: Desk, caller: Caller, _query: dict[str, str], _body: bytes
) -> tuple[int, bytes]:
    """GET /v1/turn: what opens a relay for some hours.

    As in draft-uberti-behave-turn-rest: the username is EXPIRY:NAME, the password its HMAC-SHA1
    under a secret that only coordinators and relays have.
    """
    secret = await desk.call(desk.store.turn_secret)
    uris = desk.settings.turn
    if not secret or not uris:
        raise Refuse(404, "no-relay", "this network has no relay")
    node = caller.node
    assert node is not None, "the server lets only nodes come here"
    expires = int(desk.wall()) + TURN_SECONDS
    username = f"{expires}:{node.name}"
    digest = hmac.digest(secret.encode(), username.encode(), "sha1")
    password = base64.b64encode(digest).decode("ascii")
    return 200, wire.encode(TurnCredentials(username, password, float(expires), uris))
