"""Forged credential initiations, thousands a second from made-up addresses, at a daemon with a
tunnel: nobody comes in, nothing grows, and the tunnel works."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import GATE, Authority, Machine, Site
from tests.support.netns import Namespace, Process
from tests.support.tunnel import PORT
from wgpy.protocol.constants import STRANGERS_PER_SECOND

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd", "wg", "ip", "ping")]

RATE = 5000
SECONDS = 3
# The largest table is that of sources, some 200 bytes each: a thousand a second get so far.
MOST_GROWTH = 16 << 20


@pytest.fixture
def site(clean_machine: None, tmp_path: Path) -> Iterator[Site]:
    ca = Authority(tmp_path)
    with Site(ca.certificate, tmp_path) as made:
        gate = made.gate(ca.issue("gate.mesh", GATE))
        made.machine(ca.issue("laptop.mesh", "10.7.0.2"), gate.bearer)
        yield made


def memory(machine: Machine) -> int:
    """What the daemon has resident, in bytes."""
    process = machine.interface.process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def flood(space: Namespace, gate: Machine, at: str, seconds: float) -> Process:
    """Start it."""
    key = gate.bearer.public.base64()
    words = ("-m", "tests.support.flood", key, at, str(PORT), str(RATE), str(seconds))
    return space.popen(sys.executable, *words)


def test_a_flood_lets_nobody_in_and_leaves_the_tunnel(site: Site) -> None:
    gate, laptop = site.machines
    laptop.space.ping(GATE)
    before = gate.peer(laptop.bearer)
    assert before is not None
    space, at = site.wire("flood")
    # The addresses that it makes up lead back to it, so that answers go out, and are none to ask.
    site.space.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
    site.space.ip("route", "add", "10.128.0.0/9", "via", space.v4)
    first = flood(space, gate, at, 1)
    assert first.wait() == 0, first.output()
    at_first = memory(gate)

    second = flood(space, gate, at, SECONDS)
    laptop.space.ping(GATE, 10, wait=20)
    site.space.ping("10.7.0.2", 10, wait=20)
    assert second.wait() == 0, second.output()
    sent = sum(int(each.output().split()[-2]) for each in (first, second))
    assert memory(gate) - at_first < MOST_GROWTH
    assert gate.admitted() == {"laptop.mesh"}
    assert len(gate.state().peers) == 1
    after = gate.peer(laptop.bearer)
    assert after is not None
    assert after.endpoint == before.endpoint
    counters = gate.state().counters
    shed = sum(n for name, n in counters.items() if name.startswith("shed_"))
    asked = counters.get("credential_cookie_replies_sent", 0)
    failed = counters.get("credential_unauthenticated", 0)
    assert shed > 0, "what was more than the daemon takes was dropped before it"
    # Under load who is not proved is asked for a cookie; before that, each cost one exchange and
    # was nobody's. A busy machine makes the flood last longer than it was asked to.
    assert failed > 0
    assert asked + failed < 4 * STRANGERS_PER_SECOND * (SECONDS + 1)
    # Each was one of these, but for what the socket had no room for.
    assert shed + asked + failed <= sent
    assert counters["credential_admitted"] == 1
    laptop.space.ping(GATE)
