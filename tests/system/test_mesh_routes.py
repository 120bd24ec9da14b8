"""Routes and exits of a mesh with real daemons, a router between them, and what leaves a machine.

    laptop ── home: 192.168.7.0/24, fd07::/64 ── router ── 198.51.100.0/24, fd98::/64 ── gate
    IF 10.9.0.1, fd09::1                          │                     IF 10.9.0.2, fd09::2
                                                  └ world: 203.0.113.10, 2001:db8:77::10

The gate forwards and masquerades; behind it is a subnet, 10.50.0.0/16. `LEAK` in a frame on the
laptop's uplink is a packet that was to go through the tunnel and did not.
"""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.capture import Capture
from tests.support.commands import CommandError
from tests.support.netns import Namespace, wait_until
from tests.support.programs import WGPY, Interface, Keys, new_keys
from tests.support.quick import Quick
from tests.support.requirements import ROOT, program
from tests.support.tunnel import endpoint, interface_section, peer_section
from wgpy.ip import parse_prefix
from wgpy.linux.firewall import read_sysctl, write_sysctl
from wgpy.mesh.routes import Offer, Outcome, Routes, RoutesError, close_exit, restore
from wgpy.quick.steps import GuardExit, Step

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpyd", "nft", "wg", "ip", "ping", "tshark")]

DRIVER = ROOT / "tests" / "support" / "routes_driver.py"
WORLD, WORLD6 = "203.0.113.10", "2001:db8:77::10"
SUBNET, BEHIND = "10.50.0.0/16", "10.50.0.1"
ADDRESSES, RANGES = ("10.9.0.1", "fd09::1"), ("10.9.0.0/16", "fd09::/48")
GATE = {"gate.mesh": ["0.0.0.0/0", "::/0", SUBNET]}
GATE4 = {"gate.mesh": ["0.0.0.0/0", SUBNET]}
LEAK, CONTROL = b"LEAK", b"CONTROL"


@dataclass(frozen=True, slots=True)
class Site:
    """The drawing of the module."""

    laptop: Namespace
    router: Namespace
    gate: Namespace
    tunnel: Interface
    far: Interface
    keys: tuple[Keys, Keys]
    run: Path

    @property
    def name(self) -> str:
        return self.tunnel.name

    def routes(self, **options: Any) -> Routes:
        return self.laptop.inside(
            lambda: Routes(
                self.name,
                ADDRESSES,
                map(parse_prefix, RANGES),
                run_directory=self.run,
                **options,
            )
        )

    def update(self, routes: Routes, offers: dict[str, list[str]], **wish: Any) -> Outcome:
        """Update, and give the gate's peer the allowed IPs, as an agent does."""
        known = [Offer(x, tuple(map(parse_prefix, y))) for x, y in offers.items()]
        outcome = self.laptop.inside(lambda: routes.update(known, **wish))
        self.allow([str(x) for x in outcome.allowed.get("gate.mesh", ())])
        return outcome

    def stop(self, routes: Routes, **options: Any) -> None:
        self.laptop.inside(lambda: routes.stop(**options))

    def allow(self, more: list[str]) -> None:
        allowed = ",".join(["10.9.0.2/32", "fd09::2/128", *more])
        words = ("peer", self.keys[1].public, "allowed-ips", allowed)
        self.laptop.run("wg", "set", self.name, *words)

    def drive(self, *calls: Any, moment: int = 0) -> list[dict[str, Any]]:
        """Run the driver to its end, or death; what it printed."""
        done = self.laptop.run(*self.driver(*calls, moment=moment), check=False, timeout=60)
        assert "Traceback" not in done.stderr, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def driver(self, *calls: Any, moment: int = 0) -> list[str]:
        site = json.dumps({"addresses": ADDRESSES, "ranges": RANGES})
        words = [self.name, str(self.run), site, json.dumps(calls), str(moment)]
        return [sys.executable, str(DRIVER), *words]

    def send(self, payload: bytes, to: tuple[str, ...] = (WORLD, WORLD6)) -> None:
        """Send UDP to the world in every way that a program may, and a ping; refusals are well."""
        self.laptop.inside(lambda: self._send(payload, to))

    def _send(self, payload: bytes, to: tuple[str, ...]) -> None:
        for address in to:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            source = "fd07::2" if ":" in address else "192.168.7.2"
            for way in ("plain", "device", "source"):
                with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
                    if way == "device":
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"home\0")
                    if way == "source":
                        sock.bind((source, 0))
                    sock.sendto(payload, (address, 4444))

    def traces(self) -> str:
        """What routes leave in the laptop; the same before and after is nothing left."""
        listed = [
            self.laptop.run("nft", "list", "ruleset").stdout,
            self.laptop.ip("rule"),
            self.laptop.ip("-6", "rule"),
            self.laptop.ip("route", "show", "table", "all"),
            self.laptop.ip("-6", "route", "show", "table", "all", "proto", "boot"),
            self.laptop.inside(lambda: read_sysctl("net.ipv4.conf.all.src_valid_mark")) or "",
        ]
        # Links get their own addresses a moment after they are up.
        lines = "\n".join(listed).splitlines()
        return "\n".join(x for x in lines if "fe80:" not in x)


