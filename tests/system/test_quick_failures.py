"""What is left of a `wgpy up` that fails or is killed anywhere, and of a daemon that is killed."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace, wait_until
from tests.support.quick import DRIVER, Quick, machine

pytestmark = [pytest.mark.root, pytest.mark.tool("wireguard-go", "nft", "ip")]

# With hooks in all phases, one step of each kind.
INTERFACE = "Address = 10.1.0.1/24\nDNS = 10.1.0.53"
PEER = "AllowedIPs = 0.0.0.0/0, 10.55.0.0/16\nEndpoint = 192.0.2.1:5555"
STEPS = 14


@pytest.fixture
def quick(clean_machine: None, tmp_path: Path) -> Iterator[Quick]:
    with Namespace() as space:
        space.ip("tuntap", "add", "dev", "out0", "mode", "tun")
        space.ip("link", "set", "out0", "up")
        space.add_address("out0", "192.0.2.10/24")
        made = Quick(space, tmp_path)
        # A resolver that remembers the records it has, as files.
        records = tmp_path / "records"
        records.mkdir()
        made.stand_in(
            "resolvconf",
            f'case "$1" in -a) cat > "{records}/$2";; -d) rm -f "{records}/$2";; esac',
        )
        yield made
        made.call("down")
        assert list(records.iterdir()) == []


def _hooks(log: Path) -> str:
    """Hooks that keep a list of what is to be undone, as firewall hooks would."""
    return "\n".join(
        (
            f"PreUp = echo pre >> {log}",
            f"PostUp = echo post >> {log}",
            f"PreDown = sed -i /post/d {log}",
            f"PostDown = sed -i /pre/d {log}",
        )
    )


def test_killed_between_any_two_steps_down_restores(quick: Quick, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    before = machine(quick.space)
    quick.write(f"{INTERFACE}\n{_hooks(log)}", PEER)
    moment = 0
    while True:
        done = quick.call("up", "--die-at", str(moment))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        quick.down()
        assert machine(quick.space) == before, f"after death at moment {moment}"
        assert log.read_text() == "", f"after death at moment {moment}"
        assert not quick.journal().exists()
        moment += 1
    # Two moments for each step: when it is recorded, and when it is taken.
    assert moment == 2 * STEPS
    quick.down()
    assert machine(quick.space) == before


def test_killed_at_any_moment_up_works_again(quick: Quick) -> None:
    before = machine(quick.space)
    quick.write(INTERFACE, PEER)
    for moment in (0, 1, 5, 15, 22):
        assert quick.call("up", "--die-at", str(moment)).returncode == -signal.SIGKILL
        printed = quick.up()
        assert "was left half up or half down; undoing that first" in printed
        quick.down()
        assert machine(quick.space) == before, f"after death at moment {moment}"


def test_down_killed_at_any_moment_is_finished_by_the_next(quick: Quick, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    before = machine(quick.space)
    quick.write(f"{INTERFACE}\n{_hooks(log)}", PEER)
    for moment in range(0, 20, 4):
        quick.up()
        died = quick.call("down", "--die-at", str(moment)).returncode
        assert died == -signal.SIGKILL
        quick.down()
        assert machine(quick.space) == before, f"after death at moment {moment}"
        assert log.read_text() == ""


def _daemon(quick: Quick) -> int:
    pids = [
        pid
        for pid in quick.space.pids()
        if b"wireguard-go" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(pids) == 1
    return pids[0]


def _kill_daemon(quick: Quick) -> None:
    os.kill(_daemon(quick), signal.SIGKILL)
    wait_until(lambda: quick.name not in machine(quick.space)["links"], "the link's end")


@pytest.mark.parametrize("then", ["down", "up"])
def test_the_daemon_is_killed(quick: Quick, tmp_path: Path, then: str) -> None:
    log = tmp_path / "log"
    log.touch()
    before = machine(quick.space)
    quick.write(f"{INTERFACE}\n{_hooks(log)}", PEER)
    quick.up()
    _kill_daemon(quick)
    assert machine(quick.space) != before  # rules and tables are there yet
    if then == "up":
        quick.up()
        assert log.read_text() == "pre\npost\n"
    quick.down()
    assert machine(quick.space) == before
    assert log.read_text() == ""


def test_a_link_that_came_later_is_not_ours(quick: Quick) -> None:
    quick.write(INTERFACE, PEER)
    before = machine(quick.space)
    quick.up()
    _kill_daemon(quick)
    quick.space.ip("tuntap", "add", "dev", quick.name, "mode", "tun")
    quick.down()
    assert machine(quick.space)["rules"] == before["rules"]
    assert quick.name in machine(quick.space)["links"]


@pytest.mark.parametrize(
    ("interface", "peer", "said"),
    [
        ("PreUp = exit 3", "", "the PreUp hook `exit 3` failed: it exited with 3"),
        ("PostUp = exit 4", PEER, "the PostUp hook `exit 4` failed: it exited with 4"),
        ("Address = 10.9.0.1/24\nPostUp = kill -15 $PPID; sleep 9", PEER, "interrupted by SIGTERM"),
        ("Address = 10.9.0.1/24, ff02::1/64", PEER, "ip -6 address add ff02::1/64"),
        ("Address = 10.1.0.1/24", "AllowedIPs = 192.0.2.0/24", "goes through out0 already"),
        ("Address = 10.1.0.1/24", "Endpoint = [fe80::1%nosuch0]:5", "failed"),
        ("Table = 4294967295\nListenPort = 1", "Endpoint = nosuch.invalid:1", "failed"),
    ],
)
def test_a_step_that_fails_undoes_the_others(
    quick: Quick, tmp_path: Path, interface: str, peer: str, said: str
) -> None:
    log = tmp_path / "log"
    log.touch()
    before = machine(quick.space)
    quick.environment["WG_ENDPOINT_RESOLUTION_RETRIES"] = "0"
    quick.write(f"{interface}\n{_hooks(log)}", peer)
    last = quick.fail("up")
    assert said in last
    assert last.endswith("; everything was undone")
    assert machine(quick.space) == before
    assert log.read_text() == ""
    assert not quick.journal().exists()


@pytest.mark.parametrize(
    ("daemon", "said"),
    [
        ("echo something; echo the reason >&2; exit 5", "it exited with 5: the reason"),
        ("exit 0", "there is no link"),
    ],
)
def test_a_daemon_that_does_not_start(quick: Quick, daemon: str, said: str) -> None:
    before = machine(quick.space)
    quick.stand_in("bad-daemon", daemon)
    quick.environment["WGPY_DAEMON"] = str(quick.bin / "bad-daemon")
    quick.write("Address = 10.1.0.1/24", "")
    assert said in quick.fail("up")
    assert machine(quick.space) == before
    quick.environment["WGPY_DAEMON"] = "no-such-daemon"
    assert "WGPY_DAEMON names no-such-daemon" in quick.fail("up")


def test_what_cannot_be_undone_is_said_and_tried_again(quick: Quick) -> None:
    before = machine(quick.space)
    resolvconf = quick.bin / "resolvconf"
    good = resolvconf.read_text()
    quick.write(INTERFACE, PEER)
    quick.up()
    resolvconf.write_text('#!/bin/sh\n[ "$1" = -a ] || { echo broken >&2; exit 1; }\n')
    assert "exited with 1: broken" in quick.fail("down")
    assert machine(quick.space) == before  # all but the resolver
    assert quick.journal().exists()
    resolvconf.write_text(good)
    quick.down()
    assert not quick.journal().exists()


def test_two_at_once_one_is_refused(quick: Quick, tmp_path: Path) -> None:
    # Long enough for both below, however busy the machine is; never more than half a minute.
    done = tmp_path / "done"
    wait = f"for i in $(seq 300); do test -e {done} && break; sleep 0.1; done"
    quick.write(f"PreUp = {wait}", "")
    first = quick.space.popen(
        *(sys.executable, str(DRIVER), "up", str(quick.config), str(quick.run_directory)),
        env=quick.environment,
    )
    wait_until(quick.journal().exists, "the journal")
    assert f"another wgpy is working on {quick.name}" in quick.fail("up")
    assert f"another wgpy is working on {quick.name}" in quick.fail("down")
    done.touch()
    assert first.wait() == 0, first.output()
