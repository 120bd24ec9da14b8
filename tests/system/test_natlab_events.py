"""What befalls routers and hosts of the lab, and what the internet between them does."""

import contextlib
import socket
import struct

import pytest

from tests.support.natlab import V6, Block, Host, Lab, Nat, Router
from tests.support.natlab.probing import is_kept_out, passes, small_lab
from tests.support.natlab.reflector import PORTS, Reach, Reflector, classify, mapped
from tests.support.netns import CommandError
from tests.support.traffic import connects, listen
from tests.support.upnp_router import Miniupnpd

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.usefixtures("clean_machine"),
]

# --- What is blocked ---


def test_where_udp_is_blocked_only_questions_for_names_pass() -> None:
    with small_lab(Router("home", Nat.BLOCKED)) as lab:
        laptop, server = lab.hosts["at-home"], lab.hosts["server"]
        with laptop.udp() as asker, server.udp(53) as names, server.udp(54) as other:
            source = passes(asker, (server.v4, 53), names)
            assert source is not None
            assert passes(names, source, asker)
            assert is_kept_out(asker, (server.v4, 54), other)
        with listen(server.namespace, server.v4, 443):
            assert connects(laptop.namespace, server.v4, 443)


def test_what_is_blocked_can_change_and_stops_what_is_established() -> None:
    with small_lab(Router("home", Nat.PORT)) as lab:
        home, laptop, server = lab.routers["home"], lab.hosts["at-home"], lab.hosts["server"]
        with (
            laptop.udp() as inside,
            server.udp(4000) as outside,
            listen(server.namespace, server.v4, 443),
            listen(server.namespace, server.v4, 3478),
        ):
            source = passes(inside, (server.v4, 4000), outside)
            assert source is not None
            assert passes(outside, source, inside)
            home.set_block(Block.UDP)
            assert is_kept_out(inside, (server.v4, 4000), outside)
            assert is_kept_out(outside, source, inside)
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
        lab.hosts["at-sym"].udp() as symmetric,
        lab.hosts["at-full"].udp() as cone,
        lab.hosts["server"].udp() as stranger,
    ):
        before = mapped([symmetric, cone], reflector)
        assert mapped([symmetric, cone], reflector) == before
        assert before[1] is not None
        assert passes(stranger, before[1], cone)
        for router in lab.routers.values():
            router.reboot()
        assert is_kept_out(stranger, before[1], cone)
        after = mapped([symmetric, cone], reflector)
        assert after[0] is not None
        assert after[0] != before[0]
        assert after[1] == before[1]


def test_a_provider_may_give_another_address() -> None:
    with (
        small_lab(Router("home", Nat.PORT)) as lab,
        Reflector(lab.hosts["server"]) as reflector,
        lab.hosts["at-home"].udp() as laptop,
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
        lab.hosts["at-quick"].udp() as quick,
        lab.hosts["at-slow"].udp() as slow,
        lab.hosts["server"].udp() as stranger,
    ):
        first, second = mapped([quick, slow], reflector)
        assert first is not None
        assert second is not None
        assert passes(stranger, first, quick)
        # Silence, in which the mapping dies.
        stranger.settimeout(2.5)
        with pytest.raises(TimeoutError):
            stranger.recv(100)
        assert is_kept_out(stranger, first, quick)
        assert passes(stranger, second, slow)


def test_the_kind_can_change_while_connections_last() -> None:
    with (
        small_lab(Router("home", Nat.PORT)) as lab,
        Reflector(lab.hosts["server"]) as reflector,
        lab.hosts["at-home"].udp() as laptop,
    ):
        before = mapped([laptop], reflector)
        lab.routers["home"].set_nat(Nat.SYM)
        assert mapped([laptop], reflector) == before
        found = classify(lab.hosts["at-home"], reflector)
        assert found is not None
        assert (found.mapping, found.filtering) == (Reach.ADDRESS_AND_PORT, Reach.ADDRESS_AND_PORT)
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
        with laptop.udp(4000) as inside, server.udp() as outside:
            assert passes(outside, (home.wan_ip, 5000), inside)
            assert is_kept_out(outside, (home.wan_ip, 4000), inside)


@pytest.mark.tool("miniupnpd")
def test_a_port_mapping_service_works_on_a_router() -> None:
    with small_lab(Router("home", Nat.SYM)) as lab, contextlib.ExitStack() as stack:
        home, laptop, server = lab.routers["home"], lab.hosts["at-home"], lab.hosts["server"]
        daemon = Miniupnpd(home.namespace, home.lan, home.wan)
        stack.callback(daemon.close)
        daemon.start()
        with laptop.udp(4000) as inside, server.udp() as outside:
            # RFC 6886, 3.3: map UDP port 4000, outside perhaps as 5000, for a minute.
            request = struct.pack(">BBHHHI", 0, 1, 0, 4000, 5000, 60)
            with laptop.udp() as asker:
                asker.settimeout(5)
                asker.sendto(request, (home.lan_ip, 5351))
                answer = struct.unpack(">BBHIHHI", asker.recv(100))
            assert answer[:3] == (0, 129, 0)
            assert answer[5] == 5000
            assert passes(outside, (home.wan_ip, 5000), inside)
            assert is_kept_out(outside, (home.wan_ip, 4000), inside)
            # Its rules are its own.
            home.set_nat(Nat.PORT)
            assert passes(outside, (home.wan_ip, 5000), inside)


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
            with laptop.udp() as made:
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
            lab.hosts["at-home"].udp() as inside,
            server.udp(4000) as outside,
            home.link.capture() as capture,
        ):
            source = passes(inside, (server.v4, 4000), outside)
        # Addresses and ports of what is UDP (17) over IPv4, already translated.
        frames = [x for _, x in capture.frames if x[12:14] == b"\x08\x00" and x[23] == 17]
        assert {(socket.inet_ntoa(x[26:30]), int.from_bytes(x[34:36], "big")) for x in frames} == {
            source
        }


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
            assert is_kept_out(outside, inside.getsockname()[:2], inside)
            assert passes(inside, outside.getsockname()[:2], outside)
            assert passes(outside, inside.getsockname()[:2], inside)
