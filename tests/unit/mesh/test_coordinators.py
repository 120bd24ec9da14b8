"""Two coordinators on one PostgreSQL, and one whose database, disk or issuer is away."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.coordinating import (
    Running,
    Site,
    add_coordinator,
    event,
    prepare,
    signalled,
)
from tests.support.postgres import Postgres
from wgpy.keys import PrivateKey
from wgpy.mesh import api_signal, wire
from wgpy.mesh.issuer import IssuerError, LocalIssuer
from wgpy.mesh.messages import (
    EnrolRequest,
    Joined,
    RenewRequest,
    SignalAnswer,
    Signalled,
    SignalRequest,
)
from wgpy.mesh.records import NodeRecord
from wgpy.mesh.store import Store

SECOND = PrivateKey(bytes([8]) * 32)
SIGNAL = bytes(wire.SIGNAL_LENGTH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CA of all tests here."""
    return tmp_path_factory.mktemp("authorities")


def both(url: str, folder: Path, what: Callable[[Running, Running, Site], Awaitable[None]]) -> None:
    """Two coordinators of one network, and a conversation."""
    site = prepare(url, folder)
    with contextlib.closing(Store(url)) as store:
        add_coordinator(site, store, "second.mesh", SECOND, "192.0.2.2:51820")

    async def run() -> None:
        async with site.coordinator() as one, site.coordinator(SECOND, "127.0.0.2") as other:
            await what(one, other, site)

    asyncio.run(run())


@pytest.mark.tool("pg_ctl")
def test_what_one_does_the_other_tells(postgres: Postgres, folder: Path) -> None:
    async def what(one: Running, other: Running, site: Site) -> None:
        first, second = site.node("first"), site.node("second")
        await one.join(first)
        await other.until("known", lambda: other.desk.roll.named("first.mesh"))
        async with first.socket(one) as ws:
            await event(ws)
            # The invitation of one is good at the other, and the first hears of who comes.
            jti = await one.invite()
            joined = await other.join(second, jti)
            assert joined.node.name == "second-2.mesh"
            told: set[str] = set()
            while "second-2.mesh" not in told:
                told |= {x.name for x in (await event(ws)).page.nodes}
            # Sealed signals go through the database.
            async with second.socket(other) as far:
                await event(far)
                ask = SignalRequest(second.public, SIGNAL)
                answer = await first.ok(one, SignalAnswer, "POST", "/v1/signal", ask)
                assert answer == SignalAnswer(True)
                assert await signalled(far) == Signalled(first.public, SIGNAL)
            await other.desk.call(other.desk.store.remove, "first.mesh", site.wall)
            async for _ in ws:
                pass
        await first.close()
        await second.close()

    with postgres.database() as url:
        both(url, folder, what)


@pytest.mark.tool("pg_ctl")
@pytest.mark.parametrize("which", [0, 1])
def test_either_may_end(postgres: Postgres, folder: Path, which: int) -> None:
    """Joins, renewals and signals go on at the one that is left."""

    async def what(one: Running, other: Running, site: Site) -> None:
        ends, stays = (one, other) if which == 0 else (other, one)
        nodes = [site.node(f"n{x}") for x in range(3)]
        await ends.join(nodes[0])
        await stays.until("known", lambda: stays.desk.roll.named("n0.mesh"))
        async with nodes[0].socket(ends) as ws:
            await event(ws)
            assert ends.task is not None
            ends.task.cancel()
            async for _ in ws:
                pass
        joined = await stays.join(nodes[1])
        renewed = await nodes[0].ok(stays, Joined, "POST", "/v1/renew", RenewRequest(True))
        assert renewed.intermediates == joined.intermediates
        assert {x.address for x in renewed.node.addresses}.isdisjoint(
            x.address for x in joined.node.addresses
        )
        async with nodes[0].socket(stays) as ws:
            await event(ws)
            ask = SignalRequest(nodes[0].public, SIGNAL)
            answer = await nodes[1].ok(stays, SignalAnswer, "POST", "/v1/signal", ask)
            assert answer == SignalAnswer(True)
            assert await signalled(ws) == Signalled(nodes[1].public, SIGNAL)
        for node in nodes:
            await node.close()

    with postgres.database() as url:
        both(url, folder, what)


