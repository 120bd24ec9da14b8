"""What nodes of a real mesh share: names, a subnet behind one, an exit through another, by the
commands that people type, with their agents and daemons.

    alice ─ home (NAT) ─┐
                        ├─ internet ─ gate (the exit), turn (stands for the rest of the Internet)
    bob ── office (NAT) ┘
     └ 10.60.0.0/16
"""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.capture import Capture
from tests.support.commands import CommandError, wait_until
from tests.support.natlab import Host, Nat, Router
from tests.support.node import PATIENCE, Node, wait_for_ping
from tests.support.world import World
from wgpy.linux.firewall import write_sysctl

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("wgpy", "wgpyd", "nft", "ip", "ping", "turnserver", "openssl", "dig"),
]

SUBNET, BEHIND = "10.60.0.0/16", "10.60.0.1"
ROUTES = f"{SUBNET},0.0.0.0/0,::/0"


@pytest.fixture(scope="module")
def world(clean_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    routers = [Router("home", Nat.PORT), Router("office", Nat.PORT)]
    hosts = [Host("alice", "home"), Host("bob", "office")]
    place = tmp_path_factory.mktemp("world")
    with World(routers, hosts, place, options=("--routes", ROUTES)) as made:
        for host in ("gate", "bob"):
            made.lab.hosts[host].namespace.inside(lambda: write_sysctl("net.ipv4.ip_forward", "1"))
        made.lab.hosts["bob"].namespace.add_address("lo", f"{BEHIND}/16")
        made.join("alice")
        made.join("bob")
        yield made


def routes(node: Node, *words: str) -> dict[str, Any]:
    """`wgpy mesh routes`, and what is in force then."""
    found: dict[str, Any] = json.loads(
        node.wgpy("mesh", "routes", "--interface", node.interface, "--json", *words)
    )
    return found


def allow(world: World, name: str) -> None:
    """The operator lets a node route what it offers, as soon as that is known."""

    def allowed() -> bool:
        words = ("mesh", "rights", "--offers", "--interface", world.gate.interface, name)
        try:
            world.gate.wgpy(*words)
        except CommandError:
            return False
        return routes(world.nodes[name])["offered"] != []

    wait_until(allowed, f"{name} to have its routes in its certificate", PATIENCE, 0.5)


def kill_agent(node: Node) -> None:
    """End its agent as a crash does."""
    killed = 0
    for pid in node.space.pids():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"mesh" in words and b"run" in words:
            os.kill(pid, signal.SIGKILL)
            killed += 1
    assert killed == 1


def lookup(node: Node, name: str) -> list[str]:
    """What every program of that machine finds for a name."""
    done = node.space.run("getent", "ahosts", name, check=False)
    return sorted({line.split()[0] for line in done.stdout.splitlines()})


def test_names_are_found_on_every_node_and_put_back(world: World) -> None:
    alice, bob = world.nodes["alice"], world.nodes["bob"]
    for one in (world.gate, alice, bob):
        for name, other in (("gate", world.gate), ("alice", alice), ("bob", bob)):
            wait_until(
                lambda one=one, name=name, other=other: (
                    lookup(one, f"{name}.mesh") == sorted((other.v4, other.v6))
                ),
                f"{name}.mesh on {one.space.name}",
                PATIENCE,
            )
    assert alice.status()["names"]["way"] == "/etc/hosts"
    found = alice.space.run("dig", f"@{alice.v4}", "+short", "-x", bob.v6).stdout
    assert found.strip() == "bob.mesh."
    # An agent that is killed leaves them; a person, or systemd, puts back what was there.
    kill_agent(bob)
    assert lookup(bob, "alice.mesh")
    bob.wgpy("mesh", "restore", "--names", bob.interface)
    assert bob.space.run("cat", "/etc/hosts").stdout == "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
    bob.start()
    wait_until(lambda: lookup(bob, "alice.mesh"), "names, with the next agent", PATIENCE)


def test_a_subnet(world: World) -> None:
    alice, bob = world.nodes["alice"], world.nodes["bob"]
    asked = routes(bob, "offer", SUBNET, "--masquerade")
    assert (asked["offered"], asked["asked"]) == ([], [SUBNET])
    allow(world, "bob")
    wait_until(lambda: routes(alice)["offers"], "alice to know of it", PATIENCE)
    assert not alice.can_ping(BEHIND, 1)
    routes(alice, "accept", "bob")
    wait_for_ping(alice, BEHIND)
    routes(alice, "drop", "bob")
    assert not alice.can_ping(BEHIND, 1)


def test_an_exit(world: World) -> None:
    alice = world.nodes["alice"]
    outside = world.lab.hosts["turn"].v4
    link = alice.space.ip("route", "get", outside).split(" dev ")[1].split()[0]
    routes(world.gate, "--masquerade", "offer", "0.0.0.0/0")
    allow(world, "gate")
    wait_until(
        lambda: any(x["node"] == "gate.mesh" for x in routes(alice)["offers"]),
        "alice to know of it",
        PATIENCE,
    )
    found = routes(alice, "exit", "gate")
    assert (found["exit"], found["exit_versions"], found["guarded"]) == ("gate.mesh", [4], True)
    assert "the exit gate.mesh has no IPv6: IPv6 is blocked" in found["said"]
    wait_for_ping(alice, outside)
    with Capture(alice.space, link) as capture:
        alice.space.ping(outside, 3)
        # The agent is killed, another takes over, and it works again; at no time it leaks.
        kill_agent(alice)
        alice.space.run("ping", "-c2", "-w2", outside, check=False)
        alice.start()
        alice.wait("connected", 60.0)
        wait_for_ping(alice, outside)
    address = bytes(map(int, outside.split(".")))
    plain = [x for _, x in capture.frames if x[12:14] == b"\x08\x00" and x[23] == 1]
    assert not any(address in (x[26:30], x[30:34]) for x in plain)
    # A machine that starts again, where nothing is left: it is closed before the agent runs, which
    # opens it.
    alice.crash()
    alice.wgpy("mesh", "restore", alice.interface)
    assert not guarded(alice)
    alice.wgpy("mesh", "guard", alice.interface)
    assert guarded(alice)
    assert not alice.can_ping(outside, 1)
    alice.start()
    alice.wait("connected", 60.0)
    wait_for_ping(alice, outside)
    assert routes(alice, "exit", "off")["guarded"] is False
    assert not guarded(alice)
    # Who has no exit is not closed.
    alice.wgpy("mesh", "guard", alice.interface)
    assert not guarded(alice)


def guarded(node: Node) -> bool:
    """Whether the guard's table is there."""
    return "wgpy-exit" in node.space.run("nft", "list", "ruleset").stdout
