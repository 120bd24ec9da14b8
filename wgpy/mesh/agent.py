"""The agent of a node: one process beside the tunnel's daemon, that keeps it in its network.

    member.py     who we are, and what we know       follower.py    which coordinator we turn to
    applier.py    the daemon, the link, names        connection.py  what goes on with it
    signals.py    how daemons meet                   agent_socket.py  who asks us, here

Packets never pass here, and never wait for this: when it ends, or all coordinators do, the tunnels
go on with what the daemon was told.
"""

import asyncio
import fcntl
import logging
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import wgpy
from wgpy.ip import address_text
from wgpy.linux.notify import Notifier
from wgpy.mesh import events, fields
from wgpy.mesh.agent_socket import AgentSocket, SocketError
from wgpy.mesh.applier import Applier, Extras, NoExtras
from wgpy.mesh.background import program_words
from wgpy.mesh.child import Child
from wgpy.mesh.client import ApiError
from wgpy.mesh.directory import Node
from wgpy.mesh.fields import RecordError
from wgpy.mesh.follower import Follower
from wgpy.mesh.member import Member
from wgpy.mesh.messages import Map, OfferRequest
from wgpy.mesh.place import MAX_ACCEPTED, Place, PlaceError, accepted
from wgpy.mesh.signals import Signals
from wgpy.mesh.tunnel import Tunnel, TunnelError

_log = logging.getLogger(__name__)

# Given the interface, and what to call when routes have changed by themselves.
MakeExtras = Callable[[str, Callable[[], None]], Extras]


