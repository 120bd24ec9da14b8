"""Credentials by every tool let in, and who came in is in no file, and in nothing that stays."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import openssl
from tests.support.certificates import NETWORK
from tests.support.mesh import (
    BY_CA,
    GATE,
    IDENTITY,
    TRUST,
    Authority,
    Bearer,
    Papers,
    Site,
    issue_papers,
    wgpy,
)
from tests.support.programs import new_keys
from tests.support.quick import machine as all_of
from tests.support.requirements import program
from tests.support.tunnel import PORT
from wgpy.keys import PrivateKey

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd", "wg", "ip", "ping")]

DAY = 86_400


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return issue_papers(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def site(clean_machine: None, papers: Papers, tmp_path: Path) -> Iterator[Site]:
    with Site(papers.ca.certificate, tmp_path) as made:
        yield made


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
