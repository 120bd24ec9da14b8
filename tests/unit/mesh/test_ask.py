"""Questions to the agent's and the operator's socket, and everything that may come back."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wgpy.mesh import ask
from wgpy.mesh.ask import AskError


@contextmanager
def answering(path: str, answer: bytes) -> Iterator[list[bytes]]:
    """Somebody at a socket who reads one line and answers with these bytes."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(10)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                heard.append(lines.readline())
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        thread.join(10)
        assert not thread.is_alive()


def test_one_line_out_and_one_in(tmp_path: Path) -> None:
    path = ask.agent_socket("wg0", str(tmp_path))
    with answering(path, b'{"state": "connected"}\n') as heard:
        assert ask.ask_agent("wg0", {"ask": "status"}, str(tmp_path)) == {"state": "connected"}
    assert [json.loads(x) for x in heard] == [{"ask": "status"}]


def test_a_refusal_is_told_in_its_own_words(tmp_path: Path) -> None:
    path = ask.operator_socket("wg0", str(tmp_path))
    with (
        answering(path, b'{"error": "name-taken", "message": "a is taken"}\n'),
        pytest.raises(AskError, match="a is taken") as caught,
    ):
        ask.ask_operator("wg0", {"ask": "approve"}, str(tmp_path))
    assert caught.value.word == "name-taken"


@pytest.mark.parametrize("answer", [b"", b"\n", b"[1]\n", b'{"a": \n', b"[" * 5000 + b"\n"])
def test_what_is_no_answer_is_one_error(tmp_path: Path, answer: bytes) -> None:
    with (
        answering(ask.agent_socket("wg0", str(tmp_path)), answer),
        pytest.raises(AskError, match="no JSON"),
    ):
        ask.ask_agent("wg0", {}, str(tmp_path))


def test_an_answer_without_an_end_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "MAX_ANSWER_LENGTH", 1000)
    with (
        answering(ask.agent_socket("wg0", str(tmp_path)), b"x" * 1001),
        pytest.raises(AskError, match="Message too long"),
    ):
        ask.ask_agent("wg0", {}, str(tmp_path))


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(AskError, match="does not run here"):
        ask.ask_agent("wg0", {}, str(tmp_path))


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 16, "a\0b"])
def test_a_name_that_is_no_interface_becomes_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(AskError, match="no name of an interface"):
        ask.ask_agent(name, {}, str(tmp_path))


def test_the_only_interface(tmp_path: Path) -> None:
    with pytest.raises(AskError, match="no mesh runs here"):
        ask.only_interface(str(tmp_path))
    (tmp_path / "wg1.mesh.sock").touch()
    (tmp_path / "wg1.coordinator.sock").touch()
    assert ask.only_interface(str(tmp_path)) == "wg1"
    (tmp_path / "wg0.mesh.sock").touch()
    with pytest.raises(AskError, match="wg0, wg1"):
        ask.only_interface(str(tmp_path))
    assert ask.interfaces(str(tmp_path / "no")) == []
