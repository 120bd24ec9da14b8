"""The contract of a userspace WireGuard daemon, kept by wgpyd: start, end, descriptors, manager."""

import errno
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Process
from tests.support.netns import UAPI_DIRECTORY, Namespace, link_name, wait_until
from tests.support.requirements import program
from wgpy.device import client
from wgpy.device.uapi import DeviceChange, UapiError
from wgpy.linux.sandbox import DAEMON_CAPABILITIES
from wgpy.linux.tun import open_tun

pytestmark = [pytest.mark.root, pytest.mark.tool("ip"), pytest.mark.tool("setpriv")]

CLOEXEC = 0o2000000


@pytest.fixture
def space(clean_machine: None) -> Iterator[Namespace]:
    with Namespace("daemon") as made:
        yield made


@pytest.fixture
def name() -> Iterator[str]:
    made = link_name()
    yield made
    (UAPI_DIRECTORY / f"{made}.sock").unlink(missing_ok=True)


def socket_of(name: str) -> Path:
    return UAPI_DIRECTORY / f"{name}.sock"


def only_pid(space: Namespace) -> int:
    """The daemon's process; at its start it runs nft for a moment."""
    seen: list[int] = []

    def one() -> bool:
        seen[:] = space.pids()
        return len(seen) == 1

    wait_until(one, "one process")
    return seen[0]


def answers(name: str) -> bool:
    try:
        return client.get(name).wgpy_version is not None
    except UapiError:
        return False


def links(space: Namespace) -> str:
    return space.ip("-brief", "link")


def foreground(space: Namespace, name: str, *options: str, **env: str) -> Process:
    """wgpyd in the foreground, answering."""
    process = space.popen(program("wgpyd"), "-f", *options, name, env=env)
    wait_until(lambda: not process.running() or answers(name), "wgpyd to answer")
    assert process.running(), process.output()
    return process


def gone(space: Namespace, name: str) -> bool:
    return not socket_of(name).exists() and name not in links(space)


# --- Start ---


def test_it_goes_to_the_background_only_when_tun_and_socket_exist(
    space: Namespace, name: str
) -> None:
    done = space.run(program("wgpyd"), name)
    assert name in links(space)
    assert answers(name)
    assert (done.stdout, done.stderr) == ("", "")
    pid = only_pid(space)
    assert os.getsid(pid) == pid, "it is in a session of its own"
    for fd in range(3):
        assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: gone(space, name), "wgpyd to end")


def test_a_second_daemon_refuses_in_one_line(space: Namespace, name: str) -> None:
    first = foreground(space, name)
    for options in ((), ("-f",)):
        done = space.run(program("wgpyd"), *options, name, check=False)
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line == f"wgpyd: {name}: another wgpyd serves this interface"
    assert first.running()
    assert answers(name)
    assert name in links(space)


def test_a_daemon_in_another_namespace_holds_the_name_as_well(space: Namespace, name: str) -> None:
    """The socket's directory is one for all of them."""
    foreground(space, name)
    with Namespace("other") as other:
        done = other.run(program("wgpyd"), name, check=False)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
    assert answers(name)


def test_a_socket_that_another_program_serves_is_respected(space: Namespace, name: str) -> None:
    UAPI_DIRECTORY.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(socket_of(name)))
        other.listen()
        done = space.run(program("wgpyd"), name, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert name in line
    assert socket_of(name).exists()
    assert name not in links(space)


@pytest.mark.parametrize("background", [False, True])
def test_after_kill_9_it_starts_again(space: Namespace, name: str, background: bool) -> None:
    if background:
        space.run(program("wgpyd"), name)
        pid = only_pid(space)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not space.pids(), "it to die")
    else:
        first = foreground(space, name)
        first.child.kill()
        first.wait()
    assert socket_of(name).exists(), "a killed daemon leaves its socket"
    wait_until(lambda: name not in links(space), "the TUN to go with its owner")
    space.run(program("wgpyd"), name)
    assert answers(name)


