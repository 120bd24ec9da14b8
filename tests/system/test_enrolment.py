"""A machine that has a token and nothing else, and a coordinator: what it reaches, for how long,
and how it comes in. Real daemons, on both data paths.

    gate  10.7.0.1, fd09::1      laptop  10.7.0.2 (a certificate)      joiner  (a token)
"""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import NETWORK
from tests.support.commands import CommandError
from tests.support.mesh import (
    BY_CA,
    GATE,
    IDENTITY,
    Authority,
    Bearer,
    Machine,
    Site,
    put,
    wgpy,
)
from tests.support.netns import Namespace, wait_until
from tests.support.programs import WGPY, Implementation, Interface
from tests.support.requirements import ROOT, program
from tests.support.tunnel import PORT
from wgpy.device.uapi import PeerState
from wgpy.identity.claims import Kind
from wgpy.identity.derived import quarantine_address, quarantine_range
from wgpy.ip import address_text

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd", "nft", "wg", "ip", "ping")]

INSIDE, LAPTOP = "fd09::1", "10.7.0.2"
API, OTHER = 7100, 7101
ENROLS = 'enrol = true\n[[authority.token_issuer]]\njwks = "issuer.jwks"\nnames = ["mesh"]\n'
ENROLS += 'networks = ["10.7.0.0/16"]\ngroups = ["laptops"]\n'


@dataclass(frozen=True, slots=True)
class Brief(Implementation):
    """Our daemon, with a quarantine of QUARANTINE_LIFE seconds."""

    def command(self, link: str) -> list[str]:
        script = ROOT / "tests" / "support" / "brief_wgpyd.py"
        return [sys.executable, str(script), *self.options, link]


@dataclass(frozen=True, slots=True)
class Bare(Implementation):
    """Our daemon, on a machine that has no programs."""

    def command(self, link: str) -> list[str]:
        return ["env", "PATH=/nowhere", program(self.tool), *self.options, link]


class Issuer:
    """Who signs tokens to enrol, by `wgpy token`."""

    def __init__(self, directory: Path) -> None:
        self._key = directory / "issuer.key"
        wgpy("token", "genkey", self._key)
        self.jwks = wgpy("token", "jwks", self._key)

    def token(self) -> str:
        words = ("--network", NETWORK.hex(), "--name", "joiner.mesh", "--group", "laptops")
        return wgpy("token", "issue", "--key", self._key, "--enrol", *words)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture
def site(clean_machine: None, ca: Authority, tmp_path: Path) -> Iterator[Site]:
    with Site(ca.certificate, tmp_path) as made:
        yield made


@dataclass
class Place:
    """The gate with its issuer, and who is to enrol there."""

    gate: Machine
    joiner: Machine
    issuer: Issuer
    own: Bearer

    @property
    def home(self) -> str:
        """The joiner's address in quarantine."""
        prefix = quarantine_address(NETWORK, self.joiner.bearer.public)
        return address_text(prefix.address)

    def quarantined(self) -> PeerState | None:
        """The joiner, as the gate has it in quarantine."""
        found = self.gate.peer(self.joiner.bearer)
        inside = found is not None and found.claims and found.claims.kind is Kind.ENROLMENT
        return found if inside else None

    def enrol(self) -> None:
        """The joiner shows its token, and is in quarantine when this returns."""
        at = self.joiner.space.v4.rpartition(".")[0] + ".1"
        table = (
            f'[[peer]]\npublic_key = "{self.own.public.base64()}"\nendpoint = "{at}:{PORT}"\n'
            f'credential = true\nexpect = "key"\nallowed_ips = ["fd00::/8", "10.7.0.0/16"]\n'
        )
        put(self.joiner.directory / "me.token", self.issuer.token().encode())
        self.joiner.load('[identity]\ntoken = "me.token"\n', table)
        reaches(self.joiner.space, INSIDE, API)
        wait_until(lambda: self.quarantined() is not None, "the joiner to be in quarantine")


def build(
    site: Site, ca: Authority, directory: Path, life: float, datapath: str, rules: str = ""
) -> Place:
    """The gate, where others may enrol, and a joiner that has done nothing yet."""
    env = {"QUARANTINE_LIFE": str(life), "WGPY_DATAPATH": datapath}
    issuer = Issuer(directory)
    own = ca.issue("gate.mesh", GATE)
    gate = site.place(own)
    gate.interface = Interface(gate.space, Brief("brief wgpy", "wgpyd"), env=env)
    (gate.directory / "issuer.jwks").write_text(issuer.jwks)
    gate.start(BY_CA + ENROLS, IDENTITY, rules)
    gate.space.add_address(gate.interface.name, f"{INSIDE}/64")
    gate.space.ip("route", "add", str(quarantine_range(NETWORK)), "dev", gate.interface.name)
    for name in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
        gate.space.run("sysctl", "-qw", name)
    space, _at = site.wire("joiner")
    joiner = site.place(ca.issue("joiner.mesh", "10.7.0.4"), space)
    joiner.interface = Interface(space, WGPY, env=env)
    joiner.start()
    place = Place(gate, joiner, issuer, own)
    space.add_address(joiner.interface.name, f"{place.home}/128")
    space.ip("route", "add", "fd09::/64", "dev", joiner.interface.name, "src", place.home)
    return place


