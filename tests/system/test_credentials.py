"""Credentials end to end: `wgpy ca`, `wgpy token` and openssl make them, and daemons judge them."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import openssl
from tests.support.capture import Capture
from tests.support.certificates import NETWORK
from tests.support.mesh import (
    BY_CA,
    GATE,
    IDENTITY,
    TRUST,
    Authority,
    Bearer,
    Machine,
    Numbers,
    Pings,
    Site,
    put,
    wgpy,
)
from tests.support.netns import wait_until
from tests.support.programs import new_keys
from tests.support.quick import machine as all_of
from tests.support.requirements import program
from tests.support.tunnel import PORT, transfer
from wgpy.keys import PrivateKey

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd", "wg", "ip", "ping")]

SIZE = 3_000_000
DAY = 86_400


@dataclass(frozen=True)
class Papers:
    """A CA, and what it issued to three: once for all tests of this file."""

    ca: Authority
    gate: Bearer
    laptop: Bearer
    phone: Bearer


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    ca = Authority(tmp_path_factory.mktemp("ca"), "ca", "--group", "phones")
    return Papers(
        ca,
        ca.issue("gate.mesh", GATE),
        ca.issue("laptop.mesh", "10.7.0.2"),
        ca.issue("phone.mesh", "10.7.0.3", "phones"),
    )


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


@pytest.mark.tool("openssl")
def test_what_openssl_made_lets_in(site: Site, papers: Papers, tmp_path: Path) -> None:
    """A leaf below a root of openssl, and one of `wgpy ca issue` below its intermediate."""
    root = openssl.make_root(tmp_path)
    middle = Authority(tmp_path, "middle", "--request")
    openssl.sign_request(tmp_path, middle.directory / "ca.csr", middle.certificate)
    (middle.directory / "parent.pem").write_bytes(root.read_bytes())
    own = middle.issue("gate.mesh", GATE)
    below = middle.issue("desk.mesh", "10.7.0.9")
    private = PrivateKey.generate()
    openssl.make_leaf(tmp_path, private.public(), openssl.peer_extensions("tower.mesh", "10.7.0.8"))
    leaf = Bearer("tower.mesh", "10.7.0.8", private.public(), private, tmp_path / "peer.pem")
    trust = TRUST + f'ca = "{root}"\nintermediates = "{middle.certificate}"\n'
    gate = site.gate(own, trust, IDENTITY)
    for bearer in (leaf, below):
        machine = site.machine(bearer, own, trust, IDENTITY)
        machine.space.ping(GATE)
        gate.space.ping(bearer.address)
    assert gate.admitted() == {"tower.mesh", "desk.mesh"}


def test_an_intermediate_can_be_sent_along(site: Site, papers: Papers, tmp_path: Path) -> None:
    """To a gate that knows the root alone; without it the gate knows nobody."""
    middle = Authority(
        tmp_path,
        "middle",
        *("--parent", papers.ca.directory, "--parent-passphrase-file", papers.ca.secret),
    )
    bearer = middle.issue("desk.mesh", "10.7.0.9")
    gate = site.gate(papers.gate)
    desk = site.machine(bearer, papers.gate)
    assert not desk.space.can_ping(GATE)
    gate.counted("credential_unknown-issuer")
    # The gate does not listen to a refused key for a minute, unless its own trust changes.
    gate.load(BY_CA, IDENTITY)
    sent_along = IDENTITY + f'intermediate = "{middle.certificate}"\n'
    desk.load(BY_CA, sent_along, papers.gate.table(site.space.v4))
    desk.space.ping(GATE)
    assert gate.admitted() == {"desk.mesh"}


def test_a_token_in_place_of_a_certificate(site: Site, papers: Papers, tmp_path: Path) -> None:
    """On both sides; and the gate of tokens takes no certificate."""
    wgpy("token", "genkey", tmp_path / "issuer.key")
    (tmp_path / "issuer.jwks").write_text(wgpy("token", "jwks", tmp_path / "issuer.key"))
    trust = TRUST + (
        f'[[authority.token_issuer]]\njwks = "{tmp_path / "issuer.jwks"}"\nnames = ["mesh"]\n'
        'networks = ["10.7.0.0/16"]\ngroups = ["laptops"]\n'
    )
    identity = '[identity]\ntoken = "me.token"\n'
    made = {}
    for bearer in (papers.gate, papers.laptop):
        words = ("--key", tmp_path / "issuer.key", "--network", NETWORK.hex())
        about = ("--name", bearer.name, "--public-key", bearer.public.base64())
        where = ("--address", bearer.address, "--group", "laptops")
        made[bearer.name] = wgpy("token", "issue", *words, *about, *where)
    gate = site.place(papers.gate)
    (gate.directory / "me.token").write_text(made["gate.mesh"])
    gate.start(trust, identity)
    space, at = site.wire("laptop")
    laptop = site.place(papers.laptop, space)
    (laptop.directory / "me.token").write_text(made["laptop.mesh"])
    laptop.start(trust, identity, papers.gate.table(at))
    space.ping(GATE)
    gate.space.ping("10.7.0.2")
    peer = gate.shown()["peers"][papers.laptop.public.base64()]
    assert (peer["name"], peer["groups"]) == ("laptop.mesh", ["laptops"])
    assert peer["credential"]["kind"] == "token"
    assert abs(peer["credential"]["expires"] - time.time() - DAY) < 600
    phone = site.machine(papers.phone, papers.gate)
    assert not phone.space.can_ping(GATE)
    gate.counted("credential_unknown-issuer")
    assert gate.admitted() == {"laptop.mesh"}


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
    time.sleep(5.5)
    pings = Pings(desk.space, GATE, 60)
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
    wait_until(
        lambda: gate.shown()["credential"]["serial"] == following, "our own next certificate"
    )
    desk.load(BY_CA, IDENTITY, papers.gate.table("10.91.0.1"))
    desk.space.ping(GATE)
    (seen,) = desk.shown()["peers"].values()
    assert seen["credential"]["serial"] == following


def serial_of(path: Path) -> str:
    (shown,) = json.loads(wgpy("cert", "show", path, "--json"))
    return str(shown["serial"])


def test_a_restart_forgets_no_generation(site: Site, papers: Papers) -> None:
    """Who had the name before does not come back, and who has it does."""
    former = papers.ca.issue("moved.mesh", "10.7.0.50")
    latter = papers.ca.issue("moved.mesh", "10.7.0.50")
    gate = site.gate(papers.gate)
    one = site.machine(latter, papers.gate)
    one.space.ping(GATE)
    gate.interface.stop()
    gate.start(BY_CA, IDENTITY)
    other = site.machine(former, papers.gate)
    assert not other.space.can_ping(GATE)
    gate.counted("credential_old-generation")
    assert "is not let in: generation 1 of moved.mesh has been followed by 2" in gate.log()
    one.load(BY_CA, IDENTITY, papers.gate.table("10.91.0.1"))
    one.space.ping(GATE)
    assert gate.peer(latter) is not None
    assert gate.peer(former) is None


@pytest.mark.tool("nft")
def test_down_leaves_nothing(site: Site, papers: Papers) -> None:
    """An interface of a TOML file: everything that it brought is gone, the table as well."""
    before = all_of(site.space)
    gate = site.place(papers.gate)
    rules = '[[allow]]\nfrom = "group:laptops"\nto = "this"\n'
    path = gate.write(BY_CA, IDENTITY, rules)
    path.write_text(path.read_text().replace("[interface]", f'[interface]\naddress = "{GATE}/32"'))
    site.space.run(program("wgpy"), "up", str(path))
    try:
        laptop = site.machine(papers.laptop, papers.gate)
        laptop.space.ping(GATE)
        site.space.ping("10.7.0.2")
        assert gate.admitted() == {"laptop.mesh"}
        assert "10.7.0.2" in site.space.run("nft", "list", "ruleset").stdout
        kept = wgpy("showconf", gate.interface.name)
        assert papers.gate.public.base64() not in kept
        assert papers.laptop.public.base64() not in kept
    finally:
        site.space.run(program("wgpy"), "down", str(path))
    site.space.ip("link", "delete", "veth0")
    assert all_of(site.space) == before


def test_who_came_in_is_not_saved(site: Site, papers: Papers) -> None:
    gate = site.place(papers.gate)
    assert papers.gate.private is not None
    keys = new_keys()
    path = gate.directory / f"{gate.interface.name}.conf"
    path.write_text(
        f"[Interface]\nPrivateKey = {papers.gate.private.base64()}\nListenPort = {PORT}\n"
        f"Address = {GATE}/16\n[Peer]\nPublicKey = {keys.public}\nAllowedIPs = 10.9.0.1/32\n"
    )
    path.chmod(0o600)
    more = gate.directory / "more.toml"
    more.write_text(BY_CA + IDENTITY)
    more.chmod(0o600)
    site.space.run(program("wgpy"), "up", str(path))
    try:
        site.space.run(program("wgpy"), "addconf", gate.interface.name, str(more))
        laptop = site.machine(papers.laptop, papers.gate)
        laptop.space.ping(GATE)
        assert gate.admitted() == {"laptop.mesh"}
        site.space.run(program("wgpy"), "save", str(path))
        kept = path.read_text()
        assert keys.public in kept
        assert papers.laptop.public.base64() not in kept
        # The file has no part in it either: it leaves the authority and the peer as they are.
        stripped = gate.directory / "stripped.conf"
        stripped.write_text(wgpy("strip", path))
        stripped.chmod(0o600)
        site.space.run(program("wgpy"), "setconf", gate.interface.name, str(stripped))
        assert gate.admitted() == {"laptop.mesh"}
        laptop.space.ping(GATE)
    finally:
        site.space.run(program("wgpy"), "down", str(path))
