"""The coordinator's API on both stores: who is let in, what is refused, and what is told."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.coordinating import Node, Running, Site, event, prepare
from wgpy.identity.leaf import read_leaf
from wgpy.mesh import hub
from wgpy.mesh.messages import (
    Changed,
    Clock,
    Directory,
    Done,
    EnrolRequest,
    Joined,
    RenewRequest,
    Waiting,
)
from wgpy.mesh.records import NodeState

Talk = Callable[[Running, Site], Awaitable[None]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CA of all tests here: its keys take a while."""
    return tmp_path_factory.mktemp("authorities")


@pytest.fixture
def site(url: str, folder: Path) -> Iterator[Site]:
    """A network with a coordinator, on either store."""
    return prepare(url, folder)


def talk(site: Site, what: Talk) -> None:
    """Run a coordinator, and a conversation with it."""

    async def run() -> None:
        async with site.coordinator() as running:
            await what(running, site)

    asyncio.run(run())


async def close(*nodes: Node) -> None:
    for node in nodes:
        await node.close()


def test_a_machine_comes_in_and_is_told_of_others(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        one, two = site.node("Anna's Laptop"), site.node()
        joined = await running.join(one)
        leaf = read_leaf(joined.certificate)
        assert (leaf.name, leaf.key) == ("anna-s-laptop.mesh", one.public)
        assert leaf.rights.groups == ("laptops",)
        assert joined.node.addresses == leaf.addresses
        async with one.socket(running) as ws:
            first = await event(ws)
            assert first == Changed(running.desk.roll.revision)
            await running.until("followed", lambda: len(running.desk.roll) == 2)
            await running.join(two)
            told = first
            while not told.page or "n2.mesh" not in [x.name for x in told.page.nodes]:
                before, told = told, await event(ws)
                assert isinstance(told, Changed)
                assert told.page is not None
                # Each begins where the last ended.
                assert told.page.since <= before.revision < told.page.revision == told.revision
        whole = await one.directory(running)
        assert {x.name for x in whole.nodes} == {"gate.mesh", "anna-s-laptop.mesh", "n2.mesh"}
        assert [x.name for x in whole.nodes if x.coordinator] == ["gate.mesh"]
        assert whole.settings == running.desk.settings
        await close(one, two)

    talk(site, what)


def test_time_is_told_to_everybody_inside(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        node = site.node()
        status, body = await node.ask(running, "GET", "/v1/time", headers={})
        assert (status, body) == (200, b'{"time":1800000000.0}')
        assert Clock(1.8e9)
        await close(node)

    talk(site, what)


def test_asking_again_gives_the_same_node(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        node = site.node("laptop")
        jti = await running.invite()
        first = await running.join(node, jti)
        node.quarantine(jti)
        again = await node.ok(running, Joined, "POST", "/v1/enrol", EnrolRequest("laptop"))
        assert again.certificate == first.certificate
        assert (await running.desk.call(running.desk.store.invites))[0].used == 1
        await close(node)

    talk(site, what)


def test_two_machines_of_one_name(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        nodes = [site.node("laptop") for _ in range(4)]
        jti = await running.invite(uses=10)
        joined = await asyncio.gather(*(running.join(x, jti) for x in nodes))
        assert {x.node.name for x in joined} == {
            *("laptop.mesh", "laptop-2.mesh", "laptop-3.mesh", "laptop-4.mesh"),
        }
        # One that wants the very name is told so.
        late = site.node()
        late.quarantine(jti)
        said = await late.refused(running, "POST", "/v1/enrol", EnrolRequest("x", "laptop"))
        assert said == (409, "name-taken")
        await close(*nodes, late)

    talk(site, what)


def test_an_invitation_that_is_spent_expired_or_taken_back(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        first, second = site.node(), site.node()
        jti = await running.invite()
        await running.join(first, jti)
        ask = EnrolRequest(second.hostname)
        second.quarantine(jti)
        assert await second.refused(running, "POST", "/v1/enrol", ask) == (410, "spent")
        second.quarantine("unheard of")
        assert await second.refused(running, "POST", "/v1/enrol", ask) == (410, "unknown-invite")
        jti = await running.invite()
        await running.desk.call(running.desk.store.revoke_invite, jti)
        second.quarantine(jti)
        assert await second.refused(running, "POST", "/v1/enrol", ask) == (410, "revoked")
        jti = await running.invite()
        second.quarantine(jti)
        site.wall += 3_601
        assert await second.refused(running, "POST", "/v1/enrol", ask) == (410, "expired")
        await close(first, second)

    talk(site, what)


def test_approval_is_waited_for(site: Site) -> None:
    from dataclasses import replace

    async def what(running: Running, site: Site) -> None:
        desk = running.desk
        await desk.call(desk.store.change_settings, replace(desk.settings, approval=True))
        node = site.node("laptop")
        node.quarantine(await running.invite())
        ask = EnrolRequest("laptop")
        from wgpy.mesh import wire

        status, body = await node.ask(running, "POST", "/v1/enrol", wire.encode(ask))
        assert (status, wire.decode(Waiting, body)) == (202, Waiting())
        await desk.call(desk.store.approve, "laptop.mesh", site.wall, desk.issue)
        joined = await node.ok(running, Joined, "POST", "/v1/enrol", ask)
        assert joined.node.state is NodeState.ACTIVE
        await close(node)

    talk(site, what)


def test_removal_ends_the_connection_and_everybody_hears(site: Site, tmp_path: Path) -> None:
    async def what() -> None:
        async with site.coordinator(lists=tmp_path / "crl") as running:
            desk = running.desk
            one, two = site.node("one"), site.node("two")
            await running.join(one)
            await running.join(two)
            async with one.socket(running) as ws, two.socket(running) as stolen:
                await event(ws)
                await event(stolen)
                await desk.call(desk.store.remove, "two.mesh", site.wall)
                await desk.sign_list()
                lists: list[bytes] = []
                gone: list[str] = []
                while not lists or not gone:
                    told = await event(ws)
                    lists += told.page.crl
                    gone += [x.name for x in told.page.nodes if x.state is NodeState.REMOVED]
                assert gone == ["two.mesh"]
                async for _ in stolen:
                    pass
                assert stolen.close_code == hub.ENDED
            name = f"{desk.issuer.authority.key_id.hex()}.crl"
            assert (tmp_path / "crl" / name).read_bytes() == lists[0]
            assert await two.refused(running, "GET", "/v1/directory") == (403, "removed")
            page = await one.ok(running, Directory, "GET", "/v1/directory?since=0")
            assert page.crl == (lists[0],)
            assert {x.name for x in page.nodes} == {"gate.mesh", "one.mesh"}
            await close(one, two)

    asyncio.run(what())


def test_leaving_is_a_removal_of_ones_own(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        node = site.node("laptop")
        await running.join(node)
        assert await node.ok(running, Done, "POST", "/v1/leave", Done()) == Done()
        await running.until("removed", lambda: running.desk.roll.named("laptop.mesh") is None)
        assert await node.refused(running, "POST", "/v1/renew", RenewRequest()) == (403, "removed")
        await close(node)

    talk(site, what)


def test_renewal(site: Site) -> None:
    async def what(running: Running, site: Site) -> None:
        node = site.node("laptop")
        first = await running.join(node)
        same = await node.ok(running, Joined, "POST", "/v1/renew", RenewRequest())
        assert same.certificate == first.certificate
        forced = await node.ok(running, Joined, "POST", "/v1/renew", RenewRequest(True))
        assert read_leaf(forced.certificate).rights.generation == 2
        # While its intermediate is replaced, a network has two.
        running.desk.others = (b"the next",)
        both = await node.ok(running, Joined, "POST", "/v1/renew", RenewRequest())
        assert both.intermediates == (*first.intermediates, b"the next")
        await close(node)

    talk(site, what)
