"""The lab of NATs that other tests stand on: each kind is what it is called, and all goes away."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.natlab import V6, Host, Lab, Nat, PlanError, Router
from tests.support.natlab.probing import is_kept_out, passes, small_lab
from tests.support.natlab.punching import punch
from tests.support.natlab.reflector import (
    Behaviour,
    Reach,
    Reflector,
    classify,
    mapped,
)

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.usefixtures("clean_machine"),
]

ANY, ADDRESS, PORT = Reach.ENDPOINT_INDEPENDENT, Reach.ADDRESS, Reach.ADDRESS_AND_PORT

# Mapping and filtering (RFC 4787); a host without UDP has neither.
BEHAVIOUR: dict[Nat, tuple[Reach, Reach] | None] = {
    Nat.OPEN: (ANY, ANY),
    Nat.FULL: (ANY, ANY),
    Nat.ADDR: (ANY, ADDRESS),
    Nat.PORT: (ANY, PORT),
    Nat.HAIRPIN: (ANY, PORT),
    Nat.SYM: (PORT, PORT),
    Nat.SYMSEQ: (PORT, PORT),
    Nat.SYMADDR: (ADDRESS, PORT),
    Nat.NAIVE: (ANY, PORT),
    Nat.BLOCKED: None,
}
KINDS = tuple(Nat)
# Those that let in who was not sent to before, from an address that was.
LENIENT = {Nat.OPEN, Nat.FULL, Nat.ADDR}
# Those whose mapping for a new destination can be known before it is made.
PREDICTABLE = {*LENIENT, Nat.PORT, Nat.HAIRPIN, Nat.NAIVE}


def expected(early: Nat, late: Nat) -> bool:
    """Whether simple punching gets through where the late one sends 50 ms after the early one."""
    if Nat.BLOCKED in (early, late):
        return False
    if early in LENIENT or late in LENIENT:
        return True
    # What the early one sends reaches the late one's router before that has a mapping for it, and
    # a naive router takes it for itself: its mapping is another one than was told.
    return early in PREDICTABLE and late in PREDICTABLE and late is not Nat.NAIVE


@dataclass(frozen=True)
class Zoo:
    """One lab with two routers of each kind and a laptop behind each, and what was found there."""

    lab: Lab
    reflector: Reflector
    behaviour: dict[Nat, Behaviour | None]
    through: dict[tuple[Nat, Nat], list[bool]]


@pytest.fixture(scope="module")
def zoo(clean_machine: None) -> Iterator[Zoo]:
    routers = [Router(f"{nat.value}{side}", nat) for nat in KINDS for side in (1, 2)]
    hosts = [Host(f"at-{router.name}", router.name) for router in routers]
    server = Host("server", addresses=2)
    with Lab(routers, [*hosts, server]) as lab, Reflector(lab.hosts["server"]) as reflector:
        laptops = [lab.hosts[f"at-{nat.value}1"] for nat in KINDS]
        with ThreadPoolExecutor(len(KINDS)) as pool:
            found = pool.map(lambda host: classify(host, reflector), laptops)
            behaviour = dict(zip(KINDS, found, strict=True))
        cells = [(early, late) for early in KINDS for late in KINDS]
        pairs = [(lab.hosts[f"at-{a.value}1"], lab.hosts[f"at-{b.value}2"]) for a, b in cells]
        rounds = [punch(pairs, reflector) for _ in range(2)]
        results = zip(*rounds, strict=True)
        through = {cell: list(got) for cell, got in zip(cells, results, strict=True)}
        yield Zoo(lab, reflector, behaviour, through)


# --- The kinds of NAT ---


@pytest.mark.parametrize("nat", KINDS, ids=lambda nat: nat.value)
def test_a_nat_is_of_the_kind_that_it_is_called(zoo: Zoo, nat: Nat) -> None:
    found = zoo.behaviour[nat]
    assert (found and (found.mapping, found.filtering)) == BEHAVIOUR[nat]


def test_ports_are_kept_random_or_in_sequence(zoo: Zoo) -> None:
    kept = {nat for nat, found in zoo.behaviour.items() if found is not None and found.keeps_port}
    assert kept == PREDICTABLE
    sequence = zoo.behaviour[Nat.SYMSEQ]
    assert sequence is not None
    first = sequence.mapped[0][1]
    assert [port for _, port in sequence.mapped] == [first, first + 1, first + 2]


def test_only_an_open_router_shows_the_address_of_its_host(zoo: Zoo) -> None:
    for nat, found in zoo.behaviour.items():
        if found is not None:
            router = zoo.lab.routers[f"{nat.value}1"]
            outside = found.local[0] if nat is Nat.OPEN else router.wan_ip
            assert {address for address, _ in found.mapped} == {outside}


@pytest.mark.parametrize("early", KINDS, ids=lambda nat: f"early-{nat.value}")
@pytest.mark.parametrize("late", KINDS, ids=lambda nat: f"late-{nat.value}")
def test_simple_punching_gets_through_exactly_where_it_can(zoo: Zoo, early: Nat, late: Nat) -> None:
    assert zoo.through[early, late] == [expected(early, late)] * 2


def test_only_a_naive_router_lets_in_who_knows_the_way_to_its_lan() -> None:
    with small_lab(Router("usual", Nat.PORT), Router("naive", Nat.NAIVE)) as lab:
        for name, router in lab.routers.items():
            router.uplink.announce(str(router.network), router.wan_ip)
            with lab.hosts[f"at-{name}"].udp(4000) as inside, lab.hosts["server"].udp() as outside:
                ask = passes if name == "naive" else is_kept_out
                assert ask(outside, inside.getsockname(), inside)


# --- More than one router, or host ---


def test_a_chain_of_routers_is_as_strict_as_its_strictest() -> None:
    outer = (Nat.FULL, Nat.ADDR, Nat.PORT, Nat.SYM)
    carriers = [Router(f"carrier-{nat.value}", nat) for nat in outer]
    homes = [Router(f"home-{nat.value}", Nat.PORT, f"carrier-{nat.value}") for nat in outer]
    hosts = [Host(home.name, home.name) for home in homes]
    with (
        Lab([*carriers, *homes], [*hosts, Host("server", addresses=2)]) as lab,
        Reflector(lab.hosts["server"]) as reflector,
    ):
        for nat in outer:
            assert lab.routers[f"home-{nat.value}"].wan_ip.startswith("100.64.")
            found = classify(lab.hosts[f"home-{nat.value}"], reflector)
            assert found is not None
            mapping = PORT if nat is Nat.SYM else ANY
            assert (found.mapping, found.filtering) == (mapping, PORT)
            assert found.mapped[0][0] == lab.routers[f"carrier-{nat.value}"].wan_ip
        pairs = [(hosts[0], hosts[1]), (hosts[1], hosts[2]), (hosts[0], hosts[3])]
        chosen = [(lab.hosts[one.name], lab.hosts[other.name]) for one, other in pairs]
        assert punch(chosen, reflector) == [True, True, False]


@pytest.mark.parametrize("nat", [Nat.HAIRPIN, Nat.PORT], ids=lambda nat: nat.value)
def test_hosts_of_one_router_reach_each_other_by_its_outside_where_it_turns_round(nat: Nat) -> None:
    hosts = [Host("alice", "home"), Host("bob", "home"), Host("server", addresses=2)]
    with (
        Lab([Router("home", nat)], hosts) as lab,
        Reflector(lab.hosts["server"]) as reflector,
        lab.hosts["alice"].udp(4000) as alice,
        lab.hosts["bob"].udp(4000) as bob,
    ):
        outside = mapped([alice, bob], reflector)
        assert outside[0] is not None
        assert outside[1] is not None
        # Two with one port: the second one's is changed.
        assert outside[0] != outside[1]
        if nat is Nat.HAIRPIN:
            assert passes(alice, outside[1], bob) == outside[0]
        else:
            assert is_kept_out(alice, outside[1], bob)
        # And without it, on the LAN.
        assert passes(alice, (lab.hosts["bob"].v4, 4000), bob) == (lab.hosts["alice"].v4, 4000)


def test_two_homes_may_have_the_same_network() -> None:
    routers = [Router(name, lan="192.168.0.0/24") for name in ("one", "other")]
    with small_lab(*routers) as lab:
        one, other = lab.hosts["at-one"], lab.hosts["at-other"]
        assert one.v4 == other.v4
        for laptop in (one, other):
            laptop.namespace.ping(lab.hosts["server"].v4)


def test_a_cone_tells_two_hosts_with_one_port_apart() -> None:
    hosts = [Host("alice", "home"), Host("bob", "home"), Host("server", addresses=2)]
    with (
        Lab([Router("home", Nat.FULL)], hosts) as lab,
        Reflector(lab.hosts["server"]) as reflector,
        lab.hosts["alice"].udp(4000) as alice,
        lab.hosts["bob"].udp(4000) as bob,
        lab.hosts["server"].udp() as stranger,
    ):
        outside = mapped([alice, bob], reflector)
        for host, place in ((alice, outside[0]), (bob, outside[1])):
            assert place is not None
            assert passes(stranger, place, host)


# --- Building, and going away ---


def namespaces() -> set[str]:
    """Ours; other tests run beside us."""
    return {path.name for path in Path("/run/netns").glob(f"wgpyt-{os.getpid()}-*")}


def test_nothing_is_left_when_a_test_fails() -> None:
    before = namespaces()
    seen = set()

    def fail() -> None:
        with small_lab(Router("home")) as lab:
            lab.hosts["at-home"].namespace.popen("sleep", "1000")
            seen.update(namespaces() - before)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(seen) == 4
    assert namespaces() == before


def test_nothing_is_left_when_it_cannot_be_built() -> None:
    before = namespaces()
    routers = [Router("outer"), Router("inner", behind="outer", v6=V6.OPEN)]
    with pytest.raises(PlanError, match="'outer' has not got what it passes on"):
        Lab(routers, ipv6=True).__enter__()
    assert namespaces() == before


@pytest.mark.parametrize(
    ("routers", "hosts", "said"),
    [
        ([Router("a"), Router("a")], [], "another one has this name"),
        ([Router("inner", behind="outer"), Router("outer")], [], "must stand before it"),
        ([], [Host("a", "nowhere")], "there is no router 'nowhere'"),
        ([], [Host("a"), Host("a")], "another one has this name"),
        ([Router("a", v6=V6.OPEN)], [], "a router has IPv6, and the lab has not"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(
    routers: list[Router], hosts: list[Host], said: str
) -> None:
    with pytest.raises(PlanError, match=said):
        Lab(routers, hosts)
