"""What goes on between a node and the coordinator that it is connected to.

Several things at once, for as long as all of them can: news come, signals go, the certificate is
renewed, relays are opened, and what is known of paths is told. The first that fails ends it.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from wgpy.device.paths import PathKind as Kind
from wgpy.device.uapi import DeviceState, PeerState
from wgpy.ip import address_text
from wgpy.keys import PublicKey, write_secret
from wgpy.linux.watch import Watch
from wgpy.mesh import events, messages, wire
from wgpy.mesh.applier import Applier
from wgpy.mesh.apply import KEEPALIVE, Turn
from wgpy.mesh.client import ApiError, Channel, Client, RefusedError
from wgpy.mesh.directory import Node
from wgpy.mesh.enrol import REMOVED
from wgpy.mesh.line import Endpoint
from wgpy.mesh.member import Member, MemberError
from wgpy.mesh.messages import Changed, OfferRequest, Path, PathKind, Report, SignalRequest
from wgpy.mesh.renewal import Renewal
from wgpy.mesh.signals import Signals
from wgpy.mesh.tunnel import Tunnel, TunnelError

_log = logging.getLogger(__name__)

# The directory of signals is looked at when something changes in it; and this often, for a change
# between two looks.
LOOK: Final = 1.0
# Paths are told when they are others, and not more often than this: an idle node says nothing.
REPORT: Final = 20.0
# Of one look, so many changed paths are told in the journal: a network that comes up has more.
MAX_SAID: Final = 50
# A disk that was full may have room again.
SAVE: Final = 2.0
# A session is over after so long (whitepaper 6.1).
SESSION: Final = 180.0
# Of the life of relay credentials, the part after which new ones are asked for.
TURN_PART: Final = 0.8
# They were refused, or the coordinator knows of none.
TURN_RETRY: Final = 60.0
# Pages of one answer: a network that is full has 132.
MAX_PAGES: Final = 1_000
_KINDS: Final = {Kind.DIRECT: PathKind.DIRECT, Kind.RELAY: PathKind.RELAY}


class Connection:
    """One connection of one node. `run` raises ApiError when it has ended, whatever the reason."""

    def __init__(
        self,
        client: Client,
        member: Member,
        applier: Applier,
        tunnel: Tunnel,
        signals: Signals,
        renewal: Renewal,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.client = client
        self._member = member
        self._applier = applier
        self._tunnel = tunnel
        self._signals = signals
        self._renewal = renewal
        self._clock = clock
        self._wall = wall
        self._channel: Channel | None = None
        self._stale = asyncio.Event()
        self._renew = asyncio.Event()
        self._told: dict[PublicKey, Path] = {}
        self._is_full = False

    async def open(self) -> None:
        """Open the WebSocket. Raises ApiError."""
        self._channel = await self.client.open()
        # What changed while nobody told us.
        self._stale.set()

    @property
    def _open(self) -> Channel:
        assert self._channel is not None
        return self._channel

    async def close(self) -> None:
        """End it."""
        if self._channel is not None:
            await self._channel.close()

    async def run(self) -> None:
        """Until something fails. Raises ApiError, MemberError, TunnelError."""
        parts: list[Coroutine[Any, Any, None]] = [
            self._listen(),
            self._fetch(),
            self._carry(),
            self._renewals(),
            self._relays(),
            self._reports(),
            self._saves(),
        ]
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- News ---

    async def _listen(self) -> None:
        async for event in self._open.events():
            if not isinstance(event, Changed):
                self._signals.deliver(event.sender, event.data)
            elif event.page is None or not self._take(event.page) or event.page.more:
                self._stale.set()

    async def _fetch(self) -> None:
        """Ask for what changed, whenever that is not told at once."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            for _ in range(MAX_PAGES):
                assert self._member.directory is not None
                page = await self.client.directory(self._member.directory.revision)
                if not self._take(page):
                    raise ApiError("its directory does not follow on what it told before")
                if not page.more:
                    break
            else:
                raise ApiError("its directory has no end")

    def _take(self, page: messages.Directory) -> bool:
        """Whether a page follows on what we have; then it is in force as soon as can be."""
        member = self._member
        assert member.directory is not None
        before = dict(member.directory.nodes)
        news = member.take_page(page, self._wall())
        if news is None:
            return False
        self._save()
        self._say(before, member.directory.nodes)
        if member.directory.is_whole and (news.nodes or news.settings or news.lists):
            self._signals.set_nodes(member.directory.nodes)
            self._applier.wake()
        if member.is_removed:
            member.end(events.removed())
            raise ApiError(events.removed())
        rights = member.new_rights()
        if rights is not None:
            self._renewal.rights_differ(self._wall(), rights)
            self._renew.set()
        return True

    def _save(self) -> None:
        """A disk that is full ends nothing: what was told is in force here, but for lists of
        revocations, which the daemon reads from it; so it is tried again and again."""
        try:
            self._member.save()
        except OSError as error:
            if not self._is_full:
                _log.error("what coordinators tell cannot be kept: %s", error.strerror)
            self._is_full = True
        else:
            self._is_full = False

    async def _saves(self) -> None:
        while True:
            await asyncio.sleep(SAVE)
            if self._is_full:
                self._save()

    def _say(self, before: Mapping[PublicKey, Node], now: Mapping[PublicKey, Node]) -> None:
        """What a person may want to know; not of everybody, when there was nobody before."""
        for key in before.keys() - now.keys():
            _log.info("%s", events.node_gone(before[key].name))
        former = {node.name: key for key, node in before.items() if key not in now}
        for key in now.keys() - before.keys() if before else ():
            if now[key].name in former:
                old = former[now[key].name].base64()
                _log.warning("%s", events.node_key_changed(now[key].name, old, key.base64()))
                continue
            at = [address_text(x.address) for x in now[key].addresses]
            _log.info("%s", events.node_known(now[key].name, at))

    # --- Signals ---

    async def _carry(self) -> None:
        """Say what the daemon has to say to others."""
        member = self._member
        if member.directory is not None:
            self._signals.set_nodes(member.directory.nodes)
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        watch = Watch()
        try:
            watch.follow([str(self._signals.directory)])
            loop.add_reader(watch.fd, changed.set)
            while True:
                watch.acknowledge()
                changed.clear()
                for signal in self._signals.take():
                    await self._open.send(SignalRequest(signal.to, signal.data))
                try:
                    # Not wait_for: in Python 3.11 it may lose that it was cancelled.
                    async with asyncio.timeout(LOOK):
                        await changed.wait()
                except TimeoutError:
                    continue
        except OSError as error:
            raise ApiError(f"{self._signals.directory}: {error.strerror}") from None
        finally:
            loop.remove_reader(watch.fd)
            watch.close()

    # --- The certificate ---

    async def _renewals(self) -> None:
        while True:
            due = self._renewal.due_at()
            pause = max(0.0, due - self._wall()) if due is not None else REPORT
            try:
                # Not in one go: the wall clock may be set.
                async with asyncio.timeout(min(pause, 60.0)):
                    await self._renew.wait()
            except TimeoutError:
                if pause > 60.0 or due is None:
                    continue
            self._renew.clear()
            due = self._renewal.due_at()
            if due is not None and due <= self._wall():
                await self._renew_now()

    async def _renew_now(self) -> None:
        member = self._member
        assert member.papers is not None
        try:
            joined = await self.client.renew(force=member.new_rights() is not None)
            member.take_joined(joined, self._wall())
        except RefusedError as error:
            if error.word == REMOVED:
                raise
            self._failed(str(error), member.papers.claims.not_after)
        except MemberError as error:
            self._failed(str(error), member.papers.claims.not_after)
        except OSError as error:
            self._failed(error.strerror or str(error), member.papers.claims.not_after)
        else:
            claims = member.papers.claims
            self._renewal.issued(claims.not_before, claims.not_after)
            _log.info("%s", events.renewed(claims.name, claims.not_after))
            self._applier.wake()

    def _failed(self, reason: str, expires: float) -> None:
        _log.warning("%s", events.renewal_failed(reason, expires))
        self._renewal.failed(self._wall())

    # --- Relays ---

    async def _relays(self) -> None:
        """Keep credentials of the network's relays that are good."""
        while True:
            settings = self._member.settings
            if settings is None or not settings.turn:
                if self._member.turn is not None:
                    self._member.turn = None
                    self._applier.wake()
                await asyncio.sleep(REPORT)
                continue
            try:
                found = await self.client.turn()
            except RefusedError as error:
                if error.word == REMOVED:
                    raise
                _log.warning("no credentials for relays: %s", events.clean(str(error)))
                await asyncio.sleep(TURN_RETRY)
                continue
            path = self._member.place.turn_password
            await asyncio.to_thread(write_secret, path, found.password.encode() + b"\n")
            self._member.turn = Turn(found.uris, found.username, str(path))
            self._applier.wake()
            now = self._wall() + (self.client.ahead or 0.0)
            await asyncio.sleep(max(TURN_RETRY, (found.expires - now) * TURN_PART))

    # --- Paths ---

    async def _reports(self) -> None:
        """Tell how we reach others, when that has changed."""
        while True:
            await asyncio.sleep(REPORT * (0.75 + 0.5 * random.random()))
            try:
                state = await asyncio.to_thread(self._tunnel.state)
            except TunnelError:
                continue  # It is being started again.
            self._remember(places(state, self._wall()))
            self._keep(state)
            paths = paths_of(state, self._wall())
            news = [x for key, x in paths.items() if _differs(self._told.get(key), x)]
            news += [Path(key, PathKind.NONE) for key in self._told if key not in paths]
            self._say_paths(news)
            for start in range(0, len(news), wire.MAX_REPORTED):
                await self._open.send(Report(tuple(news[start : start + wire.MAX_REPORTED])))
            self._told = paths if news else self._told

    def _say_paths(self, news: Sequence[Path]) -> None:
        """How others are reached now, where that is of another kind, or leads elsewhere."""
        directory = self._member.directory
        known = {} if directory is None else directory.nodes
        for path in news[:MAX_SAID]:
            before, node = self._told.get(path.key), known.get(path.key)
            if node is None or (before and (before.kind, before.via) == (path.kind, path.via)):
                continue
            if path.kind is PathKind.DIRECT:
                _log.info("%s", events.path_found(node.name, path.via or ""))
            elif path.kind is PathKind.RELAY:
                _log.info("%s", events.path_relayed(node.name, path.via or ""))
            else:
                _log.info("%s", events.path_ended(node.name))

    def _keep(self, state: DeviceState) -> None:
        """The way to the coordinator is kept as our NAT needs it, as far as the daemon knows."""
        keepalive = keepalive_of(state)
        if keepalive != self._member.keepalive:
            self._member.keepalive = keepalive
            self._applier.wake()

    def _remember(self, found: dict[PublicKey, Endpoint]) -> None:
        try:
            self._member.found(found)
        except OSError as error:
            _log.debug("where nodes are cannot be kept: %s", error.strerror)

    async def offer(self, request: OfferRequest) -> None:
        """Say what we would route. Raises ApiError."""
        await self.client.offer(request)


