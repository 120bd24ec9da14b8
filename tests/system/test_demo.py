"""`wgpy demo` as a person runs it: what it shows, and that nothing of it stays."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.requirements import program
from wgpy.demo import daemons
from wgpy.demo.machines import ALICE, MACHINES
from wgpy.demo.namespace import exists

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd")]

# The demo takes four seconds; a test that waits this long has failed.
TIMEOUT = 60.0
IMPLEMENTATIONS = [
    "wgpyd",
    pytest.param("wireguard-go", marks=pytest.mark.tool("wireguard-go")),
]


def demo(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [program("wgpy"), "demo", *arguments], capture_output=True, text=True, timeout=TIMEOUT
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [program("wgpy"), "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_daemons() -> None:
    deadline = time.monotonic() + TIMEOUT
    while len(daemons.running()) < len(MACHINES):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def leftovers() -> list[str]:
    """Everything of a demo that is still there."""
    found = [f"process {pid}" for pid in daemons.running()]
    found += [machine.namespace for machine in MACHINES if exists(machine.namespace)]
    found += [str(machine.socket) for machine in MACHINES if machine.socket.exists()]
    return found


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    demo("--clean")
    yield
    demo("--clean")


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_demo_pings_measures_and_leaves_nothing(name: str) -> None:
    told = json.loads(demo("--json", "--implementation", program(name)).stdout)
    assert leftovers() == []
    for echoes in told["pings"]:
        assert all(time is not None for time in echoes["times"])
    assert len(told["pings"]) == len(told["machines"][0]["addresses"])
    assert told["tcp"]["bytes"] > 1_000_000
    alice, bob = told["machines"]
    assert alice["last_handshake"] > 0
    assert alice["sent"] > told["tcp"]["bytes"]
    assert bob["received"] > told["tcp"]["bytes"]


def test_demo_speaks_to_a_newcomer() -> None:
    said = demo().stdout
    for text in ("+-- alice", "+-- bob", "ping  10.77.0.2", "TCP", "handshake", "removed"):
        assert text in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_everything(number: signal.Signals) -> None:
    process = start()
    wait_for_daemons()
    process.send_signal(number)
    _, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + number
    assert said == f"wgpy: {number.name}: the demo was stopped and removed\n"
    assert leftovers() == []


def test_a_demo_that_was_killed_stops_no_next_one() -> None:
    process = start()
    wait_for_daemons()
    process.kill()
    process.communicate(timeout=TIMEOUT)
    demo("--json")
    assert leftovers() == []


def test_keep_then_clean() -> None:
    said = demo("--keep").stdout
    assert "wgpy demo --clean" in said
    assert len(leftovers()) == 6
    answer = subprocess.run(
        ["nsenter", f"--net=/run/netns/{ALICE.namespace}", "cat", "/proc/net/dev"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ALICE.interface in answer.stdout
    second = demo(check=False)
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "--clean" in second.stderr
    assert "removed" in demo("--clean").stdout
    assert leftovers() == []
    assert "no demo" in demo("--clean").stdout


@pytest.mark.parametrize("broken", ["/bin/false", "/nowhere/wgpyd"])
def test_a_daemon_that_fails_is_told_in_one_line(broken: str) -> None:
    done = demo("--json", "--implementation", broken, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("wgpy: ")
    assert done.stderr.count("\n") == 1
    assert leftovers() == []


def test_who_is_not_root_is_told_what_to_do() -> None:
    # Imported first: the files of a root's virtual environment may be closed to others.
    script = (
        "import os, wgpy.cli.demo, wgpy.demo.words; from wgpy.cli import main; "
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); raise SystemExit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 1
    assert done.stderr.startswith("wgpy: ")
    assert "sudo wgpy demo" in done.stderr
    assert done.stderr.count("\n") == 1