@pytest.mark.parametrize("bad", ["", "a" * 16, "a/b", "a b", "wg0\n"])
def test_names_that_no_interface_can_have(space: Namespace, bad: str) -> None:
    done = space.run(program("wgpyd"), "--", bad, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_name_that_another_link_has_is_refused_in_one_line(space: Namespace, name: str) -> None:
    space.ip("link", "add", name, "type", "veth", "peer", "name", "other0")
    done = space.run(program("wgpyd"), name, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"wgpyd: {name}: ")
    assert not socket_of(name).exists()


def test_a_data_path_that_is_not_there_is_refused(space: Namespace, name: str) -> None:
    done = space.run(program("wgpyd"), name, check=False, env={"WGPY_DATAPATH": "quick"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "auto, native, portable" in line
    assert gone(space, name)


def test_it_tells_its_version(space: Namespace) -> None:
    assert space.run(program("wgpyd"), "--version").stdout.startswith("wgpyd ")


# --- End ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(space: Namespace, name: str, number: signal.Signals) -> None:
    process = foreground(space, name)
    process.child.send_signal(number)
    assert process.wait() == 0
    assert gone(space, name)
    assert "Traceback" not in process.output()
    assert number.name in process.output()


def test_it_ends_with_its_link(space: Namespace, name: str) -> None:
    process = foreground(space, name)
    space.ip("link", "del", name)
    assert process.wait() == 0
    assert gone(space, name)
    assert "its link was removed" in process.output()


def test_it_ends_with_its_link_when_that_is_up(space: Namespace, name: str) -> None:
    process = foreground(space, name)
    space.ip("link", "set", name, "up")
    wait_until(lambda: client.get(name).listen_port, "a port")
    space.ip("link", "del", name)
    assert process.wait() == 0
    assert gone(space, name)


def test_it_ends_with_its_socket(space: Namespace, name: str) -> None:
    process = foreground(space, name)
    socket_of(name).unlink()
    assert process.wait() == 0
    assert gone(space, name)
    assert "its control socket was removed" in process.output()


def test_it_ends_with_its_link_in_another_namespace(space: Namespace, name: str) -> None:
    process = foreground(space, name)
    with Namespace("away") as away:
        space.ip("link", "set", name, "netns", away.name)
        wait_until(lambda: name in links(away), "the link to move")
        assert answers(name)
        away.ip("link", "del", name)
        assert process.wait() == 0
    assert gone(space, name)


def test_it_ends_while_a_client_stays_connected(space: Namespace, name: str) -> None:
    process = foreground(space, name)
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(socket_of(name)))
        idle.send(b"get=1\n")
        process.child.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert "Traceback" not in process.output()


# --- Environment ---


def test_a_tun_can_be_handed_over(space: Namespace, name: str) -> None:
    tun = space.inside(lambda: open_tun(name))
    os.set_inheritable(tun.fd, True)
    process = space.popen(
        program("wgpyd"), "-f", name, env={"WG_TUN_FD": str(tun.fd)}, pass_fds=(tun.fd,)
    )
    wait_until(lambda: answers(name), "wgpyd to answer")
    tun.close()
    assert name in links(space), "the daemon holds it"
    process.child.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert gone(space, name)


def test_a_listening_socket_can_be_handed_over(space: Namespace, name: str) -> None:
    UAPI_DIRECTORY.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_of(name)))
        listener.listen()
        fd = listener.fileno()
        process = space.popen(
            program("wgpyd"), "-f", name, env={"WG_UAPI_FD": str(fd)}, pass_fds=(fd,)
        )
        wait_until(lambda: answers(name), "wgpyd to answer")
    assert answers(name)
    process.child.send_signal(signal.SIGTERM)
    assert process.wait() == 0


@pytest.mark.parametrize("variable", ["WG_TUN_FD", "WG_UAPI_FD"])
@pytest.mark.parametrize("value", ["x", "-1", "1.5", "\u0663", "999", "0", "9" * 30])
def test_descriptors_that_are_none_are_refused_in_one_line(
    space: Namespace, name: str, variable: str, value: str
) -> None:
    done = space.run(program("wgpyd"), name, check=False, env={variable: value})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("wgpyd: ")
    assert variable in line
    assert gone(space, name)


def test_the_foreground_can_be_asked_for_by_the_environment(space: Namespace, name: str) -> None:
    process = space.popen(program("wgpyd"), name, env={"WG_PROCESS_FOREGROUND": "1"})
    wait_until(lambda: answers(name), "wgpyd to answer")
    assert process.running()
    assert only_pid(space) == process.pid


