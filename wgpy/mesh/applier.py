"""Brings about what the member knows: in the daemon, on the link, in names and routes.

One thing at a time, and always the latest: who changes something says so, and many changes that
come together are one. What fails is said once, and tried again.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

from wgpy.ip import Prefix
from wgpy.mesh import events
from wgpy.mesh.apply import config_of
from wgpy.mesh.contacts import Attempt
from wgpy.mesh.member import Member
from wgpy.mesh.tunnel import Tunnel, TunnelError

_log = logging.getLogger(__name__)

# What a page brings and what follows from it come within this; a revocation is in force in 2 s.
SETTLE: Final = 0.05
# The disk was full, the link was taken: after so long it may be otherwise.
RETRY: Final = 5.0
# How often the link is looked at: it is gone with its daemon.
LOOK: Final = 1.0


class Extras(Protocol):
    """Names and routes of a node, which a tunnel can do without. Raises nothing."""

    def update(self, member: Member, started: bool) -> Mapping[str, tuple[Prefix, ...]]:
        """Bring about names and routes; returns the prefixes that each node may have besides its
        addresses, by its name. `started` says that the link is a new one."""

    def stop(self, *, hold: bool) -> None:
        """Put back what was there before; with `hold` an exit stays closed, for the next agent."""

    def status(self) -> dict[str, object]:
        """`names` and `routes` as they are shown."""


class Applier:
    """Keeps the tunnel of a member as the member says. `attempt` is whom we turn to."""

    def __init__(self, member: Member, tunnel: Tunnel, extras: Extras) -> None:
        self.member = member
        self.attempt: Attempt | None = None
        self.is_connected = False
        # What stands in the way now, one line; "" for nothing.
        self.problem = ""
        self.remarks: tuple[str, ...] = ()
        self._tunnel = tunnel
        self._extras = extras
        # Whether there was a tunnel before, of this run.
        self._brought = False
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()

    def wake(self) -> None:
        """Something has changed."""
        self._wake.set()

    async def apply(self) -> None:
        """Bring it about now. Raises TunnelError."""
        async with self._lock:
            self._wake.clear()
            started = await self._bring()
            routed = await asyncio.to_thread(self._extras.update, self.member, started)
            if dict(routed) != self.member.routed:
                self.member.routed = dict(routed)
                await self._bring()

    async def _bring(self) -> bool:
        member = self.member
        wanted, shape = member.wanted(self.attempt, is_connected=self.is_connected)
        config = config_of(wanted, member.place)
        done = await asyncio.to_thread(self._tunnel.bring, config, shape, member.port)
        try:
            member.listens(done.state.listen_port)
        except OSError as error:
            _log.debug("the port cannot be kept: %s", error.strerror)
        if done.started and self._brought:
            _log.warning("%s", events.tunnel_restarted(member.place.interface))
        self._brought = True
        if done.remarks != self.remarks:
            self.remarks = done.remarks
            for remark in done.remarks:
                _log.warning("%s", remark)
        return done.started

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            try:
                # Not wait_for: in Python 3.11 it may lose that it was cancelled.
                async with asyncio.timeout(LOOK if not self.problem else RETRY):
                    await self._wake.wait()
            except TimeoutError:
                if self._tunnel.is_there() and not self.problem:
                    continue
            else:
                await asyncio.sleep(SETTLE)
            await self._try()

    async def _try(self) -> None:
        try:
            await self.apply()
        except TunnelError as error:
            if str(error) != self.problem:
                _log.error("%s", events.clean(str(error)))
            self.problem = str(error)
        else:
            self.problem = ""


class NoExtras:
    """Neither names nor routes."""

    def update(self, member: Member, started: bool) -> Mapping[str, tuple[Prefix, ...]]:
        """See Extras."""
        del member, started
        return {}

    def stop(self, *, hold: bool) -> None:
        """See Extras."""

    def status(self) -> dict[str, object]:
        """See Extras."""
        return {"names": {}, "routes": {}}
