"""Tunnels in the lab: by wgpyd and by wireguard-go, behind routers, and what befalls them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.natlab import V6, Host, Lab, Nat, Router
from tests.support.natlab.station import Station
from tests.support.netns import wait_until
from tests.support.programs import WGPY, WIREGUARD_GO, Implementation

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.tool("wg"),
    pytest.mark.tool("wgpyd"),
    pytest.mark.tool("wireguard-go"),
    pytest.mark.usefixtures("clean_machine"),
]


@pytest.fixture
def lab() -> Iterator[Lab]:
    routers = [Router("home", v6=V6.FIREWALL), Router("office", Nat.FULL)]
    hosts = [Host("alice", "home"), Host("bob", "office"), Host("gate")]
    with Lab(routers, hosts, ipv6=True) as made:
        yield made


@pytest.mark.parametrize("other", [WGPY, WIREGUARD_GO], ids=str)
@pytest.mark.parametrize("family", [4, 6])
def test_a_laptop_reaches_a_gate_on_the_internet(
    lab: Lab, tmp_path: Path, other: Implementation, family: int
) -> None:
    with (
        Station(lab.hosts["alice"], 1, tmp_path) as alice,
        Station(lab.hosts["gate"], 2, tmp_path, other) as gate,
    ):
        gate.configure(gate.knows(alice))
        alice.configure(alice.knows(gate, at=gate.place(family)))
        alice.host.namespace.ping(gate.inner)
        gate.host.namespace.ping(alice.inner6)
        seen = gate.peer(alice).endpoint
        outside = f"[{alice.host.v6}]" if family == 6 else lab.routers["home"].wan_ip
        assert re.sub(r":\d+$", "", seen) == outside
        assert alice.state().peers[0].rx_bytes > 0


def test_two_laptops_that_are_told_where_the_other_is_seen_meet(lab: Lab, tmp_path: Path) -> None:
    with (
        Station(lab.hosts["alice"], 1, tmp_path, port=5001) as alice,
        Station(lab.hosts["bob"], 2, tmp_path, WIREGUARD_GO, port=5002) as bob,
    ):
        # Both routers keep ports. Keepalives hold both mappings open.
        places = {name: router.wan_ip for name, router in lab.routers.items()}
        bob.configure(bob.knows(alice, at=f"{places['home']}:{alice.port}", keepalive=1))
        alice.configure(alice.knows(bob, at=f"{places['office']}:{bob.port}", keepalive=1))
        wait_until(lambda: alice.host.namespace.can_ping(bob.inner), "the tunnel", timeout=30)
        # A laptop that is shut answers when it is opened.
        with alice.asleep():
            assert not bob.host.namespace.can_ping(alice.inner)
        bob.host.namespace.ping(alice.inner, wait=20)


def test_a_station_can_be_configured_again(lab: Lab, tmp_path: Path) -> None:
    with (
        Station(lab.hosts["alice"], 1, tmp_path) as alice,
        Station(lab.hosts["gate"], 2, tmp_path) as gate,
    ):
        gate.configure(gate.knows(alice))
        alice.configure(alice.knows(gate, at=gate.place()))
        alice.host.namespace.ping(gate.inner)
        gate.configure()
        assert gate.interface.peers() == {}
        gate.configure(gate.knows(alice, extra="persistent_keepalive = 9"), interface="fwmark = 7")
        assert list(gate.interface.peers()) == [alice.keys.public]
        assert gate.interface.wg("show", "fwmark").strip() == "0x7"
        assert gate.peer(alice).keepalive == "9"
