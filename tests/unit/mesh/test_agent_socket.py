"""The socket at which an agent is asked: one line each way, and bounds for everything."""

import asyncio
import json
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from wgpy.mesh import agent_socket
from wgpy.mesh.agent_socket import MAX_QUESTION, AgentSocket, SocketError
from wgpy.mesh.ask import AskError, ask_agent


async def answer(question: dict[str, Any]) -> dict[str, Any]:
    if question.get("ask") == "no":
        raise SocketError("refused", "not today")
    return {"asked": question}


def serve(tmp_path: Path, client: Callable[[Path], Awaitable[None]]) -> None:
    async def run() -> None:
        path = tmp_path / "mesh0.mesh.sock"
        served = AgentSocket(path, answer)
        await served.open()
        try:
            await client(path)
        finally:
            await served.close()
        assert not path.exists()

    asyncio.run(run())


async def say(path: Path, text: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(text)
    writer.write_eof()
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_a_question_has_an_answer(tmp_path: Path) -> None:
    async def client(path: Path) -> None:
        found = await asyncio.to_thread(ask_agent, "mesh0", {"ask": "status"}, str(tmp_path))
        assert found == {"asked": {"ask": "status"}}
        with pytest.raises(AskError, match="not today") as caught:
            await asyncio.to_thread(ask_agent, "mesh0", {"ask": "no"}, str(tmp_path))
        assert caught.value.word == "refused"

    serve(tmp_path, client)


def test_it_is_for_root_alone(tmp_path: Path) -> None:
    async def client(path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    serve(tmp_path, client)


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"hello\n", b"[]\n", b"[" * 5000 + b"\n", b"\xff\n", b'{"ask":\n']
)
def test_what_is_no_question_is_told_so(tmp_path: Path, text: bytes) -> None:
    async def client(path: Path) -> None:
        assert json.loads(await say(path, text))["error"] == "malformed"

    serve(tmp_path, client)


def test_what_is_too_long_is_not_read(tmp_path: Path) -> None:
    async def client(path: Path) -> None:
        assert await say(path, b"a" * (2 * MAX_QUESTION) + b"\n") == b""
        # And the next one has its turn.
        assert json.loads(await say(path, b'{"ask":"x"}\n')) == {"asked": {"ask": "x"}}

    serve(tmp_path, client)


def test_who_says_nothing_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_socket, "ASK_TIMEOUT", 0.05)

    async def client(path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            assert await reader.read() == b""
        except ConnectionError:
            return
        finally:
            writer.close()

    serve(tmp_path, client)


def test_a_socket_of_a_dead_agent_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mesh0.mesh.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def client(path: Path) -> None:
        assert json.loads(await say(path, b'{"ask":"x"}\n')) == {"asked": {"ask": "x"}}

    serve(tmp_path, client)
