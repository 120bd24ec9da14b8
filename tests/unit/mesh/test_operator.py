"""What an operator asks, by the socket and by the commands that ask there."""

import asyncio
import contextlib
import io
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.coordinating import Running, Site, event, prepare
from wgpy.cli import main
from wgpy.identity import token
from wgpy.identity.claims import CredentialError
from wgpy.identity.jwks import IssuerKey, Issuers, fingerprint
from wgpy.identity.settings import Limits
from wgpy.ip import parse_prefix
from wgpy.mesh import ask, operator_socket
from wgpy.mesh.ask import AskError
from wgpy.mesh.line import parse_line
from wgpy.mesh.messages import EnrolRequest, Joined, OfferRequest
from wgpy.mesh.operator_socket import OperatorSocket


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CA of all tests here."""
    return tmp_path_factory.mktemp("authorities")


@pytest.fixture
def site(tmp_path: Path, folder: Path) -> Iterator[Site]:
    """A network with a coordinator."""
    return prepare(str(tmp_path / "store"), folder)


@contextlib.asynccontextmanager
async def desk(site: Site, path: Path) -> AsyncIterator[Running]:
    """A coordinator with its operator's socket."""
    async with site.coordinator() as running:
        server = OperatorSocket(running.desk, site.tokens, path / "wg7.coordinator.sock")
        await server.start()
        try:
            yield running
        finally:
            await server.close()


async def said(path: Path, **question: Any) -> dict[str, Any]:
    """What is answered."""
    where = str(path / "wg7.coordinator.sock")
    return await asyncio.to_thread(ask.ask, where, question, "the coordinator")


async def no(path: Path, **question: Any) -> str:
    """The word of a refusal."""
    with pytest.raises(AskError) as refused:
        await said(path, **question)
    assert "\n" not in str(refused.value)
    return refused.value.word


def test_an_invitation_is_a_line_that_a_coordinator_takes(site: Site, tmp_path: Path) -> None:
    async def what() -> None:
        async with desk(site, tmp_path) as running:
            made = await said(
                tmp_path, ask="invite", name="laptop", groups=["laptops"], seconds=600
            )
            line = parse_line(made["line"])
            assert line.network == running.desk.settings.id
            assert line.domain == "mesh"
            (coordinator,) = line.coordinators
            assert coordinator.key == running.desk.public
            assert [str(x) for x in coordinator.endpoints] == ["192.0.2.1:51820"]
            gate = await running.desk.call(running.desk.store.node, "gate.mesh")
            assert gate is not None
            assert coordinator.addresses == tuple(x.address for x in gate.addresses)
            # The daemon of a coordinator takes the token, and nobody else's limits are in it.
            public = site.tokens.public
            limits = Limits(("mesh",), (), ())
            keys = [IssuerKey(site.tokens.kid, "EdDSA", public, limits, fingerprint(public))]
            node = site.node()
            found = token.verify_enrolment(
                line.token, Issuers(keys), line.network, site.wall, node.public
            )
            assert (found.name, found.jti, found.groups) == (
                "laptop.mesh",
                made["jti"],
                frozenset(),
            )
            with pytest.raises(CredentialError):
                token.verify_enrolment(
                    line.token, Issuers(keys), line.network, site.wall + 601, node.public
                )
            node.quarantine(made["jti"], "laptop.mesh")
            joined = await node.ok(running, Joined, "POST", "/v1/enrol", EnrolRequest("whatever"))
            assert (joined.node.name, joined.node.groups) == ("laptop.mesh", ("laptops",))
            listed = (await said(tmp_path, ask="invites"))["invites"]
            assert [(x["jti"], x["used"]) for x in listed] == [(made["jti"], 1)]

    asyncio.run(what())


def test_what_cannot_be_invited(site: Site, tmp_path: Path) -> None:
    async def what() -> None:
        async with desk(site, tmp_path):
            assert await no(tmp_path, ask="invite", groups=["emperors"]) == "group"
            assert await no(tmp_path, ask="invite", name="laptop", uses=2) == "uses"
            assert await no(tmp_path, ask="invite", name="gate") == "name-taken"
            assert await no(tmp_path, ask="invite", name="Gate") == "malformed"
            assert await no(tmp_path, ask="invite", name="x.elsewhere") == "bad-name"
            assert await no(tmp_path, ask="invite", uses=0) == "malformed"
            assert await no(tmp_path, ask="invite", uses=1_001) == "malformed"
            for seconds in (0, 59, 32 * 86_400):
                assert await no(tmp_path, ask="invite", seconds=seconds) == "expires"
            assert await no(tmp_path, ask="invite", colour="red") == "malformed"
            assert (await said(tmp_path, ask="invites"))["invites"] == []

    asyncio.run(what())


