"""Somebody sets the wall clock of a real daemon while a session lives.

The machine has one clock for all, so this daemon is told another time by libfaketime. Its boot
clock is the machine's.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import wait_until
from tests.support.mesh import BY_CA, GATE, IDENTITY, Authority, Machine, Site
from tests.support.programs import WGPY, Interface
from tests.support.requirements import program

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd", "ip", "ping", "faketime")]

DAY = 86_400
# Long enough for a daemon to start on a busy machine.
SECONDS = 30


class Clock:
    """What a daemon's wall clock is ahead of the machine's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0)

    def set(self, ahead: int) -> None:
        """Set it, to so many seconds ahead, or behind if they are negative."""
        temporary = self._path.with_suffix(".new")
        temporary.write_text(f"{ahead:+d}\n")
        os.replace(temporary, self._path)

    def shows(self) -> float:
        """What a program that has this clock reads from it, in Unix seconds."""
        environment = {**os.environ, **self.environment()}
        asked = [sys.executable, "-c", "import time; print(time.time())"]
        return float(subprocess.run(asked, capture_output=True, env=environment, check=True).stdout)

    def environment(self) -> dict[str, str]:
        """What a program needs to have this clock. faketime(1) knows where its library is."""
        shown = subprocess.run(
            [program("faketime"), "-f", "+0", "env"], capture_output=True, text=True, check=True
        ).stdout
        preload = dict(line.split("=", 1) for line in shown.splitlines())["LD_PRELOAD"]
        return {
            "LD_PRELOAD": preload,
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def site(clean_machine: None, ca: Authority, tmp_path: Path) -> Iterator[Site]:
    with Site(ca.certificate, tmp_path) as made:
        yield made


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


def gate_with(site: Site, ca: Authority, clock: Clock) -> Machine:
    gate = site.place(ca.issue("gate.mesh", GATE))
    gate.interface = Interface(site.space, WGPY, env=clock.environment())
    gate.start(BY_CA, IDENTITY)
    return gate


def test_set_forward_past_the_end_the_session_ends_and_set_right_it_comes_back(
    site: Site, ca: Authority, clock: Clock
) -> None:
    gate = gate_with(site, ca, clock)
    laptop = site.machine(ca.issue("laptop.mesh", "10.7.0.2"), gate.bearer)
    laptop.space.ping(GATE)
    assert gate.admitted() == {"laptop.mesh"}
    clock.set(30 * DAY)
    wait_until(lambda: not gate.admitted(), "the session to end", timeout=75)
    assert gate.counter("credential_ended_expired") == 1
    assert not laptop.space.can_ping(GATE)
    clock.set(0)
    wait_until(lambda: laptop.space.can_ping(GATE), "it to be let in again", timeout=100)
    assert gate.admitted() == {"laptop.mesh"}


@pytest.mark.parametrize("back", [240, 30 * DAY])
def test_set_back_the_session_ends_no_later(
    site: Site, ca: Authority, clock: Clock, back: int
) -> None:
    gate = gate_with(site, ca, clock)
    bearer = ca.issue("laptop.mesh", "10.7.0.2")
    space, _at = site.wire("laptop")
    laptop = site.place(bearer, space)
    path = laptop.directory / "me.pem"
    ca("renew", "laptop.mesh", "--days", f"{SECONDS / DAY:.9f}", "--out", path)
    laptop.start(BY_CA, IDENTITY, gate.bearer.table("10.91.0.1"))
    laptop.space.ping(GATE)
    own = laptop.state().claims
    assert own is not None
    assert gate.admitted() == {"laptop.mesh"}
    clock.set(-back)
    assert abs(clock.shows() - (time.time() - back)) < 5
    assert laptop.space.can_ping(GATE)
    assert time.time() < own.expiry, "the machine is too slow for this test"
    wait_until(lambda: not gate.admitted(), "the session to end", timeout=SECONDS + 10)
    assert time.time() >= own.expiry, "it ended too soon"
    assert gate.counter("credential_ended_expired") == 1
    assert not laptop.space.can_ping(GATE)
