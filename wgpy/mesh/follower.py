"""Turns to coordinators, one at a time: joins, then follows the network for as long as it lives.

When one is lost, the next one's turn comes (contacts.py); meanwhile everything goes on as it was
last known. What is said to a coordinator is in connection.py.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

from wgpy.ip import address_text
from wgpy.keys import KeyFormatError
from wgpy.mesh import auth, events, wire
from wgpy.mesh.applier import Applier
from wgpy.mesh.client import ApiError, Client, RefusedError
from wgpy.mesh.connection import Connection
from wgpy.mesh.contacts import Attempt, Contacts, Whom
from wgpy.mesh.enrol import REMOVED, EndedError, enrol
from wgpy.mesh.line import LineError
from wgpy.mesh.member import Member, MemberError
from wgpy.mesh.renewal import Renewal
from wgpy.mesh.signals import Signals
from wgpy.mesh.tunnel import Tunnel, TunnelError

_log = logging.getLogger(__name__)

# Without a word of a coordinator for so long, a person may want to know.
_TELL_AFTER: Final = 3


class State(Enum):
    """Where a node stands, for a person."""

    JOINING = "joining"
    PENDING = "pending"
    CONNECTED = "connected"
    ALONE = "alone"
    REMOVED = "removed"


class Follower:
    """The node's way to its coordinators. `clock` never goes back; `wall` is that of papers."""

    def __init__(
        self,
        member: Member,
        applier: Applier,
        tunnel: Tunnel,
        signals: Signals,
        chance: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        port: int = wire.PORT,
    ) -> None:
        self.member = member
        self.state = State.JOINING if member.papers is None else State.ALONE
        # Why it is not connected, or never will be.
        self.reason = member.membership.ended or ""
        self.since: float | None = None
        self.connection: Connection | None = None
        self.contacts = Contacts(member.public, chance)
        self.renewal = Renewal(chance)
        self.signals = signals
        self._applier = applier
        self._tunnel = tunnel
        self._clock = clock
        self._wall = wall
        self._port = port
        self._hurry = asyncio.Event()
        self._failures = 0
        # Of the certificate whose end was told.
        self._over = ""
        if member.papers is not None:
            claims = member.papers.claims
            self.renewal.issued(claims.not_before, claims.not_after)

    @property
    def current(self) -> Whom | None:
        """The coordinator that we are connected to."""
        attempt = self._applier.attempt
        return attempt.whom if attempt is not None and self.state is State.CONNECTED else None

    def hurry(self) -> None:
        """Wait no more: the network is another one, or somebody asks."""
        self.contacts.again()
        self._hurry.set()

    async def run(self) -> None:
        """Until this node is removed, or cannot join: then `reason` says why."""
        while self.member.membership.ended is None:
            self.contacts.set(self.member.whom())
            await self._wait()
            attempt = self.contacts.current
            if attempt is None:
                self.contacts.lost(self._clock())
                continue
            try:
                await self._turn_to(attempt)
            except (ApiError, MemberError, TunnelError) as error:
                if isinstance(error, RefusedError) and error.word == REMOVED:
                    _log.error("%s", events.removed())
                    self.member.end(str(error))
                self._lost(attempt, str(error))
            except OSError as error:
                # A full disk: what we are given is worth nothing before it is kept.
                self._lost(attempt, error.strerror or str(error))
        self.state = State.REMOVED if self.member.papers is not None else State.JOINING
        self.reason = self.member.membership.ended or ""

    async def _wait(self) -> None:
        pause = self.contacts.next_at() - self._clock()
        if pause > 0:
            with contextlib.suppress(TimeoutError):  # which is what was waited for
                async with asyncio.timeout(pause):
                    await self._hurry.wait()
        self._hurry.clear()

    def _lost(self, attempt: Attempt, why: str) -> None:
        was_connected = self.state is State.CONNECTED
        self.reason = why
        self.contacts.lost(self._clock())
        self._failures += 1
        self._applier.is_connected = False
        if self.member.papers is None:
            return
        self.state = State.ALONE
        if was_connected:
            self.since = None
            _log.warning("%s", events.coordinator_away(_called(attempt.whom), why))
        claims = self.member.papers.claims
        if self._failures == max(_TELL_AFTER, len(self.contacts.all)):
            _log.warning("%s", events.alone(claims.not_after))
        if self._wall() > claims.not_after and self._over != claims.serial:
            self._over = claims.serial
            _log.error("%s", events.certificate_ended(claims.name))

    async def _turn_to(self, attempt: Attempt) -> None:
        """Be its client until it is lost. Raises ApiError, MemberError, TunnelError."""
        self._applier.attempt = attempt
        self._applier.is_connected = False
        await self._applier.apply()
        is_own = attempt.whom.key == self.member.public
        address = next((x for x in attempt.whom.addresses if len(x) == 16), None)
        try:
            client = Client(
                self.member.key,
                attempt.whom.key,
                address or attempt.whom.addresses[0],
                link=None if is_own else self.member.place.interface,
                wall=self._wall,
                port=self._port,
            )
        except KeyFormatError as error:
            raise ApiError(str(error)) from None
        async with client:
            if self.member.papers is None:
                await self._join(client)
            else:
                await self._follow(client, attempt)

    # --- Joining ---

    async def _join(self, client: Client) -> None:
        """Ask until we are let in, or never will be."""
        member = self.member
        try:
            joined = await enrol(
                client,
                socket.gethostname(),
                member.membership.wanted,
                member.line().enrolment.not_after,
                self._wall,
                self._waiting,
            )
        except (EndedError, LineError) as error:
            _log.error("%s", events.join_refused(str(error)))
            member.end(str(error))
            return
        member.take_joined(joined, self._wall())
        assert member.papers is not None
        claims = member.papers.claims
        self.renewal.issued(claims.not_before, claims.not_after)
        self.state = State.ALONE
        at = [address_text(x.address) for x in claims.addresses]
        _log.info("%s", events.joined(claims.name, at, claims.not_after))

    def _waiting(self) -> None:
        if self.state is not State.PENDING:
            _log.info("%s", events.pending(self.member.name))
        self.state = State.PENDING

    # --- Following ---

    async def _follow(self, client: Client, attempt: Attempt) -> None:
        connection = Connection(
            client,
            self.member,
            self._applier,
            self._tunnel,
            self.signals,
            self.renewal,
            clock=self._clock,
            wall=self._wall,
        )
        await connection.open()
        # The certificate let us in: the daemon has no more use for a token.
        self.member.place.set_token(None)
        self.contacts.connected(self._clock())
        self._failures = 0
        self._applier.is_connected = True
        self.connection = connection
        self.state, self.reason, self.since = State.CONNECTED, "", self._wall()
        _log.info("%s", events.coordinator_back(_called(attempt.whom)))
        if client.ahead is not None and abs(client.ahead) > auth.WINDOW:
            _log.warning("%s", events.wrong_clock(-client.ahead))
        try:
            await connection.run()
        finally:
            self.connection = None
            await connection.close()


def _called(whom: Whom) -> str:
    return whom.name or events.short_key(whom.key.base64())
