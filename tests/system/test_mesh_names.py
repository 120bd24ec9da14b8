"""Names of a mesh on a machine with each kind of resolver, real ones: what programs find, what is
asked of whom, and what is left after a stop, a kill and a restart.

    machine: mesh 10.9.0.1, fd09::1 (a link) ── beside: 10.9.0.7, fd09::7
             127.0.0.9, the Internet's server
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.netns import Namespace, link_name, wait_until
from tests.support.requirements import ROOT, in_ci, program
from tests.support.resolvers import Home, ResolverError, is_possible, system_bus, unpacked

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "dig", "dbus-daemon", "ip", "dpkg")]

DRIVER = ROOT / "tests" / "support" / "names_driver.py"
SITE = {
    "domain": "mesh",
    "addresses": ["10.9.0.1", "fd09::1"],
    "ranges": ["10.9.0.0/16", "fd09::/48"],
    "names": {"laptop.mesh": ["10.9.0.2", "fd09::2"], "me.mesh": ["10.9.0.1", "fd09::1"]},
}
HOSTS = "127.0.0.1\tlocalhost\n"
LAPTOP = ["10.9.0.2", "fd09::2"]


@dataclass(slots=True)
class Agent:
    """What keeps the names, in a process of its own."""

    child: subprocess.Popen[str]

    def say(self, word: str) -> dict[str, Any]:
        assert self.child.stdin is not None
        self.child.stdin.write(f"{word}\n")
        self.child.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line, "it ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        self.child.communicate("stop\n", timeout=20)

    def kill(self) -> None:
        self.child.kill()
        self.child.communicate(timeout=10)


@dataclass(slots=True)
class World:
    """A machine, the link of its mesh, and its neighbour there."""

    home: Home
    link: str
    beside: Namespace
    agents: list[Agent]

    def agent(self) -> Agent:
        words = (sys.executable, str(DRIVER), self.link, json.dumps(SITE))
        child = subprocess.Popen(
            self.home.space.argv(*self.home.words(*words)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.agents.append(Agent(child))
        return self.agents[-1]

    def restore(self) -> None:
        self.home.run(program("wgpy"), "mesh", "restore", self.link)

    def dig(self, *words: str) -> str:
        return self.home.run("dig", "+time=2", "+tries=1", *words).stdout


def make_link(machine: Namespace, beside: Namespace, link: str) -> None:
    machine.ip("link", "add", link, "type", "veth", "peer", "name", "mesh", "netns", beside.name)
    machine.ip("link", "set", link, "up")
    beside.ip("link", "set", "mesh", "up")
    machine.add_address(link, "10.9.0.1/16", "fd09::1/48")
    beside.add_address("mesh", "10.9.0.7/16", "fd09::7/48")


@pytest.fixture
def world(request: pytest.FixtureRequest, clean_machine: None, tmp_path: Path) -> Iterator[World]:
    packages: tuple[str, ...] = request.param
    if not is_possible():
        pytest.skip("this machine cannot lay one file system over another")
    try:
        usr = unpacked(*packages)
    except ResolverError as error:
        if in_ci():
            raise
        pytest.skip(str(error))
    with Namespace("machine") as machine, Namespace("beside") as beside:
        link = link_name()
        make_link(machine, beside, link)
        with Home(machine, usr, tmp_path) as home:
            made = World(home, link, beside, [])
            yield made
            for agent in made.agents:
                if agent.child.poll() is None:
                    agent.kill()


def with_packages(*packages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", [packages], indirect=True, ids=[packages[0]])


RESOLVED = ("systemd-resolved", "libnss-resolve")
# What dnsmasq needs besides, where it is not there.
DNSMASQ = ("dnsmasq-base", "libnetfilter-conntrack3", "libnfnetlink0")


@pytest.fixture
def internet(world: World) -> Path:
    """The server that has all other names: dnsmasq at 127.0.0.9, which notes what it is asked."""
    log = "/run/internet.log"
    world.home.popen(
        *("dnsmasq", "-k", "-C", "/dev/null", "-a", "127.0.0.9", "-z", "-R", "-h", "-u", "root"),
        *("--address=/example.com/192.0.2.80", "-q", f"--log-facility={log}", "--pid-file="),
    )
    wait_until(lambda: world.home.run("test", "-e", log, check=False).returncode == 0, "dnsmasq")
    return Path(log)


# --- systemd-resolved ---


@with_packages(*RESOLVED)
def test_systemd_resolved_asks_the_node_for_the_suffix_alone(world: World) -> None:
    home = world.home
    with system_bus(home):
        _start_resolved(home)
        agent = world.agent()
        status = agent.hear()
        assert (status["way"], status["why"]) == ("systemd-resolved", "")
        assert home.addresses("laptop.mesh") == LAPTOP
        assert home.name("10.9.0.2") == "laptop.mesh"
        assert home.name("fd09::2") == "laptop.mesh"
        assert "status: NXDOMAIN" in world.dig("@127.0.0.53", "nobody.mesh")
        # There is no other server, and ours is not asked for what is not its own.
        assert "status: NOERROR" not in world.dig("@127.0.0.53", "www.example.com")
        assert "REFUSED" not in agent.say("status")["counters"]
        # The link is made anew, as with a new daemon.
        home.space.ip("link", "delete", world.link)
        make_link(home.space, world.beside, world.link)
        agent.say("again")
        home.run("resolvectl", "flush-caches")
        assert home.addresses("laptop.mesh") == LAPTOP
        # Killed, and put back by the next start or by a person.
        agent.kill()
        assert "~mesh" in home.run("resolvectl", "domain", world.link).stdout
        again = world.agent()
        assert again.hear()["way"] == "systemd-resolved"
        again.kill()
        world.restore()
        for what in ("domain", "dns"):
            assert home.run("resolvectl", what, world.link).stdout.split(":", 1)[1].strip() == ""
        last = world.agent()
        last.hear()
        last.end()
        assert "~mesh" not in home.run("resolvectl", "domain").stdout
        assert home.read("/etc/hosts") == HOSTS


def _start_resolved(home: Home) -> None:
    # As strict as it can be with everybody else; the mesh's own server is on this machine.
    home.run("mkdir", "-p", "/etc/systemd")
    home.write("/etc/systemd/resolved.conf", "[Resolve]\nDNSSEC=yes\nDNSOverTLS=yes\n")
    home.run("mkdir", "-p", "/run/systemd/resolve")
    home.run("chown", "systemd-resolve:systemd-resolve", "/run/systemd/resolve")
    home.run("ln", "-sf", "../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
    home.popen("/usr/lib/systemd/systemd-resolved")

    def ready() -> bool:
        asked = home.run("resolvectl", "status", check=False)
        return asked.returncode == 0 and "nameserver" in home.read("/etc/resolv.conf")

    wait_until(ready, "systemd-resolved", timeout=30)


# --- openresolv ---


@with_packages("openresolv", *DNSMASQ)
def test_openresolv_with_dnsmasq_asks_the_node_for_the_suffix_alone(
    world: World, internet: Path
) -> None:
    home = world.home
    dnsmasq = "dnsmasq -C /etc/dnsmasq.conf -u root --pid-file=/run/dnsmasq.pid"
    home.write(
        "/etc/restart", f"#!/bin/sh\nkill $(cat /run/dnsmasq.pid)\nsleep 0.3\n{dnsmasq}\n", 0o755
    )
    home.run("mkdir", "-p", "/etc/dnsmasq.d")
    home.write("/etc/dnsmasq.d/mesh.conf", "")
    home.write(
        "/etc/dnsmasq.conf",
        "listen-address=127.0.0.1\nbind-interfaces\nno-hosts\nresolv-file=/run/upstream\n"
        "conf-file=/etc/dnsmasq.d/mesh.conf\n",
    )
    home.write(
        "/etc/resolvconf.conf",
        "resolv_conf=/etc/resolv.conf\nname_servers=127.0.0.1\n"
        "dnsmasq_conf=/etc/dnsmasq.d/mesh.conf\ndnsmasq_resolv=/run/upstream\n"
        "dnsmasq_restart=/etc/restart\n",
    )
    home.run("sh", "-c", dnsmasq)
    home.run("resolvconf", "-a", "eth0", stdin="search lan\nnameserver 127.0.0.9\n")
    before = home.read("/etc/resolv.conf")
    assert "nameserver 127.0.0.1\n" in before
    agent = world.agent()
    status = agent.hear()
    assert (status["way"], status["why"]) == ("resolvconf", "systemd-resolved does not run")
    wait_until(lambda: home.addresses("laptop.mesh") == LAPTOP, "the name, by dnsmasq")
    assert home.addresses("www.example.com") == ["192.0.2.80"]
    assert "REFUSED" not in agent.say("status")["counters"]
    assert "laptop" not in home.read(str(internet))
    # No server of ours for libc, which would ask it for everything; the suffix is searched last.
    assert home.read("/etc/resolv.conf") == before.replace("search lan", "search lan mesh")
    agent.kill()
    assert home.run("resolvconf", "-i").stdout.split() == ["eth0", f"{world.link}.mesh"]
    world.restore()
    assert home.run("resolvconf", "-i").stdout.split() == ["eth0"]
    assert home.read("/etc/resolv.conf") == before
    wait_until(lambda: home.addresses("www.example.com") == ["192.0.2.80"], "dnsmasq, again")
    assert home.addresses("laptop.mesh") == []
    assert home.read("/etc/hosts") == HOSTS


# --- /etc/hosts ---


@with_packages("openresolv", *DNSMASQ)
def test_openresolv_alone_is_passed_over(world: World, internet: Path) -> None:
    home = world.home
    home.write("/etc/resolvconf.conf", "resolv_conf=/etc/resolv.conf\n")
    home.run("resolvconf", "-a", "eth0", stdin="nameserver 127.0.0.9\n")
    _check_hosts(world, "openresolv has no local resolver", internet)


@with_packages("resolvconf", *DNSMASQ)
def test_debians_resolvconf_is_passed_over(world: World, internet: Path) -> None:
    _check_hosts(world, "cannot send one suffix elsewhere", internet)


def _check_hosts(world: World, reason: str, internet: Path) -> None:
    home = world.home
    agent = world.agent()
    status = agent.hear()
    assert status["way"] == "/etc/hosts"
    assert reason in status["why"]
    assert home.addresses("laptop.mesh") == LAPTOP
    assert home.name("fd09::2") == "laptop.mesh"
    assert home.addresses("www.example.com") == ["192.0.2.80"]
    assert "laptop" not in home.read(str(internet))
    # The node's server has them as well, for who asks it.
    assert world.dig("@10.9.0.1", "+short", "laptop.mesh").strip() == "10.9.0.2"
    assert world.dig("@fd09::1", "+short", "+tcp", "laptop.mesh", "AAAA").strip() == "fd09::2"
    neighbour = world.beside.run("dig", "@10.9.0.1", "+short", "-x", "10.9.0.2").stdout
    assert neighbour.strip() == "laptop.mesh."
    agent.kill()
    assert home.addresses("laptop.mesh") == LAPTOP
    world.restore()
    assert home.read("/etc/hosts") == HOSTS
    assert home.addresses("laptop.mesh") == []
    # And an end as it should be.
    last = world.agent()
    last.hear()
    last.end()
    assert home.read("/etc/hosts") == HOSTS


@with_packages("resolvconf", *DNSMASQ)
def test_a_hosts_file_that_is_a_mount_is_written_in_place(world: World) -> None:
    """As containers have it: nothing can be renamed over it."""
    home = world.home
    home.write("/run/hosts", "127.0.0.1\tlocalhost\n10.0.0.5 nas")
    home.run("mount", "--bind", "/run/hosts", "/etc/hosts")
    agent = world.agent()
    assert agent.hear()["way"] == "/etc/hosts"
    assert home.addresses("laptop.mesh") == LAPTOP
    assert home.addresses("nas") == ["10.0.0.5"]
    agent.kill()
    world.restore()
    assert home.read("/etc/hosts") == "127.0.0.1\tlocalhost\n10.0.0.5 nas"
