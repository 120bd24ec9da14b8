"""What a node says to a coordinator, against the coordinator's own API and against nonsense."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.coordinating import HOME, Node, Running, Site, prepare
from wgpy.identity.certificate import read_leaf
from wgpy.ip import parse_address
from wgpy.keys import PrivateKey
from wgpy.mesh import client as mesh_client
from wgpy.mesh.client import ApiError, Channel, Client, RefusedError
from wgpy.mesh.messages import Changed, Joined, Report, Signalled, SignalRequest, Waiting
from wgpy.mesh.wire import MAX_ANSWER, SIGNAL_LENGTH

Talk = Callable[[Running, Site], Awaitable[None]]
WALL = 1_800_000_000.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authorities")


@pytest.fixture
def site(tmp_path: Path, folder: Path) -> Site:
    return prepare(str(tmp_path / "store"), folder)


def talk(site: Site, what: Talk) -> None:
    async def run() -> None:
        async with site.coordinator() as running, asyncio.timeout(60):
            await what(running, site)

    asyncio.run(run())


def machine(site: Site) -> Node:
    """One whose questions come from the loopback's usual address."""
    made = site.node()
    made.address = HOME
    return made


def client(running: Running, node: Node, wall: Callable[[], float] = lambda: WALL) -> Client:
    return Client(
        node.key,
        running.desk.public,
        parse_address(HOME),
        link="lo",
        wall=wall,
        port=running.port,
    )


