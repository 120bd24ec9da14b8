"""A coordinator for tests, on loopback addresses: real store, real CA, and nodes that speak to it.

    127.0.0.1   the coordinator        127.x.y.z   nodes, each from an address of its own

Who has which address is a table here, in the place of a daemon's sessions. Everything else is what
runs.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from tests.support.certificates import NETWORK
from wgpy.identity import ca
from wgpy.identity.settings import Limits
from wgpy.identity.signer import Signer, make_signing_key
from wgpy.ip import parse_address, parse_prefix
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh import auth, invites, wire
from wgpy.mesh.addresses import ula
from wgpy.mesh.api import Listens
from wgpy.mesh.callers import Caller
from wgpy.mesh.coordinator import Coordinator
from wgpy.mesh.desk import Desk
from wgpy.mesh.issuer import LocalIssuer
from wgpy.mesh.messages import Directory, EnrolRequest, Joined, Refusal, Signalled
from wgpy.mesh.settings import Coordinator as Place
from wgpy.mesh.settings import NetworkSettings
from wgpy.mesh.store import Store

HOME = "127.0.0.1"
LOOPBACK = (parse_prefix("127.0.0.0/8"),)
GROUPS = ("laptops", "servers")
PASSPHRASE = b"correct horse"
SETTINGS = NetworkSettings(
    id=NETWORK, domain="mesh", range4=parse_prefix("10.7.0.0/16"), range6=ula(NETWORK)
)
_T = TypeVar("_T")


@cache
def authorities(folder: Path, wall: float) -> Path:
    """A root and an intermediate for SETTINGS; the intermediate's directory."""
    made = folder / "issuing"
    if not made.exists():
        ranges = (SETTINGS.range4, SETTINGS.range6)
        limits = Limits((SETTINGS.domain,), ranges, GROUPS)
        prefixes = (parse_prefix("192.168.0.0/16"),)
        ca.create(
            folder / "root",
            ca.AuthorityRequest("root", NETWORK, limits, prefixes),
            PASSPHRASE,
            wall,
        )
        with ca.Issuer(folder / "root") as root:
            root.unlock(PASSPHRASE)
            request = ca.AuthorityRequest("issuing", NETWORK, limits, prefixes, days=365)
            ca.create(made, request, PASSPHRASE, wall, root)
    return made


