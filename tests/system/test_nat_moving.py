"""Ways that are in use, and what befalls them: moves, reboots, sleep, dead relays, settings.

Real daemons, a real coturn, and no assertion on how long anything takes: bench/ says that.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.coturn import Coturn
from tests.support.managed import (
    NATIVE,
    PATIENCE,
    PORTABLE,
    Managed,
    managed,
)
from tests.support.natlab import Host, Lab, Nat, Router
from tests.support.netns import wait_until
from tests.support.programs import Implementation
from wgpy.device.paths import PathKind

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.tool("wg"),
    pytest.mark.tool("wgpyd"),
    pytest.mark.tool("turnserver"),
    pytest.mark.usefixtures("clean_machine"),
]

# What comes from anybody but the server is dropped before anything else sees it.
ONE_WAY = """table ip oneway {
  chain c_in { type filter hook prerouting priority -400; policy accept;
    iifname "wan" ip saddr 11.77.1.0/24 meta l4proto udp drop;
  }
}
"""

BOTH = pytest.mark.parametrize("datapath", [NATIVE, PORTABLE], ids=str)


@pytest.fixture
def lab() -> Iterator[Lab]:
    routers = [Router("home"), Router("office"), Router("lte", Nat.SYM)]
    hosts = [Host("alice", "home"), Host("bob", "office"), Host("server", addresses=2)]
    with Lab(routers, hosts) as made:
        yield made


@pytest.fixture
def turn(lab: Lab, tmp_path: Path) -> Iterator[Coturn]:
    server = lab.hosts["server"]
    with Coturn(server.namespace, server.addresses(), tmp_path) as made:
        yield made


def stun_of(turn: Coturn) -> list[str]:
    return [f"{address}:3478" for address in turn.addresses]


@pytest.fixture
def direct(lab: Lab, turn: Coturn, tmp_path: Path) -> Iterator[Managed]:
    """Two that have met, with STUN and without a relay."""
    with managed(lab, tmp_path, stun=stun_of(turn)) as pair:
        pair.wake()
        pair.until(PathKind.DIRECT)
        yield pair


@pytest.fixture
def relayed(lab: Lab, turn: Coturn, tmp_path: Path) -> Iterator[Managed]:
    """Two that have met, with a relay as well."""
    with managed(lab, tmp_path, stun=stun_of(turn), turn=[turn]) as pair:
        pair.wake()
        pair.until(PathKind.DIRECT)
        yield pair


# --- Moving ---


@BOTH
def test_a_laptop_goes_from_wifi_to_lte_and_back(
    lab: Lab, turn: Coturn, tmp_path: Path, datapath: Implementation
) -> None:
    with managed(lab, tmp_path, stun=stun_of(turn), turn=[turn], datapath=datapath) as pair:
        pair.wake()
        pair.until(PathKind.DIRECT)
        lab.hosts["alice"].move("lte")
        pair.wake()
        # Bob's router lets in only whom he calls, and alice's takes another port for each.
        pair.until(PathKind.RELAY)
        lab.hosts["alice"].move("home")
        pair.wake()
        pair.until(PathKind.DIRECT)


def test_a_laptop_moves_without_a_relay(lab: Lab, direct: Managed) -> None:
    # Behind the same router as the other one, and out again.
    lab.hosts["alice"].move("office")
    direct.wake()
    direct.until(PathKind.DIRECT)
    assert direct.path(direct.alice).reason == "direct, in the same network"
    lab.hosts["alice"].move("home")
    direct.wake()
    direct.until(PathKind.DIRECT)
    assert direct.path(direct.alice).reason == "direct, by IPv4"


def test_a_router_reboots(lab: Lab, direct: Managed) -> None:
    lab.routers["home"].reboot()
    direct.wake()
    direct.until(PathKind.DIRECT)
    lab.routers["home"].renumber()
    direct.wake()
    direct.until(PathKind.DIRECT)
    place = direct.path(direct.bob).place
    assert place is not None
    assert place.host == lab.routers["home"].wan_ip


def test_a_laptop_sleeps_longer_than_its_mapping_lives(lab: Lab, direct: Managed) -> None:
    for router in ("home", "office"):
        lab.routers[router].set_udp_timeouts(2, 4)
    with direct.alice.asleep():
        time.sleep(8)
    direct.wake()
    direct.until(PathKind.DIRECT)


# --- A path dies ---


def test_the_direct_path_dies_in_one_direction(lab: Lab, relayed: Managed) -> None:
    lab.routers["office"].node.nft(ONE_WAY)
    relayed.wake()
    relayed.until(PathKind.RELAY)
    lab.routers["office"].node.nft("delete table ip oneway\n")
    relayed.until(PathKind.DIRECT, timeout=120)


def test_without_a_relay_it_is_punched_again(lab: Lab, direct: Managed) -> None:
    before = direct.alice.counter("nat_paths_lost")
    lab.routers["office"].node.nft(ONE_WAY)
    wait_until(lambda: direct.kinds() != {PathKind.DIRECT}, "the death to be noticed", PATIENCE)
    assert not direct.answers()
    lab.routers["office"].node.nft("delete table ip oneway\n")
    direct.wake()
    direct.until(PathKind.DIRECT)
    assert direct.alice.counter("nat_paths_lost") + direct.bob.counter("nat_paths_lost") > before
