"""Daemons where two NATs are not the whole story: carriers, one house, IPv6, and a plain peer."""

from collections.abc import Iterator

import pytest

from tests.support.commands import wait_until
from tests.support.managed import BOTH
from tests.support.natlab import V6, Host, Lab, Line, Nat, Router
from tests.support.natlab.cells import DELAY, HOPS
from tests.support.natlab.site import NAT_PEER, Site, exchange, way
from tests.support.natlab.station import Station
from tests.support.programs import WGPY, WIREGUARD_GO, Implementation
from wgpy.device.paths import PathKind

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.tool("wg"),
    pytest.mark.tool("wgpyd"),
    pytest.mark.tool("turnserver"),
    pytest.mark.tool("openssl"),
    pytest.mark.tool("carrier"),
    pytest.mark.usefixtures("clean_machine"),
]

LINE = Line(delay=DELAY / 2, hops=HOPS)
# The NAT of a provider -> its customers.
CARRIERS = (Nat.FULL, Nat.ADDR, Nat.PORT, Nat.SYM, Nat.HAIRPIN)


def houses() -> tuple[list[Router], list[Host]]:
    """Every place of these tests, side by side."""
    routers = [Router("lone", Nat.PORT, line=LINE), Router("open", Nat.FULL, line=LINE)]
    hosts = [Host("server", addresses=2, line=LINE), Host("lone", "lone"), Host("open", "open")]
    hosts += [Host("sister", "lone")]
    for nat in CARRIERS:
        carrier = f"carrier-{nat.value}"
        routers.append(Router(carrier, nat, line=LINE))
        for number in (1, 2):
            name = f"{nat.value}-{number}"
            routers.append(Router(name, Nat.PORT, behind=carrier))
            hosts.append(Host(name, name))
    for number in (1, 2):
        name = f"dual-{number}"
        routers.append(Router(name, Nat.SYM, v6=V6.FIREWALL, line=LINE))
        hosts.append(Host(name, name))
        name = f"new-{number}"
        routers.append(Router(name, None, v6=V6.FIREWALL, line=LINE))
        hosts.append(Host(name, name))
    return routers, hosts


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        Lab(*houses(), ipv6=True) as lab,
        Site(lab, tmp_path_factory.mktemp("site"), families=(4, 6)) as made,
    ):
        yield made


def meet(
    site: Site, one: str, other: str, expected: PathKind, ours: Implementation = WGPY
) -> tuple[str, str]:
    """The two find such a way; where each sees the other."""
    with site.up(one, other, ours=ours) as (alice, bob):
        site.introduce(alice, bob)
        alice.host.namespace.ping(bob.inner, wait=20)
        there = site.wait_for(alice, bob, expected).place
        exchange(alice, bob)
        back = site.wait_for(bob, alice, expected).place
        assert there is not None
        assert back is not None
        return there.host, back.host


@pytest.mark.parametrize("carrier", [Nat.FULL, Nat.ADDR, Nat.PORT], ids=lambda nat: nat.value)
def test_behind_a_carrier_that_keeps_the_port(site: Site, carrier: Nat) -> None:
    outside = site.lab.routers[f"carrier-{carrier.value}"].wan_ip
    lone = site.lab.routers["lone"].wan_ip
    assert meet(site, f"{carrier.value}-1", "lone", PathKind.DIRECT) == (lone, outside)


def test_a_carrier_with_random_ports_is_as_bad_as_a_router_that_has_them(site: Site) -> None:
    meet(site, "sym-1", "lone", PathKind.RELAY)
    meet(site, "sym-1", "open", PathKind.DIRECT)


def test_two_customers_of_a_carrier_that_sends_none_back_need_the_relay(site: Site) -> None:
    meet(site, "port-1", "port-2", PathKind.RELAY)


def test_two_customers_of_a_carrier_that_sends_them_back(site: Site) -> None:
    outside = site.lab.routers["carrier-hairpin"].wan_ip
    assert meet(site, "hairpin-1", "hairpin-2", PathKind.DIRECT) == (outside, outside)


