"""The lab of NATs that other tests stand on: each kind is what it is called, and all goes away."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.natlab import V6, Block, Host, Lab, LabHost, Nat, PlanError, Router
from tests.support.natlab.punching import punch
from tests.support.natlab.reflector import (
    PORTS,
    Behaviour,
    Reach,
    Reflector,
    classify,
    mapped,
)
from tests.support.netns import CommandError
from tests.support.traffic import connects, listen

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


def small_lab(*routers: Router, ipv6: bool = False) -> Lab:
    """These routers, a laptop "at-NAME" behind each, and a server with two addresses."""
    hosts = [Host(f"at-{router.name}", router.name) for router in routers]
    return Lab(routers, [*hosts, Host("server", addresses=2)], ipv6=ipv6)


def udp(host: LabHost, port: int = 0) -> socket.socket:
    """A UDP socket of a host's first address, that waits for half a second; to be closed."""
    made = host.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host.v4, port))
    made.settimeout(0.5)
    return made


def passes(sender: socket.socket, target: tuple[str, int], receiver: socket.socket) -> bool:
    """Whether a datagram comes through, of three."""
    for _ in range(3):
        sender.sendto(b"through", target)
    try:
        receiver.recv(100)
    except TimeoutError:
        return False
    receiver.setblocking(False)
    for _ in range(2):
        try:
            receiver.recv(100)
        except BlockingIOError:
            break
    receiver.settimeout(0.5)
    return True


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
            with udp(lab.hosts[f"at-{name}"], 4000) as inside, udp(lab.hosts["server"]) as outside:
                assert passes(outside, inside.getsockname(), inside) == (name == "naive")


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
        udp(lab.hosts["alice"], 4000) as alice,
        udp(lab.hosts["bob"], 4000) as bob,
    ):
        outside = mapped([alice, bob], reflector)
        assert outside[0] is not None
        assert outside[1] is not None
        # Two with one port: the second one's is changed.
        assert outside[0] != outside[1]
        alice.sendto(b"round", outside[1])
        if nat is Nat.HAIRPIN:
            assert bob.recvfrom(100) == (b"round", outside[0])
        else:
            with pytest.raises(TimeoutError):
                bob.recvfrom(100)
        # And without it, on the LAN.
        alice.sendto(b"direct", (lab.hosts["bob"].v4, 4000))
        assert bob.recvfrom(100) == (b"direct", (lab.hosts["alice"].v4, 4000))


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
        udp(lab.hosts["alice"], 4000) as alice,
        udp(lab.hosts["bob"], 4000) as bob,
        udp(lab.hosts["server"]) as stranger,
    ):
        outside = mapped([alice, bob], reflector)
        for host, place in ((alice, outside[0]), (bob, outside[1])):
            assert place is not None
            assert passes(stranger, place, host)


# --- What is blocked ---


def test_where_udp_is_blocked_only_questions_for_names_pass() -> None:
    with small_lab(Router("home", Nat.BLOCKED)) as lab:
        laptop, server = lab.hosts["at-home"], lab.hosts["server"]
        with udp(laptop) as asker, udp(server, 53) as names, udp(server, 54) as other:
            assert passes(asker, (server.v4, 53), names)
            asker.sendto(b"question", (server.v4, 53))
            _, source = names.recvfrom(100)
            assert passes(names, source, asker)
            assert not passes(asker, (server.v4, 54), other)
        with listen(server.namespace, server.v4, 443):
            assert connects(laptop.namespace, server.v4, 443)


def test_what_is_blocked_can_change_and_stops_what_is_established() -> None:
    with small_lab(Router("home", Nat.PORT)) as lab:
        home, laptop, server = lab.routers["home"], lab.hosts["at-home"], lab.hosts["server"]
        with (
            udp(laptop) as inside,
            udp(server, 4000) as outside,
            listen(server.namespace, server.v4, 443),
            listen(server.namespace, server.v4, 3478),
        ):
            inside.sendto(b"first", (server.v4, 4000))
            _, source = outside.recvfrom(100)
            assert passes(outside, source, inside)
            home.set_block(Block.UDP)
            assert not passes(inside, (server.v4, 4000), outside)
            assert not passes(outside, source, inside)
            assert connects(laptop.namespace, server.v4, 3478)
            home.set_block(Block.ALL_BUT_WEB)
            assert connects(laptop.namespace, server.v4, 443)
            assert not connects(laptop.namespace, server.v4, 3478)
            home.set_block(Block.NOTHING)
            # The mapping is as it was.
            assert passes(outside, source, inside)


