"""The UAPI server over a real socket, with an interface in memory behind it."""

import asyncio
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.device.fake_interface import FakeInterface, connect, read_answers, served
from wgpy.device import server as server_module
from wgpy.device.server import MAX_CONNECTIONS, SocketInUseError, UapiServer
from wgpy.device.uapi import DeviceChange
from wgpy.device.uapi_codec import format_state
from wgpy.ip import parse_prefix

PEER = f"public_key={'ab' * 32}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wireguard" / "wgx.sock"


@pytest.fixture
def interface() -> FakeInterface:
    return FakeInterface()


@pytest.fixture
def server(interface: FakeInterface, path: Path) -> Iterator[UapiServer]:
    with served(interface, path) as running:
        yield running


@pytest.mark.usefixtures("server")
class TestConversation:
    def test_get_answers_with_the_state(self, interface: FakeInterface, path: Path) -> None:
        with connect(path) as client:
            client.sendall(b"get=1\n\n")
            assert read_answers(client, 1) == [format_state(interface.now) + "errno=0"]

    def test_set_is_applied_and_confirmed(self, interface: FakeInterface, path: Path) -> None:
        with connect(path) as client:
            client.sendall(b"set=1\nlisten_port=7\n\n")
            assert read_answers(client, 1) == ["errno=0"]
        assert interface.changes == [DeviceChange(listen_port=7)]

    def test_requests_may_be_sent_without_waiting(
        self, interface: FakeInterface, path: Path
    ) -> None:
        requests = b"".join(b"set=1\nlisten_port=%d\n\nget=1\n\n" % port for port in range(2, 60))
        with connect(path) as client:
            client.sendall(requests)
            answers = read_answers(client, 116)
        assert answers[0::2] == ["errno=0"] * 58
        shown = [answer.split("\n")[0] for answer in answers[1::2]]
        assert shown == [f"listen_port={port}" for port in range(2, 60)]

    def test_a_request_may_come_byte_by_byte(self, interface: FakeInterface, path: Path) -> None:
        with connect(path) as client:
            for byte in b"set=1\nlisten_port=9\n\n":
                client.sendall(bytes([byte]))
            assert read_answers(client, 1) == ["errno=0"]
        assert interface.now.listen_port == 9

    @pytest.mark.parametrize(
        ("request_lines", "answer"),
        [
            ("listen_port=5\nlisten_port=x", "errno=-22"),
            (f"replace_peers=true\n{PEER}\nfoo=1", "errno=-22"),
            ("listen_port=5\nfoo", "errno=-71"),
            ("listen_port=1", "errno=-98"),
            ("fwmark=13", "errno=-5"),
        ],
    )
    def test_a_refused_request_changes_nothing(
        self, interface: FakeInterface, path: Path, request_lines: str, answer: str
    ) -> None:
        before = format_state(interface.now)
        with connect(path) as client:
            client.sendall(f"set=1\n{request_lines}\n\nget=1\n\n".encode())
            assert read_answers(client, 2) == [answer, before + "errno=0"]
        assert interface.changes == []

    def test_a_fault_of_the_device_is_logged(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with connect(path) as client:
            client.sendall(b"set=1\nfwmark=13\n\n")
            assert read_answers(client, 1) == ["errno=-5"]
        assert "a fault of the device" in caplog.text

    def test_half_a_request_is_not_applied(self, interface: FakeInterface, path: Path) -> None:
        with connect(path) as client:
            client.sendall(b"set=1\nlisten_port=5\n")
            client.shutdown(socket.SHUT_WR)
            assert read_answers(client, 1) == ["errno=-71"]
            assert client.recv(1) == b""
        assert interface.changes == []

    def test_another_protocol_is_hung_up_on(self, path: Path) -> None:
        with connect(path) as client:
            client.sendall(b"hello\n\n")
            assert client.recv(100) == b""

    def test_a_line_without_end_is_refused(self, path: Path) -> None:
        with connect(path) as client:
            client.sendall(b"set=1\n" + b"a" * 70_000)
            assert read_answers(client, 1) == ["errno=-5"]

    def test_clients_that_vanish_do_no_harm(self, interface: FakeInterface, path: Path) -> None:
        many = "".join(f"allowed_ip=10.{i >> 8}.{i & 255}.0/24\n" for i in range(65_536))
        request = f"set=1\n{PEER}\n{many}\n".encode()
        for sent in (b"", b"get=1", b"get=1\n\n" * 50, request[:1_000_000]):
            client = connect(path)
            client.sendall(sent)
            client.close()
        with connect(path) as client:
            client.sendall(b"get=1\n\n")
            assert read_answers(client, 1)[0].endswith("errno=0")
        assert interface.changes == []

    def test_a_huge_request_is_read_whole(self, interface: FakeInterface, path: Path) -> None:
        wanted = [f"fd00::{i:x}/128" for i in range(65_280)]
        wanted += [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}/32" for i in range(65_280)]
        lines = "".join(f"allowed_ip={prefix}\n" for prefix in wanted)
        with connect(path) as client:
            client.sendall(f"set=1\n{PEER}\n{lines}\nget=1\n\n".encode())
            confirmed, state = read_answers(client, 2)
        assert confirmed == "errno=0"
        assert state.count("allowed_ip=") == len(wanted) == 130_560
        assert [a.prefix for a in interface.changes[0].peers[0].allowed_ips] == [
            parse_prefix(text) for text in wanted
        ]

    def test_others_are_answered_while_one_sends_a_huge_request(self, path: Path) -> None:
        with connect(path) as slow, connect(path) as quick:
            slow.sendall(f"set=1\n{PEER}\n".encode() + b"allowed_ip=10.0.0.0/8\n" * 30_000)
            quick.sendall(b"get=1\n\n")
            assert read_answers(quick, 1)[0].endswith("errno=0")
            slow.sendall(b"\n")
            assert read_answers(slow, 1) == ["errno=0"]


def test_connections_are_bounded_and_counted(server: UapiServer, path: Path) -> None:
    held = [connect(path) for _ in range(MAX_CONNECTIONS)]
    for client in held:
        client.sendall(b"get=1\n\n")
        read_answers(client, 1)
    with connect(path) as late:
        assert late.recv(1) == b""
    assert server.refused_connections == 1
    held.pop().close()
    # The place is free again as soon as the loop has noticed.
    for _ in range(1000):
        with connect(path) as late:
            late.sendall(b"get=1\n\n")
            try:
                if read_answers(late, 1):
                    break
            except ConnectionResetError:
                continue
    else:
        pytest.fail("the place of a connection that ended stays taken")
    for client in held:
        client.close()


def test_an_idle_connection_is_closed(
    interface: FakeInterface, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "IDLE_TIMEOUT", 0.05)
    with served(interface, path), connect(path) as client:
        client.sendall(b"set=1\nlisten_port=5\n")
        assert client.recv(1) == b""
    assert interface.changes == []


def speak_until_hung_up(connection: socket.socket) -> None:
    for _ in range(1000):
        time.sleep(0.01)
        connection.send(b"\n")


def test_a_client_that_does_not_read_is_dropped(
    interface: FakeInterface, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "IDLE_TIMEOUT", 0.1)
    # Far more than what the kernel keeps for a reader that is slow.
    interface.now.counters = {f"counter{i}": i for i in range(100_000)}
    with served(interface, path), connect(path) as deaf:
        deaf.sendall(b"get=1\n\n")
        # Its next words are not read either; they fail as soon as the other end is closed.
        with pytest.raises(BrokenPipeError):
            speak_until_hung_up(deaf)


class TestSocketFile:
    def test_only_its_owner_can_use_it(self, path: Path, interface: FakeInterface) -> None:
        umask = os.umask(0o000)
        try:
            with served(interface, path):
                assert stat.S_IMODE(path.stat().st_mode) == 0o700
                assert os.umask(0o000) == 0o000
        finally:
            os.umask(umask)

    def test_its_directory_can_be_looked_into(self, path: Path, interface: FakeInterface) -> None:
        umask = os.umask(0o077)
        try:
            with served(interface, path):
                assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
        finally:
            os.umask(umask)

    def test_what_a_dead_daemon_left_is_replaced(
        self, path: Path, interface: FakeInterface
    ) -> None:
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with served(interface, path), connect(path) as client:
            client.sendall(b"get=1\n\n")
            assert len(read_answers(client, 1)) == 1

    @pytest.mark.usefixtures("server")
    def test_a_living_daemon_is_not_replaced(self, path: Path) -> None:
        with pytest.raises(SocketInUseError, match="serves wgx already"):
            UapiServer(FakeInterface()).listen(path)
        with connect(path) as client:
            client.sendall(b"get=1\n\n")
            assert len(read_answers(client, 1)) == 1

    def test_a_file_that_is_no_socket_is_left_alone(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_text("precious")
        with pytest.raises(SocketInUseError, match="is no socket"):
            UapiServer(FakeInterface()).listen(path)
        assert path.read_text() == "precious"

    def test_it_goes_when_the_server_does(self, path: Path, interface: FakeInterface) -> None:
        with served(interface, path) as server:
            assert server.socket_present()
        assert not path.exists()

    def test_the_next_daemons_socket_is_not_removed(
        self, path: Path, interface: FakeInterface
    ) -> None:
        with served(interface, path) as server:
            path.rename(path.with_suffix(".old"))
            path.write_text("another's")
            assert not server.socket_present()
        assert path.read_text() == "another's"

    def test_removal_is_noticed(
        self, server: UapiServer, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "_POLL_INTERVAL", 0.001)

        async def scenario() -> None:
            waiting = asyncio.create_task(server.removed())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            path.unlink()
            await asyncio.wait_for(waiting, 10)

        asyncio.run(scenario())

    def test_a_socket_may_be_handed_over(self, tmp_path: Path, interface: FakeInterface) -> None:
        path = tmp_path / "handed.sock"
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(path))
        made.listen()
        fd = made.detach()
        os.set_inheritable(fd, True)
        server = UapiServer(interface)
        server.from_fd(fd)
        assert not os.get_inheritable(fd)

        async def scenario() -> None:
            await server.start()
            answers: list[str] = []

            def ask() -> None:
                with connect(path) as client:
                    client.sendall(b"get=1\n\n")
                    answers.extend(read_answers(client, 1))

            thread = threading.Thread(target=ask)
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0.001)
            assert len(answers) == 1
            await server.close()

        asyncio.run(scenario())
        assert not path.exists()

    def test_what_is_no_listening_socket_is_not_taken_over(self) -> None:
        with socket.socket(socket.AF_UNIX) as idle, socket.socket() as other:
            for candidate in (idle, other):
                with pytest.raises(OSError, match="no listening Unix socket"):
                    UapiServer(FakeInterface()).from_fd(candidate.fileno())
                assert candidate.fileno() >= 0