def wire(space: Namespace, link: str, other: Namespace, peer: str, *addresses: str) -> None:
    """A veth; the first half of the addresses is for `space`, the rest for `other`."""
    space.ip("link", "add", link, "type", "veth", "peer", "name", peer, "netns", other.name)
    for end, name, given in ((space, link, addresses[:2]), (other, peer, addresses[2:])):
        end.ip("link", "set", name, "up")
        end.add_address(name, *given)


@pytest.fixture
def site(clean_machine: None, tmp_path: Path) -> Iterator[Site]:
    with (
        Namespace("laptop") as laptop,
        Namespace("router") as router,
        Namespace("gate") as gate,
        Interface(laptop, WGPY) as tunnel,
        Interface(gate, WGPY) as far,
    ):
        home = ("192.168.7.2/24", "fd07::2/64", "192.168.7.1/24", "fd07::1/64")
        wire(laptop, "home", router, "home", *home)
        street = ("198.51.100.2/24", "fd98::2/64", "198.51.100.1/24", "fd98::1/64")
        wire(gate, "street", router, "street", *street)
        router.add_address("lo", f"{WORLD}/32", f"{WORLD6}/128")
        gate.add_address("lo", f"{BEHIND}/16")
        laptop.ip("route", "add", "default", "via", "192.168.7.1")
        laptop.ip("-6", "route", "add", "default", "via", "fd07::1")
        gate.ip("route", "add", "default", "via", "198.51.100.1")
        gate.ip("-6", "route", "add", "default", "via", "fd98::1")
        for space in (router, gate):
            space.inside(_forward)
        # As many distributions have it: an answer must come by the link that a question would take.
        laptop.inside(lambda: write_sysctl("net.ipv4.conf.all.rp_filter", "1"))
        keys = (new_keys(), new_keys())
        tunnel.setconf(
            interface_section(keys[0].private)
            + peer_section(keys[1].public, "10.9.0.2/32,fd09::2/128", at=endpoint("198.51.100.2"))
        )
        tunnel.up("10.9.0.1/16", "fd09::1/48")
        far.setconf(
            interface_section(keys[1].private)
            + peer_section(keys[0].public, "10.9.0.1/32,fd09::1/128")
        )
        far.up("10.9.0.2/16", "fd09::2/48")
        # The gate offers itself, with masquerading, as the operator of it asked.
        offering = gate.inside(
            lambda: Routes(
                far.name,
                ("10.9.0.2", "fd09::2"),
                map(parse_prefix, RANGES),
                run_directory=tmp_path / "gate",
            )
        )
        offered = tuple(map(parse_prefix, GATE["gate.mesh"]))
        gate.inside(lambda: offering.update([], offered=offered, masquerade=True))
        yield Site(laptop, router, gate, tunnel, far, keys, tmp_path / "run")
        gate.inside(offering.stop)
        assert "wgpy" not in gate.run("nft", "list", "ruleset").stdout


def _forward() -> None:
    write_sysctl("net.ipv4.ip_forward", "1")
    write_sysctl("net.ipv6.conf.all.forwarding", "1")


def found(capture: Capture, payload: bytes) -> int:
    """How many UDP datagrams have it; errors of ICMP that quote it do not count."""
    return sum(
        payload in frame and (frame[23] == 17 if frame[12:14] == b"\x08\x00" else frame[20] == 17)
        for _, frame in capture.frames
    )