# --- What befalls routers ---


def test_a_reboot_forgets_mappings() -> None:
    with (
        small_lab(Router("sym", Nat.SYM), Router("full", Nat.FULL)) as lab,
        Reflector(lab.hosts["server"]) as reflector,
        udp(lab.hosts["at-sym"]) as symmetric,
        udp(lab.hosts["at-full"]) as cone,
        udp(lab.hosts["server"]) as stranger,
    ):
        before = mapped([symmetric, cone], reflector)
        assert mapped([symmetric, cone], reflector) == before
        assert before[1] is not None
        assert passes(stranger, before[1], cone)
        for router in lab.routers.values():
            router.reboot()
        assert not passes(stranger, before[1], cone)
        after = mapped([symmetric, cone], reflector)
        assert after[0] is not None
        assert after[0] != before[0]
        assert after[1] == before[1]


def test_a_provider_may_give_another_address() -> None:
    with (
        small_lab(Router("home", Nat.PORT)) as lab,
        Reflector(lab.hosts["server"]) as reflector,
        udp(lab.hosts["at-home"]) as laptop,
    ):
        home = lab.routers["home"]
        old = home.wan_ip
        port = laptop.getsockname()[1]
        assert mapped([laptop], reflector) == [(old, port)]
        home.renumber()
        assert home.wan_ip != old
        assert mapped([laptop], reflector) == [(home.wan_ip, port)]
        home.renumber()
        assert home.wan_ip == old
        assert mapped([laptop], reflector) == [(old, port)]


def test_mappings_are_forgotten_after_the_router_s_time() -> None:
    with (
        small_lab(Router("quick", Nat.FULL, udp_timeouts=(1, 1)), Router("slow", Nat.FULL)) as lab,
        Reflector(lab.hosts["server"]) as reflector,
        udp(lab.hosts["at-quick"]) as quick,
        udp(lab.hosts["at-slow"]) as slow,
        udp(lab.hosts["server"]) as stranger,
    ):
        first, second = mapped([quick, slow], reflector)
        assert first is not None
        assert second is not None
        assert passes(stranger, first, quick)
        # Silence, in which the mapping dies; `passes` is silence too.
        stranger.settimeout(2.5)
        with pytest.raises(TimeoutError):
            stranger.recv(100)
        assert not passes(stranger, first, quick)
        assert passes(stranger, second, slow)


def test_the_kind_can_change_while_connections_last() -> None:
    with (
        small_lab(Router("home", Nat.PORT)) as lab,
        Reflector(lab.hosts["server"]) as reflector,
        udp(lab.hosts["at-home"]) as laptop,
    ):
        before = mapped([laptop], reflector)
        lab.routers["home"].set_nat(Nat.SYM)
        assert mapped([laptop], reflector) == before
        found = classify(lab.hosts["at-home"], reflector)
        assert found is not None
        assert (found.mapping, found.filtering) == (PORT, PORT)
        lab.routers["home"].set_nat(Nat.BLOCKED)
        assert mapped([laptop], reflector) == [None]
        lab.routers["home"].set_nat(Nat.PORT)
        assert mapped([laptop], reflector) == before


def test_tables_of_others_on_a_router_stay_and_let_in_what_they_translate() -> None:
    with small_lab(Router("home", Nat.PORT)) as lab:
        home, laptop, server = lab.routers["home"], lab.hosts["at-home"], lab.hosts["server"]
        home.node.nft(
            "table ip other {\n chain pre {\n type nat hook prerouting priority -101;\n"
            f' iifname "{home.wan}" udp dport 5000 dnat to {laptop.v4}:4000\n }}\n}}\n'
        )
        home.set_nat(Nat.SYM)
        home.reboot()
        with udp(laptop, 4000) as inside, udp(server) as outside:
            assert passes(outside, (home.wan_ip, 5000), inside)
            assert not passes(outside, (home.wan_ip, 4000), inside)


# --- What befalls hosts ---


def test_a_laptop_is_carried_from_one_router_to_another() -> None:
    routers = [Router("home"), Router("lte", Nat.SYM)]
    hosts = [Host("laptop", "home"), Host("server", addresses=2)]
    with Lab(routers, hosts) as lab, Reflector(lab.hosts["server"]) as reflector:
        laptop, server = lab.hosts["laptop"], lab.hosts["server"]
        for place, interface in (("lte", "wwan0"), ("home", "wlan0"), ("", "eth0")):
            laptop.move(place, interface)
            links = laptop.namespace.ip("-brief", "link", "show").split()
            assert (laptop.namespace.link, interface in "".join(links)) == (interface, True)
            laptop.namespace.ping(server.v4)
            with udp(laptop) as made:
                (outside,) = mapped([made], reflector)
            assert outside is not None
            assert outside[0] == (lab.routers[place].wan_ip if place else laptop.v4)