def test_an_invitation_is_taken_back(site: Site, tmp_path: Path) -> None:
    async def what() -> None:
        async with desk(site, tmp_path) as running:
            made = await said(tmp_path, ask="invite")
            assert (await said(tmp_path, ask="revoke-invite", jti=made["jti"]))["revoked"]
            assert await no(tmp_path, ask="revoke-invite", jti="nobody's") == "unknown-invite"
            node = site.node()
            node.quarantine(made["jti"])
            refused = await node.refused(running, "POST", "/v1/enrol", EnrolRequest("x"))
            assert refused == (410, "revoked")

    asyncio.run(what())


def test_nodes_are_removed_at_once_and_for_good(site: Site, tmp_path: Path) -> None:
    async def what() -> None:
        async with desk(site, tmp_path) as running:
            node = site.node("laptop")
            await running.join(node)
            async with node.socket(running) as ws:
                await event(ws)
                (found,) = [
                    x for x in (await said(tmp_path, ask="nodes"))["nodes"] if x["connected"]
                ]
                assert found["name"] == "laptop.mesh"
                assert (await said(tmp_path, ask="remove", name="laptop"))["state"] == "removed"
                async for _ in ws:
                    pass
            assert running.desk.counters["lists"] == 1
            names = {x["name"] for x in (await said(tmp_path, ask="nodes"))["nodes"]}
            assert names == {"gate.mesh"}
            every = (await said(tmp_path, ask="nodes", removed=True))["nodes"]
            assert {x["name"] for x in every} == {"gate.mesh", "laptop.mesh"}
            assert await no(tmp_path, ask="remove", name="laptop") == "unknown-node"
            assert await no(tmp_path, ask="remove", name="gate") == "ourselves"

    asyncio.run(what())


def test_rights_are_those_that_the_authority_may_give(site: Site, tmp_path: Path) -> None:
    async def what() -> None:
        async with desk(site, tmp_path) as running:
            node = site.node("router")
            await running.join(node)
            offers = OfferRequest((parse_prefix("192.168.4.0/24"),))
            await node.ask(running, "POST", "/v1/offer", _body(offers))
            ask_rights: dict[str, Any] = {"ask": "rights", "name": "router"}
            changed = await said(tmp_path, **ask_rights, offers=True)
            assert (changed["routes"], changed["groups"]) == (["192.168.4.0/24"], ["laptops"])
            changed = await said(tmp_path, **ask_rights, groups=["servers"], routes=[])
            assert (changed["routes"], changed["groups"]) == ([], ["servers"])
            assert await no(tmp_path, **ask_rights, groups=["emperors"]) == "group"
            assert await no(tmp_path, **ask_rights, routes=["0.0.0.0/0"]) == "route"
            assert await no(tmp_path, **ask_rights, routes=["192.168.4.1/24"]) == "malformed"
            assert await no(tmp_path, ask="rights", name="nobody") == "unknown-node"

    asyncio.run(what())


def _body(message: object) -> bytes:
    from wgpy.mesh import wire

    return wire.encode(message)


