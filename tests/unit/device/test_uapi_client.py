"""The UAPI client against our server, and against daemons that misbehave."""

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.device.fake_interface import FORBIDDEN_PORT, FakeInterface, served
from wgpy.device import client
from wgpy.device.uapi import Address, AllowedIpChange, DeviceChange, PeerChange, UapiError
from wgpy.ip import parse_prefix
from wgpy.keys import PublicKey

KEY = PublicKey(bytes(range(32)))


@pytest.fixture
def interface() -> FakeInterface:
    return FakeInterface()


@pytest.fixture
def directory(tmp_path: Path, interface: FakeInterface) -> Iterator[str]:
    """A directory in which `wg0` is served."""
    with served(interface, tmp_path / "wg0.sock"):
        yield str(tmp_path)


@contextlib.contextmanager
def answering(path: Path, answer: bytes, *, read: bool = True) -> Iterator[list[bytes]]:
    """A daemon that gives one connection a fixed answer; yields what it was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if read:
                        asked.append(connection.recv(1 << 16))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            # Wakes accept(), which close() alone does not.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_get_returns_the_state(interface: FakeInterface, directory: str) -> None:
    assert client.get("wg0", directory) == interface.now


def test_apply_changes_it(interface: FakeInterface, directory: str) -> None:
    change = DeviceChange(
        listen_port=9, peers=[PeerChange(KEY, endpoint=Address("::1", 5), endpoint_name=("h", 5))]
    )
    client.apply("wg0", change, directory)
    assert interface.changes == [change]


def test_a_huge_change_arrives_whole(interface: FakeInterface, directory: str) -> None:
    allowed = [AllowedIpChange(parse_prefix(f"fd00::{i:x}/128")) for i in range(65_536)]
    client.apply("wg0", DeviceChange(peers=[PeerChange(KEY, allowed_ips=allowed)]), directory)
    assert interface.changes[0].peers[0].allowed_ips == allowed
    assert len(client.get("wg0", directory).peers[0].allowed_ips) == 65_536


def test_a_refusal_says_what_and_why(directory: str) -> None:
    with pytest.raises(UapiError) as caught:
        client.apply("wg0", DeviceChange(listen_port=FORBIDDEN_PORT), directory)
    assert caught.value.code == errno.EADDRINUSE
    assert caught.value.reason == (
        "Unable to modify interface wg0: Address already in use; "
        "choose another listen port, or end what has this one"
    )


def test_interfaces_are_those_with_a_daemon(directory: str) -> None:
    place = Path(directory)
    (place / "notes.txt").write_text("")
    (place / "plain.sock").write_text("")
    (place / ".sock").write_text("")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place / "dead.sock"))
    assert client.list_interfaces(directory) == ["wg0"]
    # The next daemon replaces it; a client that looks must not.
    assert (place / "dead.sock").exists()


def test_no_directory_means_no_interfaces(tmp_path: Path) -> None:
    assert client.list_interfaces(str(tmp_path / "none")) == []


@pytest.mark.parametrize("name", ["", "a/b", "../wg0", "a\0b", "sixteen-letters-"])
def test_a_name_that_no_interface_has(name: str, directory: str) -> None:
    with pytest.raises(UapiError, match="no name of an interface"):
        client.get(name, directory)


def test_no_such_interface(tmp_path: Path) -> None:
    with pytest.raises(UapiError) as caught:
        client.get("wg7", str(tmp_path))
    assert caught.value.code == errno.ENODEV
    assert caught.value.reason == (
        "Unable to access interface wg7: No such device; `wgpy up wg7` makes it"
    )


def test_an_interface_without_a_daemon(tmp_path: Path) -> None:
    with pytest.raises(UapiError, match="no daemon serves it"):
        client.get("lo", str(tmp_path))


@pytest.mark.parametrize("answer", [b"", b"listen_port=5\n", b"listen_port=5\n\n", b"HTTP/1.1\n\n"])
def test_an_answer_that_is_none(answer: bytes, tmp_path: Path) -> None:
    with answering(tmp_path / "wg1.sock", answer), pytest.raises(UapiError) as caught:
        client.get("wg1", str(tmp_path))
    assert caught.value.code == errno.EPROTO
    assert caught.value.reason.startswith("Unable to access interface wg1: the daemon's answer")


def test_an_answer_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_LENGTH", 1000)
    with (
        answering(tmp_path / "wg1.sock", b"a=b\n" * 1000),
        pytest.raises(UapiError, match="Message too long"),
    ):
        client.get("wg1", str(tmp_path))


def test_a_daemon_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "wg1.sock"))
        silent.listen()
        with pytest.raises(UapiError, match="the daemon does not answer"):
            client.get("wg1", str(tmp_path))


def test_one_peer_is_asked_for(tmp_path: Path) -> None:
    answer = f"public_key={KEY.hex()}\nallowed_ip=10.7.0.2/32\nerrno=0\n\n"
    with answering(tmp_path / "wg1.sock", answer.encode()) as asked:
        (peer,) = client.get("wg1", str(tmp_path), peer=KEY).peers
    assert asked == [b"get=1\nwgpy_peer=" + KEY.hex().encode() + b"\n\n"]
    assert (peer.public_key, peer.allowed_ips) == (KEY, [parse_prefix("10.7.0.2/32")])


def test_a_refusal_half_way_through_is_read(tmp_path: Path) -> None:
    allowed = [AllowedIpChange(parse_prefix("10.0.0.0/8"))] * 100_000
    change = DeviceChange(peers=[PeerChange(KEY, allowed_ips=allowed)])
    with (
        answering(tmp_path / "wg1.sock", b"errno=-12\n\n", read=False),
        pytest.raises(UapiError) as caught,
    ):
        client.apply("wg1", change, str(tmp_path))
    assert caught.value.code in (errno.ENOMEM, errno.ECONNRESET)


def test_our_own_key_is_sent_to_our_own_daemon_only(tmp_path: Path) -> None:
    change = DeviceChange(
        peers=[PeerChange(KEY, endpoint=Address("192.0.2.1", 5), endpoint_name=("host", 5))]
    )
    with answering(tmp_path / "wg1.sock", b"errno=0\n\n") as asked:
        client.apply("wg1", change, str(tmp_path))
    assert asked[0] == b"get=1\n\n"
    assert b"endpoint=192.0.2.1:5\n" in asked[1]
    assert b"endpoint_name" not in asked[1]
    # What the caller holds is as it was.
    assert change.peers[0].endpoint_name == ("host", 5)


def test_an_old_daemon_and_the_removal_of_one_prefix(tmp_path: Path) -> None:
    allowed = [AllowedIpChange(parse_prefix("10.0.0.0/8"), remove=True)]
    change = DeviceChange(peers=[PeerChange(KEY, allowed_ips=allowed)])
    with (
        answering(tmp_path / "wg1.sock", b"errno=-22\n\n"),
        pytest.raises(UapiError, match="give the whole list"),
    ):
        client.apply("wg1", change, str(tmp_path))