def test_a_laptop_with_two_ways_out_takes_the_one_with_the_lower_metric() -> None:
    routers = [Router("home"), Router("lte")]
    hosts = [Host("laptop", "home"), Host("server", addresses=2)]
    with Lab(routers, hosts) as lab, Reflector(lab.hosts["server"]) as reflector:
        laptop = lab.hosts["laptop"]
        laptop.attach("lte", "wwan0", metric=600)
        assert len(laptop.addresses()) == 2

        def way() -> str | None:
            with laptop.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                (outside,) = mapped([made], reflector)
            return outside and outside[0]

        assert way() == lab.routers["home"].wan_ip
        laptop.down()
        assert way() == lab.routers["lte"].wan_ip
        laptop.up()
        assert way() == lab.routers["home"].wan_ip
        laptop.detach()
        assert way() == lab.routers["lte"].wan_ip


def test_a_cable_is_cut_and_healed_and_nobody_is_told() -> None:
    with small_lab(Router("home")) as lab:
        laptop, server = lab.hosts["at-home"], lab.hosts["server"]
        for cut in (laptop, lab.routers["home"], server):
            laptop.namespace.ping(server.v4)
            cut.cut()
            assert not laptop.namespace.can_ping(server.v4)
            assert "NO-CARRIER" not in laptop.namespace.ip("link", "show", laptop.namespace.link)
            cut.heal()
        laptop.namespace.ping(server.v4)


def test_what_goes_over_a_cable_can_be_captured() -> None:
    with small_lab(Router("home", Nat.SYM)) as lab:
        home, server = lab.routers["home"], lab.hosts["server"]
        with (
            udp(lab.hosts["at-home"]) as inside,
            udp(server, 4000) as outside,
            home.link.capture() as capture,
        ):
            assert passes(inside, (server.v4, 4000), outside)
        packets = [frame for _, frame in capture.frames if b"through" in frame]
        # Already translated; the source stands behind the Ethernet header and twelve bytes.
        assert {socket.inet_ntoa(frame[26:30]) for frame in packets} == {home.wan_ip}


# --- The internet ---


def test_a_packet_that_may_not_go_far_ends_on_the_internet() -> None:
    with small_lab(Router("one", Nat.OPEN), Router("other", Nat.OPEN)) as lab:
        near, far = lab.hosts["at-one"].namespace, lab.hosts["at-other"]
        near.run("ping", "-n", "-c1", "-t4", far.v4)
        with pytest.raises(CommandError):
            near.run("ping", "-n", "-c1", "-W1", "-t3", far.v4)
        said = near.run("ping", "-n", "-c1", "-W1", "-t2", far.v4, check=False).stdout
        assert "11.77.0.254 icmp_seq=1 Time to live exceeded" in said


def test_ipv6_is_never_translated_and_a_firewall_lets_only_answers_in() -> None:
    routers = (
        Router("walled", v6=V6.FIREWALL),
        Router("open", v6=V6.OPEN),
        Router("only", None, v6=V6.FIREWALL),
        Router("carrier", v6=V6.OPEN),
        Router("behind", behind="carrier", v6=V6.FIREWALL),
    )
    with small_lab(*routers, ipv6=True) as lab:
        server = lab.hosts["server"]
        for name in lab.routers:
            laptop = lab.hosts[f"at-{name}"]
            laptop.namespace.ping(server.v6)
            assert server.namespace.can_ping(laptop.v6) == (name in ("open", "carrier"))
        assert lab.hosts["at-only"].v4 == ""
        # Who was sent to may answer.
        laptop = lab.hosts["at-walled"]
        with (
            laptop.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as inside,
            server.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as outside,
        ):
            inside.bind((laptop.v6, 4000))
            outside.bind((server.v6, PORTS[0]))
            inside.settimeout(0.5)
            outside.settimeout(0.5)
            assert not passes(outside, inside.getsockname()[:2], inside)
            assert passes(inside, outside.getsockname()[:2], outside)
            assert passes(outside, inside.getsockname()[:2], inside)


# --- Building, and going away ---


def namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").glob("wgpyt-*")}


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
