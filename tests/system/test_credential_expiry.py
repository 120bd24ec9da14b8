"""A credential of a few seconds between real daemons: the session ends with its last one, and goes
on without a gap where the next one came in time. `make portable` has the same on the other data
path."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import (
    BY_CA,
    GATE,
    IDENTITY,
    Bearer,
    Machine,
    Papers,
    Site,
    issue_papers,
    put,
)
from tests.support.netns import wait_until
from tests.support.traffic import Numbers, Pings

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd", "ip", "ping")]

DAY = 86_400
# Long enough for a daemon to start on a busy machine, and for a handshake 5 s after the first
# (whitepaper 6.4).
SECONDS = 20


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return issue_papers(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def site(clean_machine: None, papers: Papers, tmp_path: Path) -> Iterator[Site]:
    with Site(papers.ca.certificate, tmp_path) as made:
        yield made


@pytest.fixture
def desk(site: Site, papers: Papers) -> Machine:
    """A machine that is ready to start, and is given its certificate only then."""
    bearer = papers.ca.issue("desk.mesh", "10.7.0.9")
    space, _at = site.wire("desk")
    return site.place(bearer, space)


def begin(desk: Machine, papers: Papers, seconds: float) -> float:
    """Start it with a certificate of so many seconds; when that ends, in Unix seconds."""
    path = desk.directory / "me.pem"
    papers.ca("renew", "desk.mesh", "--days", f"{seconds / DAY:.9f}", "--out", path)
    desk.start(BY_CA, IDENTITY, papers.gate.table("10.91.0.1"))
    desk.space.ping(GATE)
    own = desk.state().claims
    assert own is not None
    return float(own.expiry)


def is_in(gate: Machine, bearer: Bearer) -> bool:
    """Whether the gate has a peer that was let in, and lets it through."""
    return bearer.name in gate.admitted()


def test_the_session_ends_with_its_certificate(site: Site, papers: Papers, desk: Machine) -> None:
    gate = site.gate(papers.gate)
    ends = begin(desk, papers, SECONDS)
    assert is_in(gate, desk.bearer)
    assert desk.space.can_ping(GATE)
    assert time.time() < ends, "the machine is too slow for this test"
    wait_until(lambda: not is_in(gate, desk.bearer), "the session to end", timeout=SECONDS + 20)
    assert time.time() >= ends, "it ended too soon"
    assert "the session of desk.mesh ends: its credential is over (expired)" in gate.log()
    assert gate.counter("credential_ended_expired") == 1
    # Nothing goes either way any more, nor does anything come of what it still holds.
    assert gate.peer(desk.bearer) is None
    assert not desk.space.can_ping(GATE)
    assert not gate.space.can_ping("10.7.0.9")
    # With the next one it is let in again: at once, or after a minute where it asked without one,
    # which it does when nobody has answered for 15 s.
    papers.ca("renew", "desk.mesh", "--days", "1", "--out", desk.directory / "next.pem")
    put(desk.directory / "me.pem", (desk.directory / "next.pem").read_bytes())
    wait_until(lambda: desk.space.can_ping(GATE), "the desk to be let in again", timeout=90)
    assert is_in(gate, desk.bearer)


def test_the_next_certificate_in_time_leaves_no_gap(
    site: Site, papers: Papers, desk: Machine
) -> None:
    """Pings and thousands of datagrams a second, over the renewal and over the old one's end."""
    gate = site.gate(papers.gate)
    begun = time.time()
    ends = begin(desk, papers, SECONDS)
    papers.ca("renew", "desk.mesh", "--days", "1", "--out", desk.directory / "next.pem")
    wait_until(lambda: time.time() > begun + 8, "the time for another handshake")
    pings = Pings(desk.space, GATE, int((ends - time.time() + 5) / 0.05))
    with Numbers(desk.space, gate.space, GATE) as numbers:
        put(desk.directory / "me.pem", (desk.directory / "next.pem").read_bytes())
        wait_until(lambda: expiry(gate, desk.bearer) > ends + DAY / 2, "the gate to have seen it")
        assert time.time() < ends, "the machine is too slow for this test"
        wait_until(lambda: time.time() > ends + 3, "the first one to be over", timeout=SECONDS)
    assert numbers.lost() == 0
    assert pings.lost() == 0
    counters = gate.state().counters
    assert counters["credential_admitted"] == 1, "it was in all the time"
    assert "credential_ended_expired" not in counters
    assert not {"gate_full", "gate_dropped", "gate_expired"} & counters.keys()


def expiry(gate: Machine, bearer: Bearer) -> float:
    """When the session of a peer ends."""
    seen = gate.peer(bearer)
    return 0.0 if seen is None or seen.claims is None else float(seen.claims.expiry)
