"""Sessions by credential between real daemons: how they begin, go on and end, and nothing else."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.capture import Capture
from tests.support.mesh import (
    BY_CA,
    GATE,
    IDENTITY,
    Authority,
    Bearer,
    Machine,
    Papers,
    Site,
    issue_papers,
    put,
    wgpy,
)
from tests.support.netns import wait_until
from tests.support.programs import new_keys
from tests.support.traffic import Numbers, Pings
from tests.support.tunnel import PORT, transfer

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd", "wg", "ip", "ping")]

SIZE = 3_000_000
DAY = 86_400


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return issue_papers(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def site(clean_machine: None, papers: Papers, tmp_path: Path) -> Iterator[Site]:
    with Site(papers.ca.certificate, tmp_path) as made:
        yield made


def came_in(gate: Machine, *bearers: Bearer) -> None:
    """Wait until exactly these are in."""
    names = {bearer.name for bearer in bearers}
    wait_until(lambda: gate.admitted() == names, f"{names or 'nobody'} alone to be in")


def test_strangers_reach_each_other(site: Site, papers: Papers) -> None:
    """And are shown with what their credentials say, to those who know of credentials."""
    gate = site.gate(papers.gate)
    laptop = site.machine(papers.laptop, papers.gate)
    laptop.space.ping(GATE)
    gate.space.ping("10.7.0.2")
    transfer(laptop.space, gate.space, GATE, SIZE)
    transfer(gate.space, laptop.space, "10.7.0.2", SIZE)

    serial = papers.laptop.serial
    text = wgpy("show", gate.interface.name)
    assert (
        f"peer: {papers.laptop.public.base64()}\n  name: laptop.mesh\n  groups: laptops\n"
        f"  certificate: serial {serial}, expires in 6 days\n" in text
    )
    shown = gate.shown()
    assert shown["name"] == "gate.mesh"
    assert shown["credential"]["serial"] == papers.gate.serial
    peer = shown["peers"][papers.laptop.public.base64()]
    assert (peer["name"], peer["groups"], peer["admitted"]) == ("laptop.mesh", ["laptops"], True)
    assert peer["credential"]["serial"] == serial
    assert peer["credential"]["expires"] == papers.laptop.expires
    # The laptop has seen who the gate is; the gate stays a peer of its configuration.
    seen = laptop.shown()["peers"][papers.gate.public.base64()]
    assert (seen["name"], seen["admitted"]) == ("gate.mesh", False)
    assert seen["expects"] == {"name": "gate.mesh", "expect": "certificate"}
    assert seen["credential"]["serial"] == papers.gate.serial

    plain = gate.interface.peer(papers.laptop.public.base64())
    assert (plain.allowed_ips, plain.endpoint) == ("10.7.0.2/32", f"10.91.0.2:{PORT}")
    assert plain.handshake > 0
    assert min(plain.rx, plain.tx) > SIZE
    assert papers.laptop.public.base64() not in wgpy("showconf", gate.interface.name)


def test_a_name_that_is_not_there_is_not_answered(site: Site, papers: Papers) -> None:
    gate = site.gate(papers.gate)
    space, at = site.wire("laptop")
    laptop = site.place(papers.laptop, space)
    with Capture(space, space.link) as capture:
        laptop.start(BY_CA, IDENTITY, papers.gate.table(at, name="other.mesh"))
        assert not space.can_ping(GATE)
        gate.counted("credential_wrong_name")
    assert sent_by(capture, "10.91.0.1") == []
    assert sent_by(capture, "10.91.0.2")[0] == (0x10, 1200)
    assert gate.admitted() == set()


def test_a_gate_that_proves_nothing_to_us_hears_no_more(
    site: Site, papers: Papers, tmp_path: Path
) -> None:
    """The gate takes the laptop's certificate; the laptop does not take the gate's."""
    foreign = Authority(tmp_path, "foreign").issue("gate.mesh", GATE, public=papers.gate.public)
    gate = site.place(papers.gate)
    put(gate.directory / "me.pem", foreign.certificate.read_bytes())
    gate.start(BY_CA, IDENTITY)
    space, at = site.wire("laptop")
    laptop = site.place(papers.laptop, space)
    with Capture(space, space.link) as capture:
        laptop.start(BY_CA, IDENTITY, papers.gate.table(at))
        assert not space.can_ping(GATE)
        laptop.counted("credential_unknown-issuer")
    assert [kind for kind, _ in sent_by(capture, "10.91.0.1")] == [0x11]
    assert [kind for kind, _ in sent_by(capture, "10.91.0.2")] == [0x10]
    key = papers.gate.public.base64()
    assert f"the answer of {key} is refused: " in laptop.log()
    assert gate.admitted() == set(), "nobody confirmed"


def sent_by(capture: Capture, source: str) -> list[tuple[int, int]]:
    """Type and length of each datagram of WireGuard's that came from an outer address."""
    address = bytes(map(int, source.split(".")))
    return [
        (frame[42], int.from_bytes(frame[38:40], "big") - 8)
        for _, frame in capture.frames
        if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[26:30] == address
    ]