def foreign(capture: Capture, path: Path) -> str:
    """What tshark sees of the frames that are neither the tunnel's nor of the link itself."""
    ours = "udp.port == 51820 or arp or (icmpv6.type >= 133 and icmpv6.type <= 137)"
    ours += " or icmpv6.type == 143 or mdns"
    command = [program("tshark"), "-n", "-r", str(capture.save(path)), "-Y", f"not ({ours})"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


# --- Subnets ---


def test_a_subnet_is_reached_by_choice_and_everything_is_put_back(site: Site) -> None:
    before = site.traces()
    routes = site.routes()
    outcome = site.update(routes, GATE)
    assert outcome == Outcome()
    assert site.traces() == before
    site.update(routes, GATE, accept=[SUBNET])
    site.laptop.ping(BEHIND)
    assert site.laptop.inside(routes.status)["taken"] == [{"prefix": SUBNET, "node": "gate.mesh"}]
    # The rest goes as it went.
    with Capture(site.router, "home") as capture:
        site.send(CONTROL)
    assert found(capture, CONTROL) == 6
    site.update(routes, GATE)
    assert not site.laptop.can_ping(BEHIND)
    site.stop(routes)
    assert site.traces() == before
    assert not list(site.run.glob("*.json"))


def test_the_local_network_wins_whenever_it_comes(site: Site) -> None:
    routes = site.routes()
    changes: list[Outcome] = []
    routes.on_change = changes.append
    site.update(routes, GATE, accept=["gate"])
    site.laptop.ping(BEHIND)

    def leads_to() -> str:
        return site.laptop.ip("route", "get", BEHIND).split(" dev ")[1].split()[0]

    assert leads_to() == site.name
    # Part of it is on a link now: at once, and by the kernel alone.
    wire(site.laptop, "late", site.router, "late", "10.50.0.9/24")
    assert leads_to() == "late"
    wait_until(lambda: changes, "a word of the network that came")
    assert changes[-1].said == (
        f"{SUBNET} goes to gate.mesh, but of it 10.50.0.0/24 on late stays local",
    )
    # All of it: the route is not taken any more.
    site.laptop.ip("route", "add", "10.48.0.0/12", "dev", "late")
    wait_until(lambda: changes[-1].allowed == {}, "the route to be left")
    assert "wins" in changes[-1].said[0]
    assert site.name not in site.laptop.ip("route", "show", "table", "51820")
    site.laptop.ip("link", "delete", "late")
    wait_until(lambda: changes[-1].allowed, "the route to be taken again")
    assert leads_to() == site.name
    site.stop(routes)


def test_what_was_for_a_subnet_goes_nowhere_when_the_tunnel_is_gone(site: Site) -> None:
    routes = site.routes()
    site.update(routes, GATE, accept=["gate"])
    site.tunnel.stop()
    with Capture(site.router, "home") as capture:
        site.send(LEAK, (BEHIND,))
        site.send(CONTROL)
    # Bound to the uplink a program has its way; only an exit forbids that.
    assert found(capture, LEAK) <= 1
    assert found(capture, CONTROL) == 6
    site.stop(routes)


@pytest.mark.parametrize("first", ["wgpy up", "the mesh"])
def test_beside_a_tunnel_that_takes_everything(site: Site, first: str, tmp_path: Path) -> None:
    """`wgpy up` with a default route, and routes of a mesh: who ends first leaves the other's."""
    before = site.traces()
    quick = Quick(site.laptop, tmp_path, "wgpyd")
    assert quick.run_directory == site.run
    quick.write("Address = 10.8.0.1/32", "AllowedIPs = 0.0.0.0/0\nEndpoint = 198.51.100.9:51820")
    routes = site.routes()

    def begin(mesh: bool) -> None:
        if mesh:
            site.update(routes, GATE, accept=["gate"])
        else:
            quick.up()

    def end(mesh: bool) -> None:
        if mesh:
            site.stop(routes)
        else:
            quick.down()

    def value() -> str | None:
        return site.laptop.inside(lambda: read_sysctl("net.ipv4.conf.all.src_valid_mark"))

    mesh_first = first == "the mesh"
    begin(mesh_first)
    begin(not mesh_first)
    end(mesh_first)
    assert value() == "1"
    if not mesh_first:
        site.laptop.ping(BEHIND)
    end(not mesh_first)
    assert value() == "0"
    assert site.traces() == before


def test_what_cannot_work_is_said(site: Site) -> None:
    routes = site.routes()
    outcome = site.update(
        routes, {"x.mesh": ["192.168.7.0/25"]}, accept=["x"], offered=[parse_prefix("10.3.0.0/16")]
    )
    assert len(outcome.said) == 2
    assert "192.168.7.0/24 on home" in outcome.said[0]
    assert "net.ipv4.ip_forward is not 1" in outcome.said[1]
    site.tunnel.stop()
    with pytest.raises(RoutesError, match="its daemon has ended"):
        site.update(routes, GATE, accept=[SUBNET])
    site.stop(routes)


def test_endpoints_within_a_route_are_reached_by_the_machines_own_gateway(site: Site) -> None:
    """The tunnel's own packets, and those of STUN and TURN, which have the same mark."""
    routes = site.routes()
    site.update(routes, {"gate.mesh": ["198.51.100.0/24"]}, accept=["gate"])
    site.laptop.ping("198.51.100.2")
    assert site.name in site.laptop.ip("route", "get", "198.51.100.2")
    assert "via 192.168.7.1" in site.laptop.ip("route", "get", "198.51.100.2", "mark", "51820")
    site.update(routes, GATE, exit="gate")

    def send_marked() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 51820)
            sock.sendto(CONTROL, (WORLD, 3478))

    with Capture(site.router, "home") as capture:
        site.laptop.inside(send_marked)
        site.laptop.ping("10.9.0.2")
    assert found(capture, CONTROL) == 1
    site.stop(routes)