def test_a_node_from_its_first_word_to_its_last(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        node = machine(site)
        node.quarantine(await running.invite())
        async with client(running, node) as asked:
            joined = await asked.enrol("laptop", None)
            assert isinstance(joined, Joined)
            assert read_leaf(joined.certificate).name == "laptop.mesh"
            node.admit()
            await running.until("followed", lambda: len(running.desk.roll) == 2)
            page = await asked.directory(0)
            assert {x.name for x in page.nodes} == {"gate.mesh", "laptop.mesh"}
            again = await asked.renew(force=True)
            assert read_leaf(again.certificate).rights.generation == 2
            assert {x.name for x in (await asked.map()).nodes} == {"gate.mesh", "laptop.mesh"}
            assert asked.ahead is None
            await asked.leave()

    talk(site, what)


@pytest.mark.parametrize("ahead", [-86_400.0, 86_400.0])
def test_a_wrong_clock_does_not_matter(site: Site, ahead: float) -> None:
    async def what(running: Running, site: Site) -> None:
        node = machine(site)
        node.quarantine(await running.invite())
        async with client(running, node, lambda: WALL + ahead) as asked:
            assert isinstance(await asked.enrol("laptop", None), Joined)
            assert asked.ahead == pytest.approx(-ahead, abs=1.0)
        node.admit()
        # A WebSocket's refusal has no body to be read: it asks what time it is.
        async with client(running, node, lambda: WALL + ahead) as asked:
            channel = await asked.open()
            assert asked.ahead == pytest.approx(-ahead, abs=1.0)
            await channel.close()

    talk(site, what)


def test_what_is_pushed_and_what_is_carried(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        one, two = machine(site), machine(site)
        for node in (one, two):
            node.quarantine(await running.invite())
            async with client(running, node) as asked:
                await asked.enrol(node.hostname, None)
            node.admit()
        # Who is not known yet is nobody to carry anything to.
        await running.until("followed", lambda: len(running.desk.roll) == 3)
        async with client(running, one) as first, client(running, two) as second:
            here, there = await first.open(), await second.open()
            events = there.events()
            assert isinstance(await anext(events), Changed)
            data = bytes(range(256)) + bytes(SIGNAL_LENGTH - 256)
            await running.until("both", lambda: len(running.desk.hub) == 2)
            await here.send(SignalRequest(two.public, data))
            while not isinstance(told := await anext(events), Signalled):
                pass
            assert (told.sender, told.data) == (one.public, data)
            await here.close()
            await there.close()

    talk(site, what)


def test_refusals_have_a_word_and_a_sentence(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        first, second = machine(site), machine(site)
        jti = await running.invite()
        for node in (first, second):
            node.quarantine(jti)
        async with client(running, first) as asked:
            await asked.enrol("laptop", None)
        async with client(running, second) as asked:
            with pytest.raises(RefusedError, match="spent") as caught:
                await asked.enrol("phone", None)
            assert (caught.value.status, caught.value.word) == (410, "spent")
            with pytest.raises(RefusedError) as caught:
                await asked.directory(0)
            assert caught.value.word == "quarantine"
        # Who has no session is nobody, whatever it signs.
        async with client(running, machine(site)) as asked:
            with pytest.raises(RefusedError) as caught:
                await asked.renew()
            assert (caught.value.status, caught.value.word) == (401, "session")
            with pytest.raises(ApiError, match="WebSocket"):
                await asked.open()

    talk(site, what)


def test_who_waits_is_told_so(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        desk = running.desk
        settings = replace(desk.store.settings(), approval=True)
        await desk.call(desk.store.change_settings, settings)
        node = machine(site)
        node.quarantine(await running.invite())
        async with client(running, node) as asked:
            assert isinstance(await asked.enrol("laptop", "guest"), Waiting)

    talk(site, what)


def test_a_coordinator_that_ends_ends_the_channel(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        node = machine(site)
        node.quarantine(await running.invite())
        async with client(running, node) as asked:
            await asked.enrol("laptop", None)
            node.admit()
            channel = await asked.open()
            running.desk.hub.end("the test ends")
            with pytest.raises(ApiError):
                async for _ in channel.events():
                    pass
            assert running.task is not None
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)
            with pytest.raises(ApiError):
                await asked.directory(0)

    talk(site, what)


# --- Nonsense ---


@contextlib.asynccontextmanager
async def nonsense(answer: bytes) -> AsyncIterator[Client]:
    """A client of a server that always says the same."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOME, 0)
    port = server.sockets[0].getsockname()[1]
    key, other = PrivateKey.generate(), PrivateKey.generate()
    async with (
        server,
        Client(key, other.public(), parse_address(HOME), link="lo", port=port) as asked,
    ):
        yield asked


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        http("200 OK", b""),
        http("200 OK", b"[]"),
        http("200 OK", b'{"since":0}'),
        http("200 OK", b"\xff\xfe"),
        http("200 OK", b"[" * 100_000),
        http("302 Found", b"", "Location: http://127.0.0.2/"),
        http("404 Not Found", b"<html>nothing here</html>"),
        http("401 Unauthorized", b'{"error":"time","message":"no","time":1e400}'),
        http("500 Oh", b'{"error":"x","message":"a\\nb","time":null}'),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b" " * (MAX_ANSWER + 10),
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
def test_nonsense_is_one_line(answer: bytes) -> None:
    async def run() -> None:
        async with nonsense(answer) as asked:
            for question in (asked.directory(0), asked.open()):
                with pytest.raises(ApiError) as caught:
                    await question
                assert "\n" not in str(caught.value)

    asyncio.run(run())


def test_a_clock_that_never_agrees_is_asked_twice() -> None:
    """A coordinator that refuses whatever it is told does not keep a node asking."""
    answer = http("401 Unauthorized", b'{"error":"time","message":"another time","time":7}')

    async def run() -> None:
        async with nonsense(answer) as asked:
            with pytest.raises(RefusedError, match="another time"):
                await asked.directory(0)

    asyncio.run(run())


# --- Silence ---

# What counts as silence here; a node says something, or is pinged, five times as often.
SILENT = 0.5


@contextlib.asynccontextmanager
async def quiet(heartbeat: float | None) -> AsyncIterator[Channel]:
    """A WebSocket to somebody who says nothing, and pings so often, or never."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=heartbeat)
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    app = web.Application()
    app.router.add_get("/v1/socket", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, HOME, 0)
    await site.start()
    port = runner.addresses[0][1]
    key, other = PrivateKey.generate(), PrivateKey.generate()
    try:
        async with Client(key, other.public(), parse_address(HOME), link="lo", port=port) as asked:
            channel = await asked.open()
            yield channel
            await channel.close()
    finally:
        await runner.cleanup()


async def hears(channel: Channel) -> None:
    async for _ in channel.events():
        raise AssertionError("nobody said anything")


@pytest.mark.parametrize(
    ("heartbeat", "says", "ends"),
    [(None, False, True), (SILENT / 5, False, False), (None, True, False)],
)
def test_who_is_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch, heartbeat: float | None, says: bool, ends: bool
) -> None:
    """Whoever is pinged, or has said something that TCP took, waits on: a coordinator pings only
    those of whom it hears nothing."""
    monkeypatch.setattr(mesh_client, "SILENCE", SILENT)

    async def run() -> None:
        async with quiet(heartbeat) as channel:
            hearing = asyncio.create_task(hears(channel))
            for _ in range(15):
                if says:
                    await channel.send(Report(()))
                await asyncio.wait([hearing], timeout=SILENT / 5)
            assert hearing.done() == ends
            if ends:
                with pytest.raises(ApiError, match="silent"):
                    await hearing
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    asyncio.run(run())


def test_without_the_link_nothing_goes_out() -> None:
    """Not by another link, where somebody else could have the address."""

    async def run() -> None:
        key, other = PrivateKey.generate(), PrivateKey.generate()
        made = Client(key, other.public(), parse_address(HOME), link="nothere0")
        async with made as asked:
            with pytest.raises(ApiError):
                await asked.directory(0)

    asyncio.run(run())