def test_a_revoked_session_is_cut_and_no_other(site: Site, papers: Papers) -> None:
    lost = papers.ca.issue("lost.mesh", "10.7.0.77")
    gate = site.gate(papers.gate)
    thief = site.machine(lost, papers.gate)
    phone = site.machine(papers.phone, papers.gate)
    thief.space.ping(GATE)
    phone.space.ping(GATE)
    before = gate.peer(papers.phone)
    assert before is not None
    pings = Pings(phone.space, GATE, 60)
    put(gate.directory / "crl" / "ca.pem", papers.ca.revoke("--name", "lost.mesh"))
    came_in(gate, papers.phone)
    assert not thief.space.can_ping(GATE)
    assert pings.lost() == 0
    after = gate.peer(papers.phone)
    assert after is not None
    assert after.last_handshake == before.last_handshake
    assert gate.counter("credential_ended_revoked") == 1
    assert "the session of lost.mesh ends: " in gate.log()
    # It stays outside when it begins anew.
    thief.load(BY_CA, IDENTITY, papers.gate.table("10.91.0.1"))
    assert not thief.space.can_ping(GATE)
    gate.counted("credential_revoked")
    assert gate.admitted() == {"phone.mesh"}


def test_a_denied_key_is_cut_even_if_it_is_configured(site: Site, papers: Papers) -> None:
    gate = site.place(papers.gate)
    keys = new_keys()
    plain = f'[[peer]]\npublic_key = "{keys.public}"\nallowed_ips = "10.7.9.9/32"\n'
    gate.start(BY_CA, IDENTITY, plain)
    phone = site.machine(papers.phone, papers.gate)
    space, at = site.wire("plain")
    other = site.place(papers.laptop, space)
    other.interface.start()
    other.interface.setconf(
        f"[Interface]\nPrivateKey = {keys.private}\nListenPort = {PORT}\n"
        f"[Peer]\nPublicKey = {papers.gate.public.base64()}\nEndpoint = {at}:{PORT}\n"
        "AllowedIPs = 10.7.0.0/16\n"
    )
    other.interface.up("10.7.9.9/16")
    space.ping(GATE)
    phone.space.ping(GATE)
    pings = Pings(phone.space, GATE, 40)
    put(gate.directory / "crl" / "mine.deny", f"key {keys.public}\n".encode())
    wait_until(lambda: "is denied" in gate.log(), "the deny list to be read")
    assert not space.can_ping(GATE)
    assert not gate.space.can_ping("10.7.9.9")
    # Its next handshake is not answered either.
    other.interface.restart_sessions()
    assert not space.can_ping(GATE)
    assert gate.counter("denied_peer") >= 1
    assert pings.lost() == 0
    (gate.directory / "crl" / "mine.deny").unlink()
    wait_until(lambda: can_come_back(other), "the peer to be let in again", timeout=20)


def can_come_back(machine: Machine) -> bool:
    machine.interface.restart_sessions()
    return machine.space.can_ping(GATE)


def test_renewal_loses_nothing(site: Site, papers: Papers) -> None:
    """Pings and thousands of datagrams a second: the next certificate takes over among them."""
    bearer = papers.ca.issue("desk.mesh", "10.7.0.9")
    gate = site.gate(papers.gate)
    desk = site.machine(bearer, papers.gate)
    desk.space.ping(GATE)
    papers.ca("renew", "desk.mesh", "--out", desk.directory / "next.pem")
    following = serial_of(desk.directory / "next.pem")
    assert following != bearer.serial

    def is_renewed() -> bool:
        seen = gate.peer(bearer)
        return seen is not None and seen.claims is not None and seen.claims.serial == following

    # Nobody begins two handshakes within five seconds (whitepaper 6.4).
    before = gate.peer(bearer)
    assert before is not None
    seconds, nanoseconds = before.last_handshake
    after = seconds + nanoseconds / 1e9 + 5.1
    wait_until(lambda: time.time() > after, "the time for another")
    pings = Pings(desk.space, GATE, 40)
    with Numbers(desk.space, gate.space, GATE) as numbers:
        put(desk.directory / "me.pem", (desk.directory / "next.pem").read_bytes())
        wait_until(is_renewed, "the gate to have seen the next certificate")
    assert numbers.lost() == 0
    assert pings.lost() == 0
    counters = gate.state().counters
    assert not {"gate_full", "gate_dropped", "gate_expired"} & counters.keys()
    assert counters["credential_admitted"] == 1, "it was in all the time"
    # Ours is shown at once, to whoever shakes hands next.
    papers.ca("renew", "gate.mesh", "--out", gate.directory / "me.pem")
    following = serial_of(gate.directory / "me.pem")

    def shows_it() -> bool:
        own = gate.state().claims
        return own is not None and own.serial == following

    wait_until(shows_it, "our own next certificate")
    desk.load(BY_CA, IDENTITY, papers.gate.table("10.91.0.1"))
    desk.space.ping(GATE)
    (seen,) = desk.shown()["peers"].values()
    assert seen["credential"]["serial"] == following


def serial_of(path: Path) -> str:
    (shown,) = json.loads(wgpy("cert", "show", path, "--json"))
    return str(shown["serial"])
