"""The process of a coordinator: what it waits for, what it gives up at, and how it ends."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.postgres import Postgres
from tests.unit.mesh.test_founding import PLAN
from wgpy.keys import PrivateKey, write_secret
from wgpy.mesh import coordinator_files, coordinator_run
from wgpy.mesh.ask import AskError, ask
from wgpy.mesh.coordinator_files import FilesError
from wgpy.mesh.coordinator_run import serve
from wgpy.mesh.founding import found
from wgpy.mesh.store import Store


def run(state: Path, what: Callable[[], Awaitable[None]] | None = None) -> None:
    """Serve until `what` is over, and then SIGTERM; or until it gives up."""

    async def both() -> None:
        serving = asyncio.create_task(serve("wg7", state=state, run=state / "run"))
        if what is not None:
            await what()
            os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(30):
            await serving

    try:
        asyncio.run(both())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


async def status(state: Path) -> dict[str, object]:
    """What it says of itself, as soon as it can."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(AskError):
                path = str(state / "run" / "wg7.coordinator.sock")
                return await asyncio.to_thread(ask, path, {"ask": "status"}, "it")
            await asyncio.sleep(0.05)


def test_a_machine_that_coordinates_nothing(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="mesh init"):
        run(tmp_path)


def test_a_signal_ends_it_though_its_tunnel_is_not_there(tmp_path: Path) -> None:
    """It cannot listen before the tunnel has its addresses; its operator is answered already."""
    found(PLAN, tmp_path)

    async def what() -> None:
        said = await status(tmp_path)
        assert (said["domain"], said["nodes"]) == ("mesh", 1)

    run(tmp_path, what)
    assert not (tmp_path / "run" / "wg7.coordinator.sock").exists()


def test_a_key_that_is_no_node_of_the_store(tmp_path: Path) -> None:
    found(PLAN, tmp_path)
    other = PrivateKey(bytes([3]) * 32).base64().encode()
    write_secret(tmp_path / "wg7.mesh" / "node.key", other + b"\n")
    with pytest.raises(FilesError, match="no node of the network"):
        run(tmp_path)
    (tmp_path / "wg7.mesh" / "node.key").write_text("no key")
    with pytest.raises(FilesError, match=r"node\.key"):
        run(tmp_path)


def test_a_passphrase_that_is_lost(tmp_path: Path) -> None:
    found(PLAN, tmp_path)
    (tmp_path / "wg7.mesh" / "coordinator" / "passphrase").write_text("another one\n")
    with pytest.raises(FilesError, match="passphrase"):
        run(tmp_path)
    (tmp_path / "wg7.mesh" / "coordinator" / "tokens.key").unlink()
    with pytest.raises(FilesError, match=r"tokens\.key"):
        run(tmp_path)


@pytest.mark.tool("pg_ctl")
def test_a_database_that_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator_run, "RETRY", 0.1)
    with Postgres() as server, server.database() as url:
        found(replace(PLAN, store=url), tmp_path)
        server.stop("immediate")

        async def what() -> None:
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.start)
            assert (await status(tmp_path))["nodes"] == 1

        run(tmp_path, what)


@pytest.mark.tool("pg_ctl")
def test_an_end_while_it_waits_for_its_database(tmp_path: Path) -> None:
    with Postgres() as server, server.database() as url:
        found(replace(PLAN, store=url), tmp_path)
        server.stop("immediate")

        async def what() -> None:
            await asyncio.sleep(0.5)

        run(tmp_path, what)
        server.start()


@pytest.mark.tool("pg_ctl")
def test_another_store_than_the_one_that_is_written_down(
    postgres: Postgres, tmp_path: Path
) -> None:
    found(PLAN, tmp_path)
    with postgres.database() as url, contextlib.closing(Store(url)):
        files = coordinator_files.read("wg7", tmp_path)
        coordinator_files.write("wg7", replace(files, store=url), tmp_path)
        with pytest.raises(FilesError, match="no node of the network"):
            run(tmp_path)
