"""The namespaces that the other tests stand on: joined, isolated, and gone afterwards."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.netns import (
    LINK_PREFIX,
    UAPI_DIRECTORY,
    CommandError,
    Namespace,
    Pair,
    remove_leftovers,
    wait_until,
)
from tests.support.requirements import ROOT
from tests.support.wire import Faults, faulty_pair

pytestmark = [pytest.mark.root, pytest.mark.tool("ip"), pytest.mark.tool("ping")]

# A process that makes a namespace with a program in it, tells their names, and waits.
FORGETFUL = """
import time
from pathlib import Path
from tests.support.netns import Namespace, wait_until
space = Namespace("forgotten")
pid = space.popen("sleep", "1000").pid
# Until then it is ip(8), which does not yet die with its parent.
wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\\n", "the program")
print(space.name, pid, flush=True)
time.sleep(1000)
"""


def _exists(pid: int) -> bool:
    """Whether the process runs; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_both_families_reach_the_other_side(net: Pair) -> None:
    for here, there in ((net.left, net.right), (net.right, net.left)):
        here.ping(there.v4)
        here.ping(there.v6)
        here.ping("127.0.0.1")
        here.ping("::1")


def test_mtu_is_that_of_both_ends(net: Pair) -> None:
    net.set_mtu(9000)
    for here, there in ((net.left, net.right), (net.right, net.left)):
        here.run("ping", "-n", "-c1", "-M", "do", "-s", "8972", there.v4)
        with pytest.raises(CommandError):
            here.run("ping", "-n", "-c1", "-W1", "-M", "do", "-s", "8973", there.v4)


def test_a_failure_is_one_line_that_says_what_was_said(net: Pair) -> None:
    with pytest.raises(CommandError) as caught:
        net.left.run("ls", "/nowhere")
    assert "\n" not in str(caught.value)
    assert "`ls /nowhere` exited with 2" in str(caught.value)
    assert "No such file" in str(caught.value)
    with pytest.raises(CommandError, match="did not end in"):
        net.left.run("sleep", "10", timeout=0.1)


def test_a_socket_belongs_to_the_namespace(net: Pair) -> None:
    with (
        net.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        net.right.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.settimeout(5)
        receiver.bind((net.right.v4, 0))
        sender.sendto(b"hello", receiver.getsockname())
        data, (source, _) = receiver.recvfrom(100)
    assert (data, source) == (b"hello", net.left.v4)


def test_programs_end_with_the_namespace_even_daemons() -> None:
    with Namespace("short") as space:
        process = space.popen("sleep", "1000")
        space.run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &")
        wait_until(lambda: len(space.pids()) == 2, "the two programs")
        pids = space.pids()
        assert process.pid in pids
    assert not any(_exists(pid) for pid in pids)
    assert not Path("/run/netns", space.name).exists()


def test_a_program_ends_when_its_life_is_over() -> None:
    with Namespace("short") as space:
        process = space.popen("sleep", "1000", life=0.1)
        assert process.wait(10) == -signal.SIGKILL


def test_nothing_is_left_when_a_test_fails() -> None:
    seen: list[tuple[str, int]] = []

    def fail() -> None:
        with Namespace("failing") as space:
            seen.append((space.name, space.popen("sleep", "1000").pid))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    ((name, pid),) = seen
    assert not Path("/run/netns", name).exists()
    assert not _exists(pid)


def test_leftovers_of_a_dead_run_are_removed_and_others_kept(net: Pair) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORGETFUL], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        name, pid = child.stdout.readline().split()
        stale = UAPI_DIRECTORY / f"{LINK_PREFIX}{child.pid}x0.sock"
        ours = UAPI_DIRECTORY / f"{LINK_PREFIX}{os.getpid()}x999999.sock"
        # Of somebody whose interface has such a name by chance.
        other = UAPI_DIRECTORY / f"my{stale.name}"
        UAPI_DIRECTORY.mkdir(parents=True, exist_ok=True)
        try:
            for path in (stale, ours, other):
                path.touch()
            assert name not in remove_leftovers()
            child.kill()
            child.wait()
            # Its programs end with it, by the kernel's hand.
            wait_until(lambda: not _exists(int(pid)), "the end of an orphan")
            removed = remove_leftovers()
            assert {name, stale.name} <= set(removed)
            assert ours.exists()
            assert other.exists()
        finally:
            for path in (stale, ours, other):
                path.unlink(missing_ok=True)
    assert not Path("/run/netns", name).exists()
    net.left.ping(net.right.v4)


@pytest.mark.usefixtures("clean_machine")
def test_a_wire_does_what_it_is_told() -> None:
    with faulty_pair(seed=3) as (net, wire):
        net.left.ping(net.right.v4, 3)
        net.left.ping(net.right.v6, 3)
        assert wire.counts.lost == 0
        assert wire.counts.carried == len(wire.frames) >= 12
        wire.faults = Faults(loss=1.0)
        assert not net.left.can_ping(net.right.v4)
        assert wire.counts.lost >= 1
        wire.faults = Faults(duplication=1.0)
        said = net.left.run("ping", "-n", "-c5", "-i0.05", net.right.v4).stdout
        assert "DUP" in said
        wire.faults = Faults(delay=0.05)
        said = net.left.run("ping", "-n", "-c2", net.right.v4).stdout
        assert float(said.rpartition("= ")[2].split("/")[0]) >= 100
        wire.faults = Faults()
        wire.drop = lambda origin, frame: origin == 1
        assert not net.left.can_ping(net.right.v4)