def reaches(space: Namespace, address: str, port: int, wait: float = 0.7) -> str:
    """What becomes of a TCP connection: `open`, `refused`, or `silence`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with space.socket(family, socket.SOCK_STREAM) as caller:
        caller.settimeout(wait)
        try:
            caller.connect((address, port))
        except TimeoutError:
            return "silence"
        except ConnectionRefusedError:
            return "refused"
    return "open"


def listen(space: Namespace, address: str, port: int) -> socket.socket:
    """A TCP socket that takes connections."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = space.socket(family, socket.SOCK_STREAM)
    listener.bind((address, port))
    listener.listen(16)
    return listener


def told(listener: socket.socket, sender: socket.socket, address: tuple[str, int]) -> bool:
    """Whether a datagram arrives."""
    listener.settimeout(0.5)
    sender.sendto(b"hello", address)
    try:
        listener.recv(100)
    except TimeoutError:
        return False
    return True


DATAPATHS = ["portable", "native"]


# No rule of a person's opens the wall.
OPEN = '[[allow]]\nfrom = "any"\nto = "any"\n'


@pytest.mark.parametrize(("datapath", "rules"), [("portable", OPEN), ("native", "")])
def test_it_reaches_one_port_and_nothing_else(
    site: Site, ca: Authority, tmp_path: Path, datapath: str, rules: str
) -> None:
    place = build(site, ca, tmp_path, 300, datapath, rules)
    gate, joiner = place.gate, place.joiner
    laptop = site.machine(ca.issue("laptop.mesh", LAPTOP), place.own)
    laptop.space.ping(GATE)
    with ExitStack() as stack:
        for space, address, port in (
            (gate.space, "::", API),
            (gate.space, "::", OTHER),
            (gate.space, "0.0.0.0", API),
            (joiner.space, "::", API),
            (joiner.space, "::", OTHER),
            (laptop.space, "0.0.0.0", API),
        ):
            listener = space.socket(
                socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM
            )
            if ":" in address:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, port))
            listener.listen(16)
            stack.enter_context(listener)
        place.enrol()
        assert reaches(joiner.space, INSIDE, API, 10) == "open"
        assert shown(place) == f"as joiner.mesh, by the token {jti(place)}"

        asked = ("firewall", "test", gate.interface.name, place.home, "this")
        assert wgpy(*asked, str(API)).startswith("allowed: ")
        with pytest.raises(CommandError):
            wgpy(*asked, str(OTHER))

        # Other ports and protocols of the same address.
        assert reaches(joiner.space, INSIDE, OTHER) == "silence"
        assert not joiner.space.can_ping(INSIDE)
        udp = stack.enter_context(gate.space.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        udp.bind(("::", API))
        caller = stack.enter_context(joiner.space.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        assert not told(udp, caller, (INSIDE, API))
        # Other addresses of the gate, which routes them: its cables', and one of another link.
        gate.space.add_address("lo", "fd09:7::1/128")
        joiner.space.ip("route", "add", "fd09:7::/64", "dev", joiner.interface.name)
        assert reaches(joiner.space, "fd09:7::1", API) == "silence"
        # v4, with an address that a certificate would give: there is none for it.
        assert reaches(joiner.space, GATE, API) == "silence"
        assert reaches(joiner.space, LAPTOP, API) == "silence"
        assert not joiner.space.can_ping(LAPTOP)
        # Nor does anybody reach it: not the gate, and not by the gate.
        assert reaches(gate.space, place.home, API) == "silence"
        assert reaches(gate.space, place.home, OTHER) == "silence"
        assert not gate.space.can_ping(place.home)
        assert place.quarantined() is not None
        assert reaches(joiner.space, INSIDE, API) == "open", "and that goes on"

        # Somebody flushes everything: the wall is there again.
        gate.space.run("nft", "flush", "ruleset")
        wait_until(
            lambda: "from-quarantine" in gate.space.run("nft", "list", "ruleset").stdout,
            "the wall to come back",
        )
        assert reaches(joiner.space, INSIDE, OTHER) == "silence"
        assert reaches(joiner.space, INSIDE, API, 10) == "open"
    # Who is in by a certificate never noticed any of this.
    laptop.space.ping(GATE)


@pytest.mark.parametrize("datapath", DATAPATHS)
def test_it_ends_and_a_certificate_lets_in(
    site: Site, ca: Authority, tmp_path: Path, datapath: str
) -> None:
    place = build(site, ca, tmp_path, 4, datapath)
    gate, joiner = place.gate, place.joiner
    with listen(gate.space, "::", API), ExitStack() as stack:
        place.enrol()
        # A connection that is there when it ends.
        kept = stack.enter_context(joiner.space.socket(socket.AF_INET6, socket.SOCK_STREAM))
        kept.settimeout(5)
        kept.connect((INSIDE, API))
        gate.counted("credential_quarantine_ended_over")
        assert gate.peer(joiner.bearer) is None
        assert place.home not in tracked(gate)

        # It comes again by the same key, is enrolled, and shows its certificate.
        place.enrol()
        at = joiner.space.v4.rpartition(".")[0] + ".1"
        joiner.load(BY_CA, IDENTITY, place.own.table(at))
        joiner.space.ping(GATE)
        found = gate.peer(joiner.bearer)
        assert found is not None
        assert found.claims is not None
        assert (found.claims.kind, found.claims.name) == (Kind.CERTIFICATE, "joiner.mesh")
        assert list(map(str, found.allowed_ips)) == ["10.7.0.4/32"]
        assert gate.counter("credential_enrolled") == 1
        assert place.home not in tracked(gate)
        # No wall is around it now, nor does the quarantine's end concern it.
        assert reaches(joiner.space, GATE, OTHER, 5) == "refused"
        joiner.space.run("sleep", "5")
        assert gate.admitted() == {"joiner.mesh"}
        joiner.space.ping(GATE)


def test_one_file_and_one_command(site: Site, ca: Authority, tmp_path: Path) -> None:
    """`wgpy up` on both sides: the address, and the routes, are those that follow."""
    issuer, own = Issuer(tmp_path), ca.issue("gate.mesh", GATE)
    gate = site.place(own)
    (gate.directory / "issuer.jwks").write_text(issuer.jwks)
    space, at = site.wire("joiner")
    joiner = site.place(ca.issue("joiner.mesh", "10.7.0.4"), space)
    (joiner.directory / "me.token").write_text(issuer.token())
    address = f'address = ["{GATE}/16", "{INSIDE}/64"]\n'
    up(gate, address, BY_CA + ENROLS, IDENTITY)
    table = (
        f'[[peer]]\npublic_key = "{own.public.base64()}"\nendpoint = "{at}:{PORT}"\n'
        f'credential = true\nexpect = "key"\nallowed_ips = "{INSIDE}/128"\n'
    )
    up(joiner, "", '[identity]\ntoken = "me.token"\n', table)
    try:
        place = Place(gate, joiner, issuer, own)
        assert f"inet6 {place.home}/128" in space.ip("address", "show", joiner.interface.name)
        with listen(gate.space, INSIDE, API):
            assert reaches(space, INSIDE, API, 10) == "open"
            assert reaches(space, INSIDE, OTHER) == "silence"
        assert place.quarantined() is not None
        assert "enrols: as joiner.mesh, by the token " in wgpy("show", joiner.interface.name)
    finally:
        for machine in (gate, joiner):
            machine.space.run(program("wgpy"), "down", machine.interface.name)
    assert "quarantine" not in gate.space.run("nft", "list", "ruleset").stdout


def up(machine: Machine, address: str, *tables: str) -> None:
    """`wgpy up` with a file of these tables."""
    path = machine.write(*tables)
    path.write_text(path.read_text().replace("listen_port", f"{address}listen_port", 1))
    machine.space.run(program("wgpy"), "up", str(path))


def test_without_nft_nobody_may_enrol(site: Site, ca: Authority, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    gate = site.place(ca.issue("gate.mesh", GATE))
    gate.interface = Interface(gate.space, Bare("bare wgpy", "wgpyd"))
    (gate.directory / "issuer.jwks").write_text(issuer.jwks)
    gate.start(BY_CA, IDENTITY)
    wanted = gate.write(BY_CA + ENROLS, IDENTITY)
    with pytest.raises(AssertionError, match="there is no program nft"):
        wgpy("setconf", gate.interface.name, wanted)
    authority = gate.state().authority
    assert authority is not None
    assert not authority.enrol


def tracked(gate: Machine) -> str:
    """The connections that the gate's kernel knows of, of IPv6."""
    return gate.space.run("cat", "/proc/net/nf_conntrack", check=False).stdout


def jti(place: Place) -> str:
    """The token's."""
    found = place.quarantined()
    assert found is not None
    assert found.claims is not None
    return found.claims.serial


def shown(place: Place) -> str:
    """What `wgpy show` says of the joiner."""
    text = wgpy("show", place.gate.interface.name)
    section = text.partition(f"peer: {place.joiner.bearer.public.base64()}\n")[2]
    return section.partition("quarantine: ")[2].partition("\n")[0]