@pytest.mark.parametrize(
    ("level", "said"),
    [("", True), ("verbose", True), ("debug", True), ("error", False), ("silent", False)],
)
def test_the_log_level_decides_what_is_said(
    space: Namespace, name: str, level: str, said: bool
) -> None:
    process = foreground(space, name, **({"LOG_LEVEL": level} if level else {}))
    process.child.send_signal(signal.SIGTERM)
    process.wait()
    assert (f"{name}: INFO: " in process.output()) == said
    assert said or process.output() == ""


def test_in_the_background_it_logs_where_it_was_asked_to(space: Namespace, name: str) -> None:
    done = space.run(program("wgpyd"), name, env={"LOG_LEVEL": "verbose"})
    assert done.returncode == 0
    pid = only_pid(space)
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/fd/2") != "/dev/null"


# --- Privileges ---


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_what_it_may_do(space: Namespace, name: str) -> None:
    process = foreground(space, name)
    seen = status(process.pid)
    wanted = sum(1 << capability for capability in DAEMON_CAPABILITIES)
    assert [int(seen[key], 16) for key in ("CapEff", "CapPrm", "CapBnd")] == [wanted] * 3
    assert [int(seen[key], 16) for key in ("CapInh", "CapAmb")] == [0, 0]
    assert seen["NoNewPrivs"] == "1"
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]


def test_every_descriptor_is_closed_on_exec(space: Namespace, name: str) -> None:
    process = foreground(space, name)
    space.ip("link", "set", name, "up")
    wait_until(lambda: client.get(name).listen_port, "a port")
    client.apply(name, DeviceChange(listen_port=0))
    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(str(socket_of(name)))
        connected.send(b"get=1\n\n")
        connected.recv(100)
        left_open = []
        for entry in Path(f"/proc/{process.pid}/fdinfo").iterdir():
            flags = entry.read_text().split("flags:")[1].split()[0]
            if int(entry.name) > 2 and not int(flags, 8) & CLOEXEC:
                left_open.append(os.readlink(f"/proc/{process.pid}/fd/{entry.name}"))
        assert left_open == []


def test_the_socket_and_the_lock_are_for_root_alone(space: Namespace, name: str) -> None:
    foreground(space, name)
    assert stat.S_IMODE(socket_of(name).stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(UAPI_DIRECTORY.stat().st_mode) & 0o022 == 0
    lock = Path(f"/run/wgpy/{name}.daemon.lock")
    assert stat.S_IMODE(lock.stat().st_mode) & 0o077 == 0


def test_a_key_log_is_warned_about(space: Namespace, name: str, tmp_path: Path) -> None:
    process = foreground(space, name, "--keylog", str(tmp_path / "keys"))
    assert f"every session's keys are written to {tmp_path / 'keys'}" in process.output()
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600


def test_a_key_log_that_cannot_be_written_is_refused(space: Namespace, name: str) -> None:
    done = space.run(program("wgpyd"), "--keylog", "/no/such/place", name, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"wgpyd: {name}: No such file")
    assert gone(space, name)


# --- The service manager ---


def test_the_manager_hears_of_readiness_life_and_the_end(
    space: Namespace, name: str, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        process = space.popen(
            program("wgpyd"),
            "-f",
            name,
            env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"},
        )
        heard = [manager.recv(100) for _ in range(6)]
        assert answers(name), "ready means that it answers"
        assert heard.count(b"READY=1") == 1
        assert heard.count(b"WATCHDOG=1") == 5
        process.child.send_signal(signal.SIGTERM)
        while (word := manager.recv(100)) == b"WATCHDOG=1":
            continue
        assert word == b"STOPPING=1"
    assert process.wait() == 0


# --- Ports at the edge ---


def test_a_taken_port_is_refused_and_the_link_waits_for_another(
    space: Namespace, name: str
) -> None:
    process = foreground(space, name)
    with space.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 41_000))
        client.apply(name, DeviceChange(listen_port=41_000))
        space.ip("link", "set", name, "up")
        wait_until(lambda: "cannot be bound" in process.output(), "the reason in the log")
        assert answers(name)
        with pytest.raises(UapiError) as caught:
            client.apply(name, DeviceChange(listen_port=41_000))
        assert caught.value.code in (errno.EADDRINUSE, -errno.EADDRINUSE)
    client.apply(name, DeviceChange(listen_port=41_000))
    assert client.get(name).listen_port == 41_000
