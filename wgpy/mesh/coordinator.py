"""The coordinator: one process, or several on one database, of which any may end.

    store  ->  roll (what the network is)  ->  API, and pushes within a second
    operator's socket, API  ->  store  ->  every coordinator, woken

Its state is the store's. What is in memory can be lost: who is connected connects again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from wgpy.identity.claims import CredentialError
from wgpy.identity.crl import read_crl
from wgpy.keys import PublicKey, write_secret
from wgpy.mesh import api_signal, events, wire
from wgpy.mesh.api import Api, Listens
from wgpy.mesh.desk import Desk, refusal_of
from wgpy.mesh.messages import Changed, Directory
from wgpy.mesh.records import NodeState, Revocation, RevocationKind
from wgpy.mesh.store import Changes
from wgpy.mesh.wire import MAX_PAGE, WireError

# Seconds from one push to the next: a burst of joins is told in few, and nobody waits a second.
# The more are connected, the dearer is one.
LEAST_GAP: Final = 0.05
GAP_OF_NODE: Final = 0.000_5
MOST_GAP: Final = 0.7
# A change is pushed whole while it is shorter than this; else each node asks for it.
MAX_PUSHED: Final = 16 * 1024
# Seconds: sessions end after 200, so that a connection lives for 15 more at the most.
SESSIONS: Final = 15.0
# Seconds between looks whether a list has to be signed: a new one is good for a week.
LISTS: Final = 3_600.0
LIST_AGE: Final = 86_400.0
# Seconds until one coordinator signs what another should have signed.
PATIENCE: Final = 2.0
SEEN: Final = 60.0
RETRY: Final = 1.0

_log = logging.getLogger(__name__)


class Coordinator:
    """Runs a desk. `lists` is a directory in which the own daemon looks for lists; None for none.

    `run` ends when it is cancelled, or with an error that nothing here can mend.
    """

    def __init__(self, desk: Desk, listens: Listens, lists: Path | None = None) -> None:
        self.desk = desk
        self._listens = listens
        self._lists = lists
        self._woken = asyncio.Event()
        self._api = Api(desk, listens)
        self._pushed = 0
        # Revocations that no list has yet, since when on the clock.
        self._unsigned_since: float | None = None
        # Who was removed, and is to be told so before its connection ends.
        self._removed: list[PublicKey] = []
        self._signed_at = 0.0
        self._failing: str | None = None
        self.ready = asyncio.Event()

    @property
    def places(self) -> list[str]:
        """Where it serves, for a person."""
        return self._listens.places()

    async def run(self) -> None:
        """Follow the store and serve, until it is cancelled."""
        loop = asyncio.get_running_loop()
        desk = self.desk
        wakeups = desk.store.wakeups(
            lambda: _threadsafe(loop, self._woken.set),
            lambda text: _threadsafe(loop, lambda: api_signal.take_post(desk, text)),
        )
        try:
            while not await self._follow_once():
                await asyncio.sleep(RETRY)
            await self._remember()
            await self._serve()
            self.ready.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._every(SESSIONS, self._look_at_sessions))
                group.create_task(self._every(SEEN, self._touch))
                group.create_task(self._every(PATIENCE, self._look_at_lists))
        finally:
            desk.hub.end("the coordinator ends")
            # Writers see that, and say goodbye.
            await asyncio.sleep(0.05)
            await self._api.close()
            await loop.run_in_executor(None, wakeups.close)

    async def _serve(self) -> None:
        """Listen, as soon as the tunnel has its addresses."""
        while True:
            try:
                await self._api.start()
                break
            except OSError as error:
                self._say(f"cannot listen yet: {error.strerror or error}")
                await asyncio.sleep(RETRY)
                self._api = Api(self.desk, self._listens)
        self._say(None)

    async def _every(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await action()
            except Exception as error:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Say once what fails; what is no failure of store, issuer or daemon is a fault."""
        found = refusal_of(error)
        if found is None:
            raise error
        self.desk.counters[f"failed_{found.word}"] += 1
        self._say(str(found))

    def _say(self, what: str | None) -> None:
        if what != self._failing:
            if what is not None:
                _log.warning("%s", events.clean(what))
            elif self._failing is not None:
                _log.info("it works again")
        self._failing = what

    # --- Following the store ---

    async def _follow(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            if not await self._follow_once():
                # Whoever wakes us is the store, which is away.
                await asyncio.sleep(RETRY)
                self._woken.set()
                continue
            gap = LEAST_GAP + GAP_OF_NODE * len(self.desk.hub)
            await asyncio.sleep(min(gap, MOST_GAP))

    async def _follow_once(self) -> bool:
        """Take every change there is, and tell; False where the store did not answer."""
        desk = self.desk
        try:
            more = True
            while more:
                changes = await desk.call(
                    desk.store.changes, desk.roll.revision, desk.wall(), MAX_PAGE
                )
                lists = {}
                for issuer, _number in changes.crl:
                    found = await desk.call(desk.store.last_list, issuer)
                    if found is not None:
                        lists[issuer] = found[1]
                desk.roll.follow(changes, lists)
                self._act_on(changes, lists)
                more = changes.more
        except Exception as error:
            self._failed(error)
            return False
        if self._failing is not None and self.ready.is_set():
            self._say(None)
        self._push()
        for key in self._removed:
            desk.hub.drop(key, "this node was removed")
        self._removed.clear()
        return True

    async def _remember(self) -> None:
        while True:
            try:
                self.desk.roll.remember(await self.desk.call(self.desk.store.nodes, removed=True))
                return
            except Exception as error:
                self._failed(error)
                await asyncio.sleep(RETRY)

    def _act_on(self, changes: Changes, lists: dict[bytes, bytes]) -> None:
        for node in changes.nodes:
            if node.state is NodeState.REMOVED:
                self._removed.append(node.key)
                self.desk.reports.forget(node.key)
        for issuer, der in lists.items():
            self._install(issuer, der)
        if changes.revocations and self._unsigned_since is None:
            self._unsigned_since = self.desk.clock()

    def _install(self, issuer: bytes, der: bytes) -> None:
        """Put a list where the own daemon looks for it."""
        if self._lists is None:
            return
        try:
            self._lists.mkdir(mode=0o700, exist_ok=True)
            write_secret(self._lists / f"{issuer.hex()}.crl", der)
        except OSError as error:
            self.desk.counters["lists_not_written"] += 1
            _log.error("the list of revocations is not in force here: %s", error.strerror or error)

    def _push(self) -> None:
        desk = self.desk
        if desk.roll.revision == self._pushed:
            return
        event = None
        if desk.roll.knows(self._pushed) and self._pushed:
            page = desk.roll.page(self._pushed, desk.wall())
            if len(page) <= MAX_PUSHED:
                event = changed_with(desk.roll.revision, page)
        self._pushed = desk.roll.revision
        desk.hub.push(event or wire.encode_event(Changed(desk.roll.revision)))

    # --- Now and then ---

    async def _look_at_sessions(self) -> None:
        if not len(self.desk.hub):
            return
        present = self.desk.hub.connections()
        live = await self.desk.call(self.desk.callers.live)
        self.desk.hub.keep(present, live)

    async def _touch(self) -> None:
        now = self.desk.wall()
        connected: dict[PublicKey, float] = dict.fromkeys(self.desk.hub.keys(), now)
        if connected:
            await self.desk.call(self.desk.store.touch, connected)

    async def _look_at_lists(self) -> None:
        """Sign a list where revocations have none, or the last is a day old."""
        desk, now = self.desk, self.desk.clock()
        waited = self._unsigned_since is not None and now - self._unsigned_since >= PATIENCE
        due = not self._signed_at or now - self._signed_at > LISTS
        if not waited and not due:
            return
        revocations = await desk.call(desk.store.revocations, desk.wall())
        if not await desk.call(_covered, desk, revocations):
            await desk.sign_list()
        self._unsigned_since = None
        self._signed_at = now


def _covered(desk: Desk, revocations: tuple[Revocation, ...]) -> bool:
    """Whether the last list of our issuer is young, and denies every key that is revoked."""
    found = desk.store.last_list(desk.issuer.authority.key_id)
    if found is None:
        return not revocations
    try:
        (listed,) = read_crl(found[1], [desk.issuer.authority])
    except (CredentialError, ValueError):
        return False
    if listed is None or desk.wall() - listed.this_update > LIST_AGE:
        return False
    denied = {x.base64() for x in listed.denied.keys}
    wanted = {x.value for x in revocations if x.kind is RevocationKind.KEY}
    return wanted <= denied


def changed_with(revision: int, page: bytes) -> bytes:
    """The event `changed` around a page that is JSON already."""
    bare = wire.encode_event(Changed(revision, Directory(0, 0, False, False, (), (), (), None)))
    empty = wire.encode(Directory(0, 0, False, False, (), (), (), None))
    if bare.count(empty) != 1:
        raise WireError("an event has its page in one place")
    return bare.replace(empty, page)


def _threadsafe(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
    """Called by the store's threads, which may outlive the loop for a moment."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(action)