class Agent:
    """The agent of one interface. Raises PlaceError for a place that is no node's."""

    def __init__(
        self, place: Place, make_extras: MakeExtras | None = None, tunnel: Tunnel | None = None
    ) -> None:
        self.place = place
        self._loop = asyncio.get_running_loop()
        self.member = Member(place, time.time())
        self._tunnel = tunnel or Tunnel(place)
        self._extras: Extras = NoExtras()
        if make_extras is not None:
            self._extras = make_extras(place.interface, self._routes_changed)
        self._signals = Signals(place, self.member.public)
        self._applier = Applier(self.member, self._tunnel, self._extras)
        self._follower = Follower(
            self.member, self._applier, self._tunnel, self._signals, random.random
        )
        self._socket = AgentSocket(place.socket, self._answer)
        self._notifier = Notifier()
        self._stopping = asyncio.Event()
        self._why = ""
        self._fault: BaseException | None = None
        self._forget = False

    def _routes_changed(self) -> None:
        """From a thread of another's."""
        self._loop.call_soon_threadsafe(self._applier.wake)

    def stop(self, why: str) -> None:
        """End soon."""
        self._why = self._why or why
        self._stopping.set()

    async def run(self) -> None:
        """Until somebody asks it to stop. Raises OSError if there can be no socket."""
        loop = self._loop
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop, f"signal {number.name}")
        interface = self.place.interface
        _log.info("%s", events.starts(interface, wgpy.__version__))
        await self._socket.open()
        tasks = [
            asyncio.create_task(part)
            for part in (self._live(), self._keep_coordinator(), self._watchdog())
        ]
        for task in tasks:
            task.add_done_callback(self._lived)
        self._notifier.send("READY=1")
        try:
            await self._stopping.wait()
        finally:
            self._notifier.send("STOPPING=1")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._fault is None:
                await self._end()
            await self._socket.close()
            _log.info("%s", events.ends(interface, self._why))
        if self._fault is not None:
            raise self._fault

    def _lived(self, task: "asyncio.Task[None]") -> None:
        """A fault of our own ends the agent, to be seen, and to be started again; the tunnel goes
        on as it is."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fault = fault
            self.stop("a fault")

    async def _live(self) -> None:
        if self.member.membership.ended is not None:
            # Nobody lets it in any more; it waits until somebody looks.
            return
        self._applier.wake()
        parts = [asyncio.create_task(x.run()) for x in (self._follower, self._applier)]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in parts:
                task.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        # It has joined no network, or is in none any more: a tunnel that nobody answers is no use.
        await self._take_down()
        self.place.set_token(None)

    async def _keep_coordinator(self) -> None:
        if self.member.membership.coordinator:
            words = (*program_words(), "coordinator", self.place.interface)
            await Child(f"the coordinator of {self.place.interface}", words).run()

    async def _watchdog(self) -> None:
        interval = self._notifier.watchdog_interval()
        while interval is not None:
            self._notifier.send("WATCHDOG=1")
            await asyncio.sleep(interval)

    async def _end(self) -> None:
        """Put everything back; with `_forget` there was no node."""
        await self._take_down()
        if self._forget:
            await asyncio.to_thread(self.place.remove)

    async def _take_down(self) -> None:
        hold = not self._forget and self.member.membership.ended is None
        await asyncio.to_thread(lambda: self._extras.stop(hold=hold))
        try:
            await asyncio.to_thread(self._tunnel.take_down)
        except TunnelError as error:
            _log.error("%s", events.clean(str(error)))

    # --- Who asks us ---

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        asked = question.get("ask")
        if asked == "status":
            return self.status()
        if asked == "map":
            return await self._map()
        if asked == "routes":
            return await self._routes(question)
        if asked == "leave":
            return await self._leave(force=question.get("force") is True)
        if asked == "stop":
            asyncio.get_running_loop().call_later(_AFTER_ANSWER, self.stop, "asked to")
            return {"stopping": True}
        raise SocketError("unknown", "the agent answers status, map, routes, leave and stop")

    def status(self) -> dict[str, Any]:
        """What `{"ask": "status"}` tells."""
        member, follower = self.member, self._follower
        current, directory = follower.current, member.directory
        counters = Counter(self._signals.counters)
        if directory is not None:
            counters.update(directory.counters)
        claims = None if member.papers is None else member.papers.claims
        return {
            "interface": self.place.interface,
            "network": member.membership.network.hex(),
            "domain": member.membership.domain,
            "name": member.membership.name,
            "key": member.public.base64(),
            "addresses": [address_text(x.address) for x in member.addresses],
            "groups": [] if claims is None else sorted(claims.groups),
            "state": follower.state.value,
            "reason": follower.reason,
            "ended": member.membership.ended is not None,
            "problem": self._applier.problem,
            "remarks": list(self._applier.remarks),
            "coordinator": member.membership.coordinator,
            "coordinators": [
                {
                    "name": whom.name or whom.key.base64(),
                    "connected": current is not None and whom.key == current.key,
                    "since": follower.since if whom is current else None,
                }
                for whom in follower.contacts.all
            ],
            "certificate_expires": None if claims is None else claims.not_after,
            "directory_revision": 0 if directory is None else directory.revision,
            "nodes": [] if directory is None else [_shown(x) for x in directory.nodes.values()],
            "counters": dict(counters),
            **self._extras.status(),
        }

    async def _map(self) -> dict[str, Any]:
        connection = self._follower.connection
        if connection is None:
            raise SocketError("alone", "no coordinator answers, and the map is theirs")
        try:
            found = await connection.client.map()
        except ApiError as error:
            raise SocketError("api", str(error)) from None
        return map_to_json(found, frozenset(x.key.base64() for x in self._follower.contacts.all))

    async def _routes(self, question: dict[str, Any]) -> dict[str, Any]:
        membership = self.member.membership
        try:
            if "accept" in question:
                wanted = fields.each(question["accept"], MAX_ACCEPTED, "accept", accepted)
                membership = replace(membership, accept=wanted)
            if "exit" in question:
                found = fields.optional(question["exit"], "exit", fields.name)
                membership = replace(membership, exit=found)
            if "offer" in question:
                offers = fields.prefixes(question["offer"], "offer")
                membership = replace(membership, offers=offers)
            if "masquerade" in question:
                chosen = fields.flag(question["masquerade"], "masquerade")
                membership = replace(membership, masquerade=chosen)
        except RecordError as error:
            raise SocketError("malformed", str(error)) from None
        if membership.offers != self.member.membership.offers:
            await self._offer(OfferRequest(membership.offers))
        if membership != self.member.membership:
            self.member.set_membership(membership)
            try:
                await self._applier.apply()
            except TunnelError as error:
                raise SocketError("tunnel", str(error)) from None
        return {"routes": self._extras.status().get("routes", {})}

    async def _offer(self, request: OfferRequest) -> None:
        connection = self._follower.connection
        if connection is None:
            raise SocketError("alone", "no coordinator answers; try again when one does")
        try:
            await connection.client.offer(request)
        except ApiError as error:
            raise SocketError("api", str(error)) from None

    async def _leave(self, *, force: bool) -> dict[str, Any]:
        """Be no node any more; a node that is none yet, or none any more, is only forgotten."""
        membership, connection = self.member.membership, self._follower.connection
        revoked = False
        if membership.name is not None and membership.ended is None:
            try:
                if connection is None:
                    raise ApiError("no coordinator answers")
                await connection.client.leave()
                revoked = True
            except ApiError as error:
                # The session ends with the certificate: its news may be faster than the answer.
                await asyncio.sleep(_NEWS)
                revoked = self.member.is_removed
                if not revoked and not force:
                    raise SocketError(
                        "alone",
                        f"{error}, so the network cannot be told; `wgpy mesh leave --force` "
                        "forgets it here, and the operator should remove this node",
                    ) from None
            _log.info("%s", events.left(membership.domain))
        self._forget = True
        asyncio.get_running_loop().call_later(_AFTER_ANSWER, self.stop, "it has left")
        return {"left": membership.domain, "revoked": revoked}


# A revocation is pushed within a second.
_NEWS: Final = 1.5
# Whoever asked has its answer by then.
_AFTER_ANSWER: Final = 0.1


def _shown(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "key": node.key.base64(),
        "addresses": [address_text(x.address) for x in node.addresses],
        "groups": list(node.groups),
        "routes": [str(x) for x in node.routes],
        "expires": node.claims.not_after,
        "coordinator": node.coordinator,
    }


def map_to_json(found: Map, coordinators: frozenset[str]) -> dict[str, Any]:
    """A map as whoever asks the agent gets it; `coordinators` are keys in base64."""
    return {
        "nodes": [
            {
                "name": x.name,
                "key": x.key.base64(),
                "coordinator": x.key.base64() in coordinators,
                "connected": x.connected,
            }
            for x in found.nodes
        ],
        "paths": [
            {
                "from": x.of.base64(),
                "to": x.path.key.base64(),
                "kind": x.path.kind.value,
                "via": x.path.via,
                "rtt_ms": x.path.rtt_ms,
                "loss": x.path.loss,
            }
            for x in found.paths
        ],
    }


def hold_lock(place: Place) -> int:
    """The lock that one agent of an interface has, while its process lives. Raises PlaceError."""
    place.lock.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise PlaceError(f"{place.interface}: another agent keeps this interface") from None
    return lock


def run(place: Place, make_extras: MakeExtras | None = None) -> None:
    """Run the agent of a place until it ends. Raises PlaceError, OSError."""
    lock = hold_lock(place)

    async def main() -> None:
        await Agent(place, make_extras).run()

    try:
        asyncio.run(main())
    finally:
        os.close(lock)