def keepalive_of(state: DeviceState) -> int:
    """Whole seconds between keepalives to a coordinator, by what the daemon knows of its NAT."""
    measured = 0.0 if state.nat_state is None else state.nat_state.keepalive
    return max(1, int(measured)) if measured else KEEPALIVE


def paths_of(state: DeviceState, wall: float) -> dict[PublicKey, Path]:
    """How each node is reached that is reached now.

    A coordinator is where it says that it is: no way to it has to be found, and none is measured.
    """
    found = {}
    for peer in state.peers:
        if _is_coordinator(peer, wall):
            found[peer.public_key] = Path(peer.public_key, PathKind.DIRECT, str(peer.endpoint))
        if peer.path is None or peer.path.kind not in _KINDS:
            continue
        relay = peer.path.relay
        via = peer.path.place if relay is None else f"{relay.host}:{relay.port}"
        trip = peer.path.round_trip
        found[peer.public_key] = Path(
            key=peer.public_key,
            kind=_KINDS[peer.path.kind],
            via=None if via is None else str(via),
            rtt_ms=None if trip is None else round(trip * 1000, 1),
            loss=peer.path.loss,
        )
    return found


def _is_coordinator(peer: PeerState, wall: float) -> bool:
    """Whether it is a coordinator, in session with us: no way to it is looked for. Whoever enrols
    is in no configuration, and expects nothing."""
    live = peer.expectation is not None and wall - peer.last_handshake[0] < SESSION
    return peer.path is None and peer.endpoint is not None and live


def places(state: DeviceState, wall: float) -> dict[PublicKey, Endpoint]:
    """Where each node is that is reached directly now, and each coordinator."""
    found = {}
    for peer in state.peers:
        at = peer.endpoint if _is_coordinator(peer, wall) else None
        if peer.path is not None and peer.path.kind is Kind.DIRECT:
            at = peer.path.place
        if at is not None and "%" not in at.host:
            found[peer.public_key] = Endpoint(at.host, at.port)
    return found


def _differs(told: Path | None, now: Path) -> bool:
    """Whether it is worth a packet: another way, and not another millisecond."""
    return told is None or (told.kind, told.via) != (now.kind, now.via)
