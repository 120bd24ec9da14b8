"""What an idle laptop says: little to its coordinator, nothing to nodes that it does not talk to.

Minutes of real time: what counts is how often packets go, not how fast.
"""

import json
import time
from collections.abc import Iterator

import pytest

from tests.support.commands import wait_until
from tests.support.natlab import Host, Nat, Router
from tests.support.node import Node, wait_for_ping
from tests.support.world import World
from wgpy.device.paths import PathKind
from wgpy.nat.upnp import SSDP

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.tool("wgpy", "wgpyd", "nft", "ip", "ping", "turnserver", "openssl"),
]

# Five lives of a session, and whole rounds of everything that is said again and again.
SECONDS = 600.0
# A node tells how it reaches others each 25 s at the most (wgpy/mesh/connection.py), and what it
# has told is acknowledged.
TOLD = 40.0
# One in 15 s.
MOST = SECONDS / 15


@pytest.fixture(scope="module")
def world(clean_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    routers = [Router("home", Nat.PORT), Router("office", Nat.PORT)]
    hosts = [Host("alice", "home"), Host("bob", "office")]
    with World(routers, hosts, tmp_path_factory.mktemp("world")) as made:
        yield made


def count_to(node: Node, *addresses: str) -> None:
    """Count what goes out by UDP to each of these, and to everybody else."""
    rules = [f'meta l4proto udp ip daddr {x} counter accept comment "{x}"' for x in addresses]
    lines = ["table inet counting {", "chain out {", "type filter hook output priority 0;"]
    lines += [*rules, 'meta l4proto udp counter comment "others"', "}", "}"]
    node.space.run("nft", "-f", "-", stdin="\n".join(lines) + "\n")


def counted(node: Node) -> dict[str, int]:
    """How many packets went to each."""
    text = node.space.run("nft", "-j", "list", "table", "inet", "counting").stdout
    rules = [x["rule"] for x in json.loads(text)["nftables"] if "rule" in x]
    return {
        rule["comment"]: next(x["counter"]["packets"] for x in rule["expr"] if "counter" in x)
        for rule in rules
    }


def kind(one: Node, other: Node) -> PathKind:
    key = other.place.key().public()
    path = next(x.path for x in one.daemon().peers if x.public_key == key)
    assert path is not None
    return path.kind


def test_an_idle_laptop_says_little(world: World) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    wait_for_ping(alice, "bob.mesh")
    wait_until(lambda: kind(alice, bob) is PathKind.DIRECT, "a direct way", 30.0)
    # A way that nobody uses is given up with its session, whose keys are forgotten 540 s after the
    # last handshake (whitepaper 6.3).
    wait_until(lambda: kind(alice, bob) is PathKind.NONE, "the way to be given up", 900.0, 1.0)
    # That it was given up is told once.
    time.sleep(TOLD)
    gate, office = world.lab.hosts["gate"].v4, world.lab.routers["office"].wan_ip
    # No nodes: servers for STUN and relays, and each 10 minutes our own router, which may have
    # learnt to forward ports.
    no_nodes = (*world.turn.addresses, world.lab.routers["home"].lan_ip, SSDP.host)
    count_to(alice, gate, office, *no_nodes)
    time.sleep(SECONDS)
    found = counted(alice)
    print(f"in {SECONDS:g} s: {found}")
    assert found[gate] < MOST
    assert found[office] == found["others"] == 0
    assert alice.status()["state"] == "connected"
    wait_for_ping(alice, "bob.mesh")
