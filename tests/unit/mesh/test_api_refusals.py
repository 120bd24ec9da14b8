"""What the API refuses, and how: whoever asks, and however it is asked."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.coordinating import HOME, Node, Running, Site, event, prepare, signalled
from wgpy.ip import parse_address, parse_prefix
from wgpy.keys import PrivateKey
from wgpy.mesh import api, api_socket, auth, hub, wire
from wgpy.mesh.callers import Caller
from wgpy.mesh.messages import (
    Clock,
    Directory,
    Done,
    EnrolRequest,
    Map,
    NodeView,
    OfferRequest,
    PathKind,
    Refusal,
    RenewRequest,
    Report,
    SignalAnswer,
    Signalled,
    SignalRequest,
    TurnCredentials,
)
from wgpy.mesh.messages import (
    Path as Way,
)

SIGNAL = bytes(wire.SIGNAL_LENGTH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CA of all tests here."""
    return tmp_path_factory.mktemp("authorities")


@pytest.fixture
def site(tmp_path: Path, folder: Path) -> Iterator[Site]:
    """A network with a coordinator; what is refused here is refused before any store."""
    return prepare(str(tmp_path / "store"), folder)


def talk(site: Site, what: Callable[[Running, Node], Awaitable[None]]) -> None:
    """A coordinator, a node that is in, and a conversation."""

    async def run() -> None:
        async with site.coordinator() as running:
            node = site.node("laptop")
            await running.join(node)
            try:
                await what(running, node)
            finally:
                await node.close()

    asyncio.run(run())


async def word(answer: Awaitable[tuple[int, bytes]]) -> tuple[int, str]:
    """The status and the word of a refusal."""
    status, body = await answer
    return status, wire.decode(Refusal, body).error