@pytest.mark.tool("pg_ctl")
def test_both_let_in_at_once(postgres: Postgres, folder: Path) -> None:
    """No two nodes ever hold one address, or one name."""

    async def what(one: Running, other: Running, site: Site) -> None:
        jti = await one.invite(uses=20)
        nodes = [site.node("laptop") for _ in range(12)]
        joined = await asyncio.gather(
            *((one, other)[number % 2].join(node, jti) for number, node in enumerate(nodes))
        )
        assert len({x.node.name for x in joined}) == 12
        assert len({y for x in joined for y in x.node.addresses}) == 24
        for node in nodes:
            await node.close()

    with postgres.database() as url:
        both(url, folder, what)


@pytest.mark.tool("pg_ctl")
def test_a_database_that_goes_away_and_comes_back(tmp_path: Path, folder: Path) -> None:
    """What needs it is refused, what is known is told, and nothing acknowledged is lost."""

    async def what(url: str, server: Postgres) -> None:
        site = prepare(url, folder)
        async with site.coordinator() as running:
            node, late = site.node("node"), site.node("late")
            await running.join(node)
            jti = await running.invite()
            async with node.socket(running) as ws:
                await event(ws)
                await asyncio.to_thread(server.stop, "immediate")
                late.quarantine(jti)
                ask = EnrolRequest("late")
                assert await late.refused(running, "POST", "/v1/enrol", ask) == (503, "store")
                said = await node.refused(running, "POST", "/v1/renew", RenewRequest(True))
                assert said == (503, "store")
                assert {x.name for x in (await node.directory(running)).nodes} == {
                    *("gate.mesh", "node.mesh"),
                }
                assert len(running.desk.hub) == 1
                await asyncio.to_thread(server.start)
                joined = await late.ok(running, Joined, "POST", "/v1/enrol", ask)
                told: set[str] = set()
                while "late.mesh" not in told:
                    page = (await event(ws, 20)).page
                    told |= (
                        {x.name for x in page.nodes}
                        if page
                        else {x.name for x in (await node.directory(running)).nodes}
                    )
            assert joined.node.name == "late.mesh"
            assert {x.name for x in await running.desk.call(running.desk.store.nodes)} == {
                *("gate.mesh", "node.mesh", "late.mesh"),
            }
            await node.close()
            await late.close()

    with Postgres() as server, server.database() as url:
        asyncio.run(what(url, server))