class Table:
    """Who has which address: what a daemon knows of its sessions."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[PublicKey, bytes], Caller] = {}
        self.asked = 0

    def of(self, key: PublicKey, address: bytes) -> Caller | None:
        """Who has this key and speaks from this address."""
        self.asked += 1
        return self.sessions.get((key, address))

    def live(self) -> frozenset[PublicKey]:
        """Who has a session."""
        return frozenset(key for key, _ in self.sessions)


@dataclass
class Site:
    """One network: a CA, a key for tokens, and where its store is."""

    url: str
    issuing: Path
    tokens: Signer
    wall: float = 1_800_000_000.0
    table: Table = field(default_factory=Table)
    nodes: "list[Node]" = field(default_factory=list)

    def now(self) -> float:
        """The wall clock of the coordinators."""
        return self.wall

    @contextlib.asynccontextmanager
    async def coordinator(
        self, key: PrivateKey | None = None, address: str = HOME, lists: Path | None = None
    ) -> AsyncIterator["Running"]:
        """One coordinator that runs."""
        own = key or PrivateKey(bytes([9]) * 32)
        store = await asyncio.to_thread(Store, self.url)
        issuer = LocalIssuer(self.issuing, PASSPHRASE, self.now)
        desk = Desk(store, issuer, self.table, own, LOOPBACK, self.now)
        with contextlib.closing(socket.create_server((address, 0))) as probe:
            port = probe.getsockname()[1]
        running = Running(self, desk, Coordinator(desk, _at(address, port), lists), address, port)
        task = asyncio.create_task(running.coordinator.run())
        try:
            ready = asyncio.create_task(running.coordinator.ready.wait())
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
            if task.done():
                await task
            running.task = task
            yield running
        finally:
            # What tests leave open; of a node whose coordinator is another it opens again.
            for node in self.nodes:
                await node.close()
            ready.cancel()
            task.cancel()
            await asyncio.gather(task, ready, return_exceptions=True)
            desk.close()
            store.close()

    def node(self, name: str | None = None) -> "Node":
        """A machine that has joined nothing yet."""
        number = len(self.nodes) + 1
        address = f"127.{1 + number // 60_000}.{number // 250 % 240}.{1 + number % 250}"
        self.nodes.append(Node(self, PrivateKey(os.urandom(32)), address, name or f"n{number}"))
        return self.nodes[-1]


def _at(address: str, port: int) -> Listens:
    return Listens((parse_address(address),), port, "gate.mesh")


@dataclass
class Running:
    """A coordinator that runs, and what a test does with it."""

    site: Site
    desk: Desk
    coordinator: Coordinator
    address: str
    port: int
    task: "asyncio.Task[None] | None" = None

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://{self.address}:{self.port}"

    async def invite(self, **wanted: Any) -> str:
        """A new invitation: its jti."""
        asked = {"name": None, "groups": ("laptops",), "uses": 1, "seconds": 3_600.0, **wanted}
        made = await self.desk.call(invites.invite, self.desk, self.site.tokens, **asked)
        return made.record.jti

    async def join(self, node: "Node", jti: str | None = None, **wanted: Any) -> Joined:
        """Let a node in, and give it a session as a member."""
        node.quarantine(jti or await self.invite(uses=1), str(wanted.get("name") or ""))
        joined = await node.ok(self, Joined, "POST", "/v1/enrol", EnrolRequest(node.hostname))
        node.admit()
        if wanted.get("wait", True):
            # The roll follows a moment later.
            await self.until("known", lambda: self.desk.roll.named(joined.node.name))
        return joined

    async def until(self, what: str, true: Any, seconds: float = 10.0) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.01)


@dataclass
class Node:
    """A machine with a key and an address."""

    site: Site
    key: PrivateKey
    address: str
    hostname: str
    _session: aiohttp.ClientSession | None = None

    @property
    def public(self) -> PublicKey:
        """Its static key."""
        return self.key.public()

    def quarantine(self, jti: str, name: str = "") -> None:
        """Its session was opened with a token."""
        self._sits(Caller(self.public, jti, name))

    def admit(self) -> None:
        """Its session was opened with a certificate."""
        self._sits(Caller(self.public))

    def gone(self) -> None:
        """It has no session."""
        self.site.table.sessions.pop((self.public, parse_address(self.address)), None)

    def _sits(self, caller: Caller) -> None:
        self.site.table.sessions[self.public, parse_address(self.address)] = caller

    def session(self) -> aiohttp.ClientSession:
        """Its HTTP client, which speaks from its address."""
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(local_addr=(self.address, 0), limit=4)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=30)
            )
        return self._session

    async def close(self) -> None:
        """End its connections."""
        if self._session is not None:
            await self._session.close()

    def headers(
        self, running: Running, method: str, target: str, body: bytes, **changed: Any
    ) -> dict[str, str]:
        """The headers of a request of its own."""
        coordinator = running.desk.public
        secret = self.key.shared_secret(coordinator)
        return auth.sign(
            auth.api_key(secret, self.public, coordinator),
            self.public,
            method,
            target,
            body,
            now=changed.get("now", self.site.wall),
            nonce=changed.get("nonce", os.urandom(16)),
        )

    async def ask(
        self,
        running: Running,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """A request, and its answer."""
        signed = self.headers(running, method, target, body) if headers is None else headers
        async with self.session().request(
            method, running.url + target, data=body or None, headers=signed
        ) as answer:
            return answer.status, await answer.read()

    async def ok(
        self, running: Running, kind: type[_T], method: str, target: str, message: object = None
    ) -> _T:
        """A request that succeeds."""
        body = b"" if message is None else wire.encode(message)
        status, text = await self.ask(running, method, target, body)
        assert status == 200, (status, text)
        return wire.decode(kind, text)

    async def refused(
        self, running: Running, method: str, target: str, message: object = None
    ) -> tuple[int, str]:
        """A request that is refused: the status and the word."""
        body = b"" if message is None else wire.encode(message)
        status, text = await self.ask(running, method, target, body)
        return status, wire.decode(Refusal, text).error

    async def directory(self, running: Running) -> Directory:
        """The whole directory, in as many pages as it has."""
        page = await self.ok(running, Directory, "GET", "/v1/directory?since=0")
        nodes, revocations, crl = list(page.nodes), list(page.revocations), list(page.crl)
        settings = page.settings
        while page.more:
            target = f"/v1/directory?since={page.revision}"
            page = await self.ok(running, Directory, "GET", target)
            nodes += page.nodes
            revocations += page.revocations
            crl += page.crl
            settings = page.settings or settings
        return Directory(
            0, page.revision, True, False, tuple(nodes), tuple(revocations), tuple(crl), settings
        )

    @contextlib.asynccontextmanager
    async def socket(self, running: Running) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Its WebSocket."""
        headers = self.headers(running, "GET", "/v1/socket", b"")
        async with self.session().ws_connect(
            running.url + "/v1/socket", headers=headers, max_msg_size=wire.MAX_ANSWER
        ) as ws:
            yield ws


async def event(ws: aiohttp.ClientWebSocketResponse, seconds: float = 10.0) -> Any:
    """The next event."""
    message = await ws.receive(timeout=seconds)
    assert message.type is aiohttp.WSMsgType.TEXT, message
    return wire.decode_event(wire.PUSHED, message.data.encode())


async def signalled(ws: aiohttp.ClientWebSocketResponse, seconds: float = 10.0) -> Signalled:
    """The next signal; what else is told meanwhile is passed over."""
    while True:
        found = await event(ws, seconds)
        if isinstance(found, Signalled):
            return found


def prepare(url: str, folder: Path, wall: float = 1_800_000_000.0) -> Site:
    """A network with one coordinator, which is a node as well."""
    tokens = folder / "tokens.key"
    signer = Signer.load(tokens) if tokens.exists() else make_signing_key(tokens, "EdDSA")
    site = Site(url, authorities(folder, wall), signer, wall)
    with contextlib.closing(Store(url)) as store:
        store.create_network(SETTINGS)
        add_coordinator(site, store, "gate.mesh", PrivateKey(bytes([9]) * 32), "192.0.2.1:51820")
    return site


def add_coordinator(site: Site, store: Store, name: str, key: PrivateKey, endpoint: str) -> None:
    """Make a node that coordinates."""
    from dataclasses import replace

    issuer = LocalIssuer(site.issuing, PASSPHRASE, site.now)
    store.add(name, key.public(), ("servers",), site.wall, issuer.issue)
    settings = store.settings()
    place = Place(name, key.public(), (endpoint,))
    store.change_settings(replace(settings, coordinators=(*settings.coordinators, place)))