def test_nobody_speaks_without_headers(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        for missing in (auth.KEY, auth.TIME, auth.NONCE, auth.MAC):
            headers = node.headers(running, "GET", "/v1/map", b"")
            del headers[missing]
            said = await word(node.ask(running, "GET", "/v1/map", headers=headers))
            assert said == (401, "headers")

    talk(site, what)


def test_a_request_is_good_once(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        headers = node.headers(running, "GET", "/v1/map", b"")
        assert (await node.ask(running, "GET", "/v1/map", headers=headers))[0] == 200
        said = await word(node.ask(running, "GET", "/v1/map", headers=headers))
        assert said == (401, "replayed")

    talk(site, what)


def test_a_request_is_good_for_what_it_was_made_for(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        body = wire.encode(RenewRequest())
        headers = node.headers(running, "POST", "/v1/renew", body)
        for target, sent in (
            ("/v1/renew", wire.encode(RenewRequest(True))),
            ("/v1/leave", body),
            ("/v1/renew?x=1", body),
        ):
            assert await word(node.ask(running, "POST", target, sent, headers)) == (401, "mac")
        assert (await node.ask(running, "POST", "/v1/renew", body, headers))[0] == 200

    talk(site, what)


def test_anothers_key_is_no_use(site: Site) -> None:
    """By its name alone, by its MAC from another address, and by an address without its key."""

    async def what(running: Running, node: Node) -> None:
        other = site.node("other")
        await running.join(other)
        claimed = node.headers(running, "GET", "/v1/map", b"")
        claimed[auth.KEY] = other.public.base64()
        assert await word(node.ask(running, "GET", "/v1/map", headers=claimed)) == (401, "mac")
        stolen = other.headers(running, "GET", "/v1/map", b"")
        assert await word(node.ask(running, "GET", "/v1/map", headers=stolen)) == (401, "session")
        stranger = Node(site, PrivateKey(bytes([5]) * 32), node.address, "x")
        assert await stranger.refused(running, "GET", "/v1/map") == (401, "session")
        await stranger.close()
        await other.close()

    talk(site, what)


def test_a_key_that_shares_no_secret_is_refused(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        headers = node.headers(running, "GET", "/v1/map", b"")
        headers[auth.KEY] = "A" * 43 + "="
        assert await word(node.ask(running, "GET", "/v1/map", headers=headers)) == (401, "headers")

    talk(site, what)


def test_a_wrong_clock_is_told_the_time(site: Site) -> None:
    """Whichever is wrong: the node asks what time it is there, and goes by that."""

    async def what(running: Running, node: Node) -> None:
        site.wall += 10 * 365 * 86_400
        headers = node.headers(running, "GET", "/v1/map", b"", now=1_800_000_000.0)
        status, body = await node.ask(running, "GET", "/v1/map", headers=headers)
        refusal = wire.decode(Refusal, body)
        assert (status, refusal.error, refusal.time) == (401, "time", site.wall)
        assert (await node.ok(running, Clock, "GET", "/v1/time")).time == site.wall
        assert (await node.ask(running, "GET", "/v1/map"))[0] == 200

    talk(site, what)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:80", "gate.mesh", ""])
def test_the_host_is_ours(site: Site, host: str) -> None:
    async def what(running: Running, node: Node) -> None:
        ours = host in ("127.0.0.1", "gate.mesh")
        headers = {**node.headers(running, "GET", "/v1/map", b""), "Host": host}
        status, body = await node.ask(running, "GET", "/v1/map", headers=headers)
        assert status == (200 if ours else 421)
        assert ours or wire.decode(Refusal, body).error == "host"

    talk(site, what)


@pytest.mark.parametrize("origin", ["null", "http://127.0.0.1", "https://evil.example"])
def test_no_page_in_a_browser_speaks_here(site: Site, origin: str) -> None:
    async def what(running: Running, node: Node) -> None:
        for target in ("/v1/map", "/v1/time", "/v1/socket"):
            headers = {**node.headers(running, "GET", target, b""), "Origin": origin}
            said = await word(node.ask(running, "GET", target, headers=headers))
            assert said == (403, "origin")

    talk(site, what)


def test_what_is_too_long_or_compressed_is_not_read(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        body = b" " * (wire.MAX_BODY + 1)
        assert await word(node.ask(running, "POST", "/v1/report", body)) == (413, "too-long")
        headers = node.headers(running, "POST", "/v1/report", b"x")
        squeezed = {**headers, "Content-Encoding": "gzip"}
        said = await word(node.ask(running, "POST", "/v1/report", b"x", squeezed))
        assert said == (415, "encoding")

        async def endless() -> Any:
            while True:
                yield b" " * 10_000

        async with node.session().post(running.url + "/v1/report", data=endless()) as answer:
            assert answer.status == 413
            assert wire.decode(Refusal, await answer.read()).error == "too-long"

    talk(site, what)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"force":1}', b'{"force":true,"x":1}', b"\xff", b"{}" * 9]
)
def test_what_is_malformed_is_refused(site: Site, body: bytes) -> None:
    async def what(running: Running, node: Node) -> None:
        assert await word(node.ask(running, "POST", "/v1/renew", body)) == (400, "malformed")
        assert running.desk.counters["refused_malformed"] == 1

    talk(site, what)


@pytest.mark.parametrize("since", ["-1", "x", "", "1.0", "01", "9" * 20, "1&since=2&x=3"])
def test_a_revision_is_a_number(site: Site, since: str) -> None:
    async def what(running: Running, node: Node) -> None:
        target = f"/v1/directory?since={since}"
        assert await word(node.ask(running, "GET", target)) == (400, "malformed")

    talk(site, what)


def test_what_there_is_not(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        for target in ("/", "/v1", "/v2/map", "/v1/map/", "/V1/map", "//v1/map", "/v1/../v1/map"):
            status, _ = await node.ask(running, "GET", target)
            assert status in (404, 401) or target == "/v1/../v1/map"
        assert await node.refused(running, "DELETE", "/v1/map") == (405, "method")
        assert await node.refused(running, "GET", "/v1/renew") == (405, "method")
        assert await node.refused(running, "GET", "/v1/turn") == (404, "no-relay")

    talk(site, what)


def test_who_asks_too_often_is_slowed_down(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        now = running.desk.clock()
        running.desk.clock = lambda: now
        statuses = []
        for _ in range(int(api.BURST) + 5):
            statuses.append((await node.ask(running, "GET", "/v1/time", headers={}))[0])
        # One was spent on coming in.
        assert statuses.count(200) in (api.BURST - 1, api.BURST)
        assert set(statuses) == {200, 429}
        assert await word(node.ask(running, "GET", "/v1/time", headers={})) == (429, "rate")
        # Nobody else is.
        other = site.node()
        assert (await other.ask(running, "GET", "/v1/time", headers={}))[0] == 200
        await other.close()

    talk(site, what)


def test_only_from_inside(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        running.desk.ranges = (parse_prefix("127.200.0.0/16"),)
        assert await node.refused(running, "GET", "/v1/time") == (403, "elsewhere")
        running.desk.ranges = None
        assert await node.refused(running, "GET", "/v1/time") == (403, "elsewhere")

    talk(site, what)


def test_quarantine_is_for_enrolling_alone(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        joiner = site.node("joiner")
        joiner.quarantine(await running.invite())
        for method, target in api._HANDLERS:
            if target != "/v1/enrol":
                assert await joiner.refused(running, method, target) == (403, "quarantine")
        assert await joiner.refused(running, "GET", "/v1/socket") == (403, "quarantine")
        again = EnrolRequest("laptop")
        assert await node.refused(running, "POST", "/v1/enrol", again) == (409, "member")
        await joiner.close()

    talk(site, what)


def test_who_is_no_node_has_nothing_to_ask(site: Site) -> None:
    """A certificate of this CA, and no record: one that was issued by hand."""

    async def what(running: Running, node: Node) -> None:
        stranger = site.node()
        stranger.admit()
        assert await stranger.refused(running, "GET", "/v1/map") == (403, "stranger")
        await stranger.close()

    talk(site, what)


def test_a_flood_of_bad_tokens_changes_nothing(site: Site) -> None:
    """Each of many machines with a token that nobody made; a good one comes through meanwhile."""

    async def what(running: Running, node: Node) -> None:
        async def bad(number: int) -> tuple[int, str]:
            machine = site.node()
            machine.quarantine(f"made up {number}")
            try:
                return await machine.refused(running, "POST", "/v1/enrol", EnrolRequest("x"))
            finally:
                await machine.close()

        good = site.node("good")
        said, joined = await asyncio.gather(
            asyncio.gather(*(bad(x) for x in range(60))), running.join(good)
        )
        assert set(said) == {(410, "unknown-invite")}
        assert joined.node.name == "good.mesh"
        assert {x.name for x in running.desk.store.nodes()} == {
            *("gate.mesh", "laptop.mesh", "good.mesh"),
        }
        await good.close()

    talk(site, what)


def test_a_connection_that_says_nothing_is_dropped(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        offset = 0.0
        clock = running.desk.clock
        running.desk.clock = lambda: clock() + offset
        own = running.coordinator._api
        silent = [socket.create_connection((HOME, running.port)) for _ in range(3)]
        await asyncio.sleep(0.05)
        own.look()
        offset = api.SILENCE + 1
        own.look()
        await asyncio.sleep(0.05)
        for each in silent:
            each.settimeout(5)
            assert each.recv(1) == b""
            each.close()
        assert running.desk.counters["connections_dropped"] == 3
        # The node's own connection has been of use, and stays.
        assert (await node.ask(running, "GET", "/v1/map"))[0] == 200

    talk(site, what)


def test_connections_of_one_address_are_bounded(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        many = [
            socket.create_connection((HOME, running.port), source_address=("127.9.9.9", 0))
            for _ in range(api.MAX_CONNECTIONS_OF_ADDRESS + 5)
        ]
        await asyncio.sleep(0.1)
        running.coordinator._api.look()
        assert running.desk.counters["connections_dropped"] == 5
        for each in many:
            each.close()

    talk(site, what)


# --- What is passed on ---


def test_signals_reach_whom_they_are_for(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        other = site.node("other")
        await running.join(other)
        ask = SignalRequest(other.public, SIGNAL)
        answer = await node.ok(running, SignalAnswer, "POST", "/v1/signal", ask)
        assert answer == SignalAnswer(False)
        async with other.socket(running) as ws, node.socket(running) as mine:
            await event(ws)
            answer = await node.ok(running, SignalAnswer, "POST", "/v1/signal", ask)
            assert answer == SignalAnswer(True)
            assert await signalled(ws) == Signalled(node.public, SIGNAL)
            await mine.send_str(wire.encode_event(ask).decode())
            assert await signalled(ws) == Signalled(node.public, SIGNAL)
            # Nobody hears what is for a stranger.
            await mine.send_str(
                wire.encode_event(SignalRequest(site.node().public, SIGNAL)).decode()
            )
            await mine.send_str(wire.encode_event(ask).decode())
            assert await signalled(ws) == Signalled(node.public, SIGNAL)
        await other.close()

    talk(site, what)


def test_signals_have_a_rate(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        async with node.socket(running) as ws:
            await event(ws)
            now = running.desk.clock()
            running.desk.clock = lambda: now
            for _ in range(100):
                await ws.send_str(wire.encode_event(SignalRequest(node.public, SIGNAL)).decode())
            await running.until("counted", lambda: running.desk.counters["events_too_many"] >= 60)
            for _ in range(40):
                await signalled(ws)
            assert running.desk.counters["events_too_many"] == 60

    talk(site, what)


@pytest.mark.parametrize("sent", ["", "{}", '{"type":"changed"}', '{"type":"signal"}', "[" * 999])
def test_a_node_that_talks_nonsense_is_cut_off(site: Site, sent: str) -> None:
    async def what(running: Running, node: Node) -> None:
        async with node.socket(running) as ws:
            await event(ws)
            await ws.send_str(sent)
            async for _ in ws:
                pass
            assert ws.close_code == api_socket.MALFORMED
        assert running.desk.counters["events_malformed"] == 1

    talk(site, what)


def test_one_connection_a_node(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        async with node.socket(running) as first:
            await event(first)
            async with node.socket(running) as second:
                await event(second)
                async for _ in first:
                    pass
                assert first.close_code == hub.ENDED
                assert len(running.desk.hub) == 1

    talk(site, what)


def test_a_connection_ends_with_its_session(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        async with node.socket(running) as ws:
            await event(ws)
            await running.coordinator._look_at_sessions()
            assert len(running.desk.hub) == 1
            node.gone()
            await running.coordinator._look_at_sessions()
            async for _ in ws:
                pass
            assert ws.close_code == hub.ENDED

    talk(site, what)


def test_reports_become_the_map(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        way = Way(running.desk.public, PathKind.DIRECT, "192.0.2.1:51820", 12.5, 0.0)
        assert await node.ok(running, Done, "POST", "/v1/report", Report((way,))) == Done()
        found = await node.ok(running, Map, "GET", "/v1/map")
        assert [(x.of, x.path) for x in found.paths] == [(node.public, way)]
        assert {x.name: x.connected for x in found.nodes} == {
            "gate.mesh": False,
            "laptop.mesh": False,
        }
        async with node.socket(running) as ws:
            await event(ws)
            later = Way(running.desk.public, PathKind.RELAY)
            await ws.send_str(wire.encode_event(Report((later,))).decode())
            await running.until(
                "heard", lambda: later in [x.path for x in running.desk.reports.paths(site.wall)]
            )

    talk(site, what)


def test_offers_wait_for_an_operator(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        route = parse_prefix("192.168.4.0/24")
        view = await node.ok(running, NodeView, "POST", "/v1/offer", OfferRequest((route,)))
        assert view.routes == ()
        record = await running.desk.call(running.desk.store.node, "laptop.mesh")
        assert record is not None
        assert record.offers == (route,)

    talk(site, what)


def test_relays_are_opened_by_what_the_secret_makes(site: Site) -> None:
    import base64
    import hmac
    from dataclasses import replace

    async def what(running: Running, node: Node) -> None:
        desk = running.desk
        settings = replace(desk.settings, turn=("turn:turn.example:3478",))
        await desk.call(desk.store.change_settings, settings)
        assert await node.refused(running, "GET", "/v1/turn") == (404, "no-relay")
        await desk.call(desk.store.set_turn_secret, "north")
        await running.until("told", lambda: desk.settings.turn)
        found = await node.ok(running, TurnCredentials, "GET", "/v1/turn")
        expires, _, name = found.username.partition(":")
        assert (float(expires), name) == (found.expires, "laptop.mesh")
        assert site.wall < found.expires <= site.wall + 86_400
        digest = hmac.new(b"north", found.username.encode(), "sha1").digest()
        assert found.password == base64.b64encode(digest).decode()
        assert found.uris == ("turn:turn.example:3478",)

    talk(site, what)


def test_our_own_node_is_one_as_well(site: Site) -> None:
    async def what(running: Running, node: Node) -> None:
        own = Node(site, running.desk.own, "127.0.0.1", "gate")
        site.table.sessions[own.public, parse_address("127.0.0.1")] = Caller(own.public)
        page = await own.ok(running, Directory, "GET", "/v1/directory?since=0")
        assert json.loads(wire.encode(page))["nodes"]
        await own.close()

    talk(site, what)