# --- An exit ---


@pytest.mark.parametrize("offers", [GATE, GATE4], ids=["both", "without IPv6"])
def test_nothing_leaks_while_an_exit_comes_and_goes(
    site: Site, offers: dict[str, list[str]], tmp_path: Path
) -> None:
    """At each step, from the guard's beginning to its end, the laptop sends in every way."""
    closed = False
    moments = 0

    def observe(when: str, step: Step) -> None:
        nonlocal closed, moments
        if isinstance(step, GuardExit):
            closed = when == "taken"
        if closed:
            moments += 1
            site.send(LEAK)

    before = site.traces()
    routes = site.routes(observe=observe)
    with Capture(site.router, "home") as control:
        site.send(CONTROL)
    assert found(control, CONTROL) == 6
    with Capture(site.router, "home") as capture, Capture(site.router, "street") as beyond:
        site.update(routes, offers, exit="gate")
        site.laptop.ping(WORLD)
        if offers is GATE:
            site.laptop.ping(WORLD6)
        site.send(LEAK)
        # The local network is where it was, by both versions.
        site.laptop.ping("192.168.7.1")
        site.laptop.ping("fd07::1")
        site.update(routes, {}, exit="gate")
        site.send(LEAK)
        assert not site.laptop.can_ping(WORLD)
        site.update(routes, offers, exit="gate")
        site.laptop.ping(WORLD)
        site.stop(routes)
    assert moments > 30
    assert found(capture, LEAK) == 0
    # What came through the tunnel leaves the gate as its own.
    assert found(beyond, LEAK) > 0
    strange = foreign(capture, tmp_path / "uplink.pcap")
    assert [x for x in strange.splitlines() if "192.168.7.1" not in x and "fd07::1" not in x] == []
    assert site.traces() == before
    with Capture(site.router, "home") as control:
        site.send(CONTROL)
    assert found(control, CONTROL) == 6


def test_nothing_leaks_whatever_dies(site: Site) -> None:
    routes = site.routes()
    site.update(routes, GATE, exit="gate")
    site.laptop.ping(WORLD)
    with Capture(site.router, "home") as capture:
        # Somebody else's hand in the routes: the guard is alone.
        for version in ("-4", "-6"):
            site.laptop.ip(version, "rule", "delete", "table", "51820")
        site.send(LEAK)
        # The daemon ends, and its link with it.
        site.tunnel.stop()
        site.send(LEAK)
        site.stop(routes, hold_exit=True)
        site.send(LEAK)
    assert found(capture, LEAK) == 0
    assert site.laptop.run("nft", "list", "table", "inet", f"wgpy-exit-{site.name}").stdout
    site.drive(["restore", {}])
    assert "wgpy" not in site.laptop.run("nft", "list", "ruleset").stdout


