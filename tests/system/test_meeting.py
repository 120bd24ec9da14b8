"""Daemons that find each other: the cells that most people are in (test_nat_cells.py has all)."""

from pathlib import Path

import pytest

from tests.support.natlab import Host, Lab, Nat, Router
from tests.support.natlab.site import Site, exchange
from wgpy.device.paths import PathKind, Transport

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.tool("wg"),
    pytest.mark.tool("wgpyd"),
    pytest.mark.tool("turnserver"),
    pytest.mark.tool("openssl"),
    pytest.mark.usefixtures("clean_machine"),
]


def test_two_homes_meet_and_a_hotel_and_a_telephone_use_the_relay(tmp_path: Path) -> None:
    kinds = {"home": Nat.PORT, "office": Nat.PORT, "hotel": Nat.BLOCKED, "telephone": Nat.SYM}
    routers = [Router(name, kind) for name, kind in kinds.items()]
    hosts = [Host("server", addresses=2), *(Host(name, name) for name in kinds)]
    with Lab(routers, hosts) as lab, Site(lab, tmp_path) as site:
        home, office, hotel, telephone = site.stations(*kinds)
        # By TCP where nothing else passes, and else by UDP.
        site.introduce(home, office, hotel, telephone, turn="any")
        for one, other, kind in (
            (home, office, PathKind.DIRECT),
            (hotel, home, PathKind.RELAY),
            (telephone, office, PathKind.RELAY),
        ):
            one.host.namespace.ping(other.inner, wait=20)
            found = site.wait_for(one, other, kind)
            exchange(one, other)
            if one is hotel:
                assert found.relay is not None
                assert found.relay.transport is Transport.TCP
