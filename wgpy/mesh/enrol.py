"""Asking to be let in, until we are, or never will be.

The token opened the session, so the request may be lost, and so may the answer: the same key gets
the same answer again, until the token's end. Only some refusals are for ever. The rule is pure;
`enrol` is the shell around it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

from wgpy.mesh.client import Client, RefusedError
from wgpy.mesh.messages import Joined, Waiting

# As often as nodes and coordinators agreed, while an operator has yet to say yes.
PAUSE: Final = 5.0
# Refusals that no patience changes: the name is another's; the token spent, expired or taken back.
_FOR_EVER: Final = frozenset((409, 410))
# And whatever is asked: this key was a node's, and will be none again.
REMOVED: Final = "removed"


class Outcome(Enum):
    """What becomes of one question."""

    JOINED = "joined"
    PENDING = "pending"
    # Another coordinator may say otherwise, or this one later.
    ELSEWHERE = "elsewhere"
    NEVER = "never"


class EndedError(Exception):
    """This node cannot join with what it has: one sentence for a person."""


def outcome(answer: Joined | Waiting | RefusedError) -> Outcome:
    """What an answer means."""
    if isinstance(answer, Joined):
        return Outcome.JOINED
    if isinstance(answer, Waiting):
        return Outcome.PENDING
    never = answer.status in _FOR_EVER or answer.word == REMOVED
    return Outcome.NEVER if never else Outcome.ELSEWHERE


def check_token(ends: float, wall: float, *, pending: bool) -> None:
    """Raise EndedError if it is of no use to ask: no coordinator opens a session for a token that
    has ended, and outside of one there is silence."""
    if wall < ends:
        return
    if pending:
        raise EndedError("the joining line expired before an operator approved: ask for a new one")
    raise EndedError("the joining line has expired: ask for a new one")


async def enrol(
    client: Client,
    hostname: str,
    name: str | None,
    ends: float,
    wall: Callable[[], float],
    waiting: Callable[[], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Joined:
    """Ask one coordinator until it lets us in; `waiting` is called when that is up to an operator.

    `ends` is the token's end. Raises ApiError, and EndedError for what no other one could change.
    """
    pending = False
    while True:
        check_token(ends, wall(), pending=pending)
        try:
            answer = await client.enrol(hostname, name)
        except RefusedError as error:
            if outcome(error) is Outcome.NEVER:
                raise EndedError(str(error)) from None
            raise
        if isinstance(answer, Joined):
            return answer
        pending = True
        waiting()
        await sleep(PAUSE)