def test_two_of_one_house_stay_in_it(site: Site) -> None:
    hosts = site.lab.hosts
    found = meet(site, "lone", "sister", PathKind.DIRECT)
    assert found == (hosts["sister"].v4, hosts["lone"].v4)


@BOTH
def test_firewalls_of_ipv6_are_passed_where_ipv4_is_hopeless(
    site: Site, datapath: Implementation
) -> None:
    hosts = site.lab.hosts
    found = meet(site, "dual-1", "dual-2", PathKind.DIRECT, datapath)
    assert found == (hosts["dual-2"].v6, hosts["dual-1"].v6)


def test_two_without_ipv4_need_no_relay(site: Site) -> None:
    with site.up("new-1", "new-2") as (alice, bob):
        site.introduce(alice, bob, turn=None)
        alice.host.namespace.ping(bob.inner, wait=20)
        found = site.wait_for(alice, bob, PathKind.DIRECT)
        assert found.place is not None
        assert found.place.host == bob.host.v6
        exchange(alice, bob)


def test_one_server_that_is_both_stun_and_turn_answers_as_both(site: Site) -> None:
    with site.up("lone") as (alice,):
        site.introduce(alice)

        def is_known() -> bool:
            state = alice.state().nat_state
            kinds = set() if state is None else {kind for kind, _ in state.candidates}
            return state is not None and (kinds, state.mapping) == (
                {"host", "reflexive", "relayed"},
                "endpoint independent",
            )

        wait_until(is_known, "what there is to know", timeout=20)
        # Two tell the mapping, and a third is on its way.
        wait_until(lambda: alice.counter("nat_answered") >= 3, "all answers", timeout=20)


@BOTH
def test_a_plain_peer_is_found_where_it_is_said_to_be(site: Site, datapath: Implementation) -> None:
    """wireguard-go knows nothing of probes; its router forwards to whoever opened the port."""
    with site.up("dual-1", "open", ours=datapath, others=WIREGUARD_GO) as (alice, bob):
        outside = site.lab.routers["open"].wan_ip
        # It keeps its own mapping open, towards nobody.
        bob.configure(bob.knows(alice, at=f"{site.server.v4}:9", keepalive=1))
        found_at = f"{outside}:{bob.port}"
        known = alice.knows(bob, at=found_at, extra=NAT_PEER)
        alice.configure(known, tables=site.settings())
        alice.host.namespace.ping(bob.inner, wait=20)
        exchange(alice, bob)
        assert alice.peer(bob).endpoint == found_at


def test_a_plain_peer_that_was_elsewhere_is_found_again(site: Site) -> None:
    """Of two places that are given one after the other, the second is right."""
    with site.up("lone", "open", others=WIREGUARD_GO) as (alice, bob):
        outside = site.lab.routers["open"].wan_ip
        bob.configure(bob.knows(alice, at=f"{site.server.v4}:9", keepalive=1))
        tables = site.settings()
        for port in (bob.port + 1000, bob.port):
            known = alice.knows(bob, at=f"{outside}:{port}", extra=NAT_PEER)
            alice.configure(known, tables=tables)
        alice.host.namespace.ping(bob.inner, wait=20)
        assert alice.peer(bob).endpoint == f"{outside}:{bob.port}"


def test_three_meet_each_other_at_once(site: Site) -> None:
    with site.up("lone", "sister", "port-1") as stations:
        site.introduce(*stations)
        pairs = [(a, b) for a in stations for b in stations if a is not b]

        def all_direct() -> bool:
            for here, there in pairs:
                here.host.namespace.can_ping(there.inner)
            return all(way(a, b).kind is PathKind.DIRECT for a, b in pairs)

        wait_until(all_direct, "three direct ways", timeout=40)
        assert {path_host(a, b) for a, b in pairs if b is stations[2]} == {
            site.lab.routers["carrier-port"].wan_ip
        }


def path_host(here: Station, there: Station) -> str:
    """Where one has the other."""
    place = way(here, there).place
    assert place is not None
    return place.host