def test_settings_change_what_may_change(site: Site, tmp_path: Path) -> None:
    async def what() -> None:
        async with desk(site, tmp_path) as running:
            now = await said(tmp_path, ask="settings", set={"approval": True, "validity": 3_600})
            assert (now["approval"], now["validity"]) == (True, 3_600)
            await running.until("told", lambda: running.desk.settings.approval)
            assert await no(tmp_path, ask="settings", set={"domain": "other"}) != ""
            assert await no(tmp_path, ask="settings", set={"colour": 1}) == "malformed"
            assert await no(tmp_path, ask="settings", set=5) == "malformed"
            await said(tmp_path, ask="settings", turn_secret="north")
            assert await running.desk.call(running.desk.store.turn_secret) == "north"
            node = site.node("late")
            node.quarantine((await said(tmp_path, ask="invite"))["jti"])
            status, _ = await node.ask(running, "POST", "/v1/enrol", _body(EnrolRequest("late")))
            assert status == 202
            assert (await said(tmp_path, ask="approve", name="late"))["state"] == "active"
            assert await no(tmp_path, ask="approve", name="nobody") == "unknown-node"

    asyncio.run(what())


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{}\n", b'{"ask":[]}\n', b"\xff\n", b"x" * 9])
def test_nonsense_is_refused_and_others_are_answered(
    site: Site, tmp_path: Path, line: bytes
) -> None:
    def speak() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(tmp_path / "wg7.coordinator.sock"))
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            return client.makefile("rb").read()

    async def what() -> None:
        async with desk(site, tmp_path):
            assert os.stat(tmp_path / "wg7.coordinator.sock").st_mode & 0o777 == 0o600
            assert b'"error"' in await asyncio.to_thread(speak)
            assert (await said(tmp_path, ask="status"))["domain"] == "mesh"

    asyncio.run(what())


def test_a_socket_that_a_dead_coordinator_left_is_replaced(site: Site, tmp_path: Path) -> None:
    async def what() -> None:
        left = tmp_path / "wg7.coordinator.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left))
        async with desk(site, tmp_path):
            assert (await said(tmp_path, ask="status"))["nodes"] == 1
        assert not left.exists()
        left.write_text("mine")
        with pytest.raises(FileExistsError):
            async with desk(site, tmp_path):
                raise AssertionError("it took a file of somebody's")
        assert left.read_text() == "mine"

    asyncio.run(what())


# --- By the commands ---


def command(*words: str) -> tuple[int, str, str]:
    """What a command prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def test_the_commands_ask_and_print(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ask.ask_operator
    monkeypatch.setattr(ask, "ask_operator", lambda of, said: real(of, said, str(tmp_path)))
    monkeypatch.setenv("WG_COLOR_MODE", "never")

    async def run(*words: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(command, "mesh", *words, "--interface", "wg7")

    async def what() -> None:
        async with desk(site, tmp_path) as running:
            node = site.node("laptop")
            await running.join(node)
            code, text, _ = await run("invite", "--groups", "laptops,servers", "--expires", "90m")
            assert code == 0
            assert parse_line(text.splitlines()[0]).network == running.desk.settings.id
            assert "wgpy mesh join" in text
            _, text, _ = await run("invite", "--json", "--uses", "3", "--qr")
            assert json.loads(text)["uses"] == 3
            jti = json.loads(text)["jti"]
            _, text, _ = await run("invites")
            assert jti in text
            assert "0 of 3" in text
            _, text, _ = await run("invites", "--revoke", jti)
            assert "taken back" in text
            _, text, _ = await run("nodes")
            assert "gate.mesh *" in text
            assert "laptop.mesh" in text
            assert "\x1b" not in text
            _, text, _ = await run("rights", "laptop", "--groups", "servers", "--routes", "")
            assert "servers" in text
            code, _, error = await run("rights", "laptop")
            assert (code, "--groups" in error) == (1, True)
            _, text, _ = await run(
                "settings", "--approval", "on", "--endpoint", "laptop=192.0.2.9:5"
            )
            assert "approval: on" in text
            assert "laptop.mesh at 192.0.2.9:5" in text
            _, text, _ = await run("settings", "--endpoint", "laptop=")
            assert "laptop.mesh" not in text
            code, text, _ = await run("remove", "laptop")
            assert (code, "is removed" in text) == (0, True)
            code, _, error = await run("remove", "laptop")
            assert (code, error) == (1, "wgpy: there is no node laptop.mesh\n")
            code, _, error = await run("invite", "--expires", "soon")
            assert (code, "no duration" in error) == (1, True)

    asyncio.run(what())


def test_who_waits_too_long_is_let_go(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_socket, "_SECONDS", 0.05)

    def silent() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(tmp_path / "wg7.coordinator.sock"))
            return client.recv(100)

    async def what() -> None:
        async with desk(site, tmp_path) as running:
            assert await asyncio.to_thread(silent) == b""
            assert running.desk.counters["operator_broken"] == 1

    asyncio.run(what())