def test_a_full_disk(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite cannot grow: a database of no more pages than it has is what a full disk is to it."""
    site = prepare(str(tmp_path / "store"), folder)

    async def what() -> None:
        async with site.coordinator() as running:
            node, late = site.node("node"), site.node("late")
            await running.join(node)
            jti = await running.invite()
            pages = _limit_pages(running.desk.store)
            assert pages > 0
            late.quarantine(jti)
            statuses = set()
            for number in range(200):
                machine = site.node(f"m{number}")
                machine.quarantine(await _invited(running, number) or jti)
                status, body = await machine.ask(
                    running, "POST", "/v1/enrol", wire.encode(EnrolRequest(machine.hostname))
                )
                await machine.close()
                statuses.add(status)
                if status == 503:
                    assert b"full" in body
                    break
            assert 503 in statuses
            before = {x.name for x in await running.desk.call(running.desk.store.nodes)}
            assert {x.name for x in (await node.directory(running)).nodes} <= before
            _limit_pages(running.desk.store, 1 << 30)
            joined = await late.ok(running, Joined, "POST", "/v1/enrol", EnrolRequest("late"))
            assert joined.node.name == "late.mesh"
            await node.close()
            await late.close()

    asyncio.run(what())


async def _invited(running: Running, number: int) -> str | None:
    try:
        return await running.invite()
    except Exception:  # the disk is full for invitations too
        return None


def _limit_pages(store: Store, pages: int | None = None) -> int:
    """How many pages the database may have, on each of its connections; None for those it has."""
    from sqlalchemy import event as engine_event

    engine = store._database._engine
    with engine.connect() as connection:
        found = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    limit = found if pages is None else pages
    engine.dispose()

    def limited(connection: object, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit}")  # type: ignore[attr-defined]

    engine_event.listen(engine, "connect", limited)
    return int(found)


class Locked:
    """An issuer whose key is away."""

    def __init__(self, real: LocalIssuer) -> None:
        self.authority, self.root = real.authority, real.root

    def issue(self, record: NodeRecord) -> bytes:
        """Never."""
        raise IssuerError("the signer does not answer")

    def sign_list(self, number: int, revocations: object) -> bytes:
        """Never."""
        raise IssuerError("the signer does not answer")


def test_an_issuer_that_is_away(tmp_path: Path, folder: Path) -> None:
    """Nobody is let in and no invitation is spent; revocations are in force when it is back."""
    site = prepare(str(tmp_path / "store"), folder)

    async def what() -> None:
        async with site.coordinator() as running:
            desk = running.desk
            real = desk.issuer
            node, late = site.node("node"), site.node("late")
            await running.join(node)
            jti = await running.invite()
            assert isinstance(real, LocalIssuer)
            desk.issuer = Locked(real)
            late.quarantine(jti)
            ask = EnrolRequest("late")
            assert await late.refused(running, "POST", "/v1/enrol", ask) == (503, "issuer")
            assert [x.used for x in await desk.call(desk.store.invites) if x.jti == jti] == [0]
            await desk.call(desk.store.remove, "node.mesh", site.wall)
            with pytest.raises(IssuerError):
                await desk.sign_list()
            assert await desk.call(desk.store.last_list, real.authority.key_id) is None
            desk.issuer = real
            # Nobody says it again: whoever follows the store sees that a list is missing.
            await running.until(
                "signed", lambda: desk.store.last_list(real.authority.key_id) is not None
            )
            assert (await running.join(late, jti)).node.name == "late.mesh"
            await node.close()
            await late.close()

    asyncio.run(what())


def test_a_restart_tells_who_was_removed_meanwhile(tmp_path: Path, folder: Path) -> None:
    site = prepare(str(tmp_path / "store"), folder)

    async def what() -> None:
        node, gone = site.node("node"), site.node("gone")
        async with site.coordinator() as running:
            await running.join(node)
            await running.join(gone)
            since = running.desk.roll.revision
        with contextlib.closing(Store(site.url)) as store:
            store.remove("gone.mesh", site.wall)
        async with site.coordinator() as running:
            status, body = await node.ask(running, "GET", f"/v1/directory?since={since}")
            from wgpy.mesh.messages import Directory

            page = wire.decode(Directory, body)
            assert (status, page.reset) == (200, False)
            assert [(x.name, x.state.value) for x in page.nodes] == [("gone.mesh", "removed")]
            # Who is ahead of us asks the store.
            status, body = await node.ask(
                running, "GET", f"/v1/directory?since={page.revision + 9}"
            )
            assert wire.decode(Directory, body).reset
            assert running.desk.counters["directory_from_store"] == 1
        await node.close()
        await gone.close()

    asyncio.run(what())


def test_nonsense_from_the_database_is_counted(tmp_path: Path, folder: Path) -> None:
    site = prepare(str(tmp_path / "store"), folder)

    async def what() -> None:
        async with site.coordinator() as running:
            for text in ("", "{}", "[" * 99, '{"origin":"x"}'):
                api_signal.take_post(running.desk, text)
            assert running.desk.counters["posts_malformed"] == 4

    asyncio.run(what())