def test_an_exit_is_closed_before_there_is_an_agent(site: Site) -> None:
    """As when the machine starts; the agent opens it, and can undo it all."""
    before = site.traces()
    for _ in range(2):
        site.laptop.inside(lambda: close_exit(site.name, site.run))
    with Capture(site.router, "home") as capture:
        site.send(LEAK)
        assert not site.laptop.can_ping("192.168.7.1")
        routes = site.routes()
        site.send(LEAK)
        site.update(routes, GATE, exit="gate")
        site.send(LEAK)
        site.laptop.ping(WORLD)
        site.laptop.ping("192.168.7.1")
    assert found(capture, LEAK) == 0
    # What is in force now it leaves alone.
    site.laptop.inside(lambda: close_exit(site.name, site.run))
    site.laptop.ping(WORLD)
    site.stop(routes)
    assert site.traces() == before
    site.laptop.inside(lambda: close_exit(site.name, site.run))
    site.laptop.inside(lambda: restore(site.name, site.run))
    assert site.traces() == before


def test_a_guard_that_somebody_deletes_is_there_again(site: Site) -> None:
    routes = site.routes()
    site.update(routes, GATE, exit="gate")

    def listed() -> str:
        return site.laptop.run("nft", "list", "ruleset").stdout

    site.laptop.run("nft", "flush", "ruleset")
    wait_until(lambda: f"wgpy-exit-{site.name}" in listed(), "the guard")
    with Capture(site.router, "home") as capture:
        site.send(LEAK)
    assert found(capture, LEAK) == 0
    site.laptop.ping(WORLD)
    site.stop(routes)


def test_a_new_daemon_is_taken_up(site: Site) -> None:
    routes = site.routes()
    site.update(routes, GATE, exit="gate")
    site.tunnel.stop()
    site.tunnel.start()
    site.tunnel.setconf(
        interface_section(site.keys[0].private)
        + peer_section(site.keys[1].public, "10.9.0.2/32,fd09::2/128", at=endpoint("198.51.100.2"))
    )
    site.tunnel.up("10.9.0.1/16", "fd09::1/48")
    site.update(routes, GATE, exit="gate")
    site.laptop.ping(WORLD)
    site.laptop.ping(WORLD6)
    site.stop(routes)


def test_an_agent_killed_at_any_moment_leaks_nothing_and_is_followed(site: Site) -> None:
    """Killed on the way up or down, at each moment: either the guard was not there yet, or not any
    more, or nothing leaves. The next one goes on from there, and can undo it all."""
    before = site.traces()
    up = ["update", {"offers": GATE, "exit": "gate"}]
    moments = site.drive(up, ["stop", {}])[-1]["moments"]
    assert site.traces() == before
    assert moments > 30
    for moment in range(1, moments + 1):
        killed = site.drive(up, ["stop", {}], moment=moment)[-1]["killed"]
        guarded = "wgpy-exit" in site.laptop.run("nft", "list", "ruleset").stdout
        with Capture(site.router, "home") as capture:
            site.send(LEAK)
        assert (found(capture, LEAK) == 0) == guarded, killed
        if moment % 10 == 0:
            # The next agent takes the exit over, and it works.
            site.drive(up, ["stop", {"hold_exit": True}])
            site.allow(["0.0.0.0/0", "::/0"])
            site.laptop.ping(WORLD)
            site.allow([])
        site.laptop.inside(lambda: restore(site.name, site.run))
        assert site.traces() == before, killed


def test_a_hostile_local_network_takes_little_from_an_exit(site: Site) -> None:
    routes = site.routes()
    site.update(routes, GATE, exit="gate")
    # What a DHCP server may hand out: half of the Internet, and the world's own network.
    for prefix in ("128.0.0.0/1", "203.0.113.0/24"):
        site.laptop.ip("route", "add", prefix, "via", "192.168.7.1")
    with Capture(site.router, "home") as capture:
        site.send(LEAK, (WORLD,))
        wait_until(
            lambda: len(site.laptop.inside(routes.status)["said"]) == 2, "what was found of it"
        )
        site.send(LEAK, (WORLD,))
    assert found(capture, LEAK) == 0
    with pytest.raises(CommandError):
        site.laptop.run("ping", "-c1", "-w1", WORLD)
    site.stop(routes)