class TestBirth:
    """wg(8) removes a socket that refuses it, and lists the directory at any moment."""

    def test_the_socket_has_its_name_only_when_it_listens(self, tmp_path: Path) -> None:
        path = tmp_path / "wg0.sock"
        servers = [UapiServer(FakeInterface()) for _ in range(200)]
        seen: list[bool] = []
        ended = threading.Event()

        def knock() -> None:
            while not ended.is_set():
                with socket.socket(socket.AF_UNIX) as client:
                    client.setblocking(False)
                    try:
                        client.connect(str(path))
                    except (FileNotFoundError, BlockingIOError):
                        continue  # nobody is there, or has so many that it would have to wait
                    except ConnectionRefusedError:
                        seen.append(True)

        knocker = threading.Thread(target=knock)
        knocker.start()
        try:
            for server in servers:
                server.listen(path)
                path.unlink()
        finally:
            ended.set()
            knocker.join()
            for server in servers:
                asyncio.run(server.close())
        assert seen == []
        assert list(tmp_path.iterdir()) == [], "nothing is left of its birth"

    def test_another_that_was_faster_keeps_the_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "wg0.sock"
        link = os.link

        def late(source: Path, target: Path) -> None:
            path.touch()
            link(source, target)

        monkeypatch.setattr(os, "link", late)
        with pytest.raises(SocketInUseError, match="another daemon was faster"):
            UapiServer(FakeInterface()).listen(path)
        assert list(tmp_path.iterdir()) == [path]
