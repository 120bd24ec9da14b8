"""Whole lives of a port mapping, on a fake clock, against a router written from the RFCs."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_gateway import (
    EXTERNAL,
    GATEWAY,
    NETWORK,
    NETWORK_V6,
    OWN,
    OWN_V6,
    PORT,
    SECRET,
    SERVER,
    START,
    Life,
    Router,
)
from wgpy.nat.mapping import Changed, Service
from wgpy.nat.place import Place, Send
from wgpy.nat.portmap import ALARM_DELAY, BETWEEN_ALARMS, CHECK_INTERVAL, PortMap, State
from wgpy.nat.portmap_look import Network
from wgpy.nat.portmap_ways import LONGEST_PAUSE
from wgpy.nat.upnp import Deed

ALL = {"PCP", "NAT-PMP", "UPnP"}
SERVICES = [("PCP", Service.PCP), ("NAT-PMP", Service.NAT_PMP), ("UPnP", Service.UPNP)]
EACH = pytest.mark.parametrize(("name", "service"), SERVICES)
BY_UDP = pytest.mark.parametrize(("name", "service"), SERVICES[:2])


def external(life: Life) -> Place | None:
    return life.mapping.external if life.mapping else None


def requests(life: Life, since: float = 0.0) -> list[Send]:
    return [send for when, send in life.sent if when >= since]


# --- To a mapping ---


@EACH
def test_each_service_gives_a_mapping(name: str, service: Service) -> None:
    life = Life(Router({name}))
    life.run(5)
    assert life.mapping is not None
    assert life.mapping.external == Place(EXTERNAL, PORT)
    assert life.mapping.service is service
    assert life.mapping.gateway == GATEWAY
    assert life.router.forwards(PORT) == (OWN, PORT)
    assert [change.mapping for _, change in life.changes] == [life.mapping]
    assert life.map.state is State.HELD


def test_pcp_is_taken_before_natpmp_and_that_before_upnp() -> None:
    for services, taken in ((ALL, "PCP"), (ALL - {"PCP"}, "NAT-PMP"), ({"UPnP"}, "UPnP")):
        life = Life(Router(set(services)))
        life.run(5)
        assert life.mapping is not None
        assert life.mapping.service.value == taken
        assert {name for name, *_ in life.router.asked} == {taken}


def test_pcp_is_there_within_a_few_milliseconds() -> None:
    life = Life(Router(ALL))
    life.run(5)
    assert life.changes[0][0] - START < 0.02
    assert life.orders == [], "nobody searched by multicast"


def test_a_natpmp_server_that_complains_of_pcp_is_not_waited_for() -> None:
    life = Life(Router({"NAT-PMP"}))
    life.run(5)
    assert life.changes[0][0] - START < 0.02


def test_a_port_that_is_another_s_is_left_alone() -> None:
    for name, _ in SERVICES:
        router = Router({name}, taken={PORT})
        life = Life(router)
        life.run(5)
        found = external(life)
        assert found is not None
        assert found.port != PORT
        assert found.port >= 1024
        assert router.forwards(found.port) == (OWN, PORT)


def test_a_low_port_of_ours_asks_for_a_high_one() -> None:
    life = Life(Router({"PCP"}), None)
    life.map.set(NETWORK, 443, life.now)
    life.flush()
    life.run(5)
    found = external(life)
    assert found is not None
    assert found.port >= 1024


def test_an_ipv6_router_opens_its_firewall_by_pcp_alone() -> None:
    life = Life(Router(ALL, gateway=NETWORK_V6.gateway), NETWORK_V6)
    life.run(5)
    assert external(life) == Place(OWN_V6, PORT)
    assert all(send.data[0] == 2 for send in requests(life))
    life = Life(Router({"NAT-PMP", "UPnP"}, gateway=NETWORK_V6.gateway), NETWORK_V6)
    life.run(60)
    assert external(life) is None
    assert life.orders == []


# --- Renewing ---


@EACH
def test_it_is_renewed_at_half_of_its_lifetime_for_ever(name: str, service: Service) -> None:
    life = Life(Router({name}))
    life.run(7 * 86_400)
    assert external(life) == Place(EXTERNAL, PORT)
    assert life.router.forwards(PORT) == (OWN, PORT)
    assert len(life.changes) == 1, "nothing changed in a week"
    assert life.router.most == 1, "and never were there two mappings"
    assert 7 * 86_400 / 3_600 * 0.8 < len(life.router.asked) <= 7 * 86_400 / 3_600 + 1
    assert {(inner, outer) for _, inner, outer, _ in life.router.asked[1:]} == {(PORT, PORT)}


@BY_UDP
def test_a_short_lifetime_is_renewed_in_time(name: str, service: Service) -> None:
    life = Life(Router({name}, lifetimes=(12, 12)))
    life.run(600)
    assert len(life.changes) == 1
    assert life.router.forwards(PORT) == (OWN, PORT)
    assert 600 / len(life.router.asked) > 4, "RFC 6887, 11.2.1: not more often than each 4 s"


@BY_UDP
def test_a_lifetime_that_cannot_be_kept_is_given_back(name: str, service: Service) -> None:
    life = Life(Router({name}, lifetimes=(1, 5)))
    life.run(1)
    assert external(life) is None
    assert life.router.ours() == []
    assert "only 5 s" in life.map.reason


@BY_UDP
def test_a_promise_of_years_is_taken_for_a_day(name: str, service: Service) -> None:
    life = Life(Router({name}, lifetimes=(4_000_000_000, 4_000_000_000)))
    life.run(5)
    assert life.mapping is not None
    assert life.mapping.expires is not None
    assert life.mapping.expires <= life.now + 86_400


def test_a_router_with_permanent_mappings_only_is_looked_after() -> None:
    life = Life(Router({"UPnP"}, only_permanent=True))
    life.run(3_600)
    assert life.mapping is not None
    assert life.mapping.expires is None
    deeds = [order.deed for _, order in life.orders]
    assert deeds == [Deed.MAP] + [Deed.CHECK] * 5
    life.run(3_600)
    assert [order.deed for _, order in life.orders].count(Deed.MAP) == 2, "it is asked for again"
    assert len(life.changes) == 1
    life.release()
    assert life.router.ours() == []


def test_a_renewal_asks_for_what_is_held() -> None:
    """So a router that forgot gives the same address and port again (RFC 6887, 11.2.1)."""
    router = Router({"PCP"}, taken={PORT})
    life = Life(router)
    life.run(5)
    held = external(life)
    router.reboot()
    life.run(7_200)
    assert external(life) == held
    assert len(life.changes) == 1


# --- Loss ---


@BY_UDP
@given(lost=st.lists(st.booleans(), min_size=40, max_size=40))
def test_lost_datagrams_delay_it_only(name: str, service: Service, lost: list[bool]) -> None:
    life = Life(Router({name}))
    coming = iter(lost)
    life.loss = lambda send: next(coming, False)
    # So many lost in a row may have made the pauses long.
    life.run(6_000)
    assert external(life) == Place(EXTERNAL, PORT)
    assert life.router.most == 1


@BY_UDP
def test_a_lost_renewal_is_sent_again(name: str, service: Service) -> None:
    life = Life(Router({name}))
    life.run(3_500)
    count = iter(range(100))
    life.loss = lambda send: len(send.data) > 11 and next(count) < 3
    life.run(3_000)
    assert len(life.changes) == 1
    assert life.map.counters["silent"] == 0


@BY_UDP
def test_a_router_that_is_gone_ends_the_mapping_and_pauses_grow(
    name: str, service: Service
) -> None:
    life = Life(Router({name}))
    life.run(5)
    life.router.services.clear()
    life.run(CHECK_INTERVAL + 60)
    assert [change.mapping for _, change in life.changes][1:] == [None]
    assert life.map.counters["silent"] == 1
    since = life.now
    life.run(86_400)
    # An hour apart at last: each look is four datagrams and six searches, two of each unicast.
    assert len(requests(life, since)) < 86_400 / LONGEST_PAUSE * 1.3 * 10 + 70
    life.router.services.add(name)
    life.run(LONGEST_PAUSE * 1.1 + 5)
    assert external(life) == Place(EXTERNAL, PORT)


def test_the_answer_to_a_request_given_up_leaves_nothing_behind() -> None:
    """Requests arrive and answers do not: what the router granted is taken back."""
    life = Life(Router({"PCP"}))
    router_hear = life.router.hear
    life.router.hear = lambda send: (
        router_hear(send)
        if len(send.data) < 60
        # type: ignore[method-assign]
        else (router_hear(send) and [])
    )
    life.run(29)
    assert external(life) is None
    assert [lifetime for *_, lifetime in life.router.asked] == [7_200] * 5 + [0]
    assert life.router.ours() == []


def test_without_any_service_nothing_but_probes_leaves() -> None:
    life = Life(Router(set()))
    life.run(5)
    assert external(life) is None
    assert life.map.state is State.PAUSING
    assert life.changes == [], "there was none, and there is none"
    assert [(when - START, send.to.port) for when, send in life.sent] == [
        (0.0, 5351),
        (0.0, 5351),
        (0.25, 5351),
        (0.25, 5351),
        *[(0.5, 1900)] * 3,
        *[(1.0, 1900)] * 3,
    ]
    assert life.map.reason == "the router has no service for it"


def test_an_answer_that_comes_late_ends_the_search() -> None:
    life = Life(Router({"PCP", "UPnP"}), None)
    life.delay = 0.35
    life.map.set(NETWORK, PORT, life.now)
    life.flush()
    life.run(1.5)
    assert life.mapping is not None
    assert life.mapping.service is Service.PCP
    assert life.orders == []


def test_a_loop_that_was_late_still_waits_for_the_answers() -> None:
    """A busy machine: the timer is seen a second late, and only then what was sent again."""
    life = Life(Router({"PCP"}), None)
    life.loss = lambda send: life.now < START + 0.2
    life.map.set(NETWORK, PORT, life.now)
    life.flush()
    life.run(0.1)
    life.now += 1.0
    life.run(0.1)
    assert external(life) == Place(EXTERNAL, PORT)
    assert all(send.to.port == SERVER for send in requests(life))


def test_pauses_grow_to_an_hour() -> None:
    life = Life(Router(set()))
    life.run(100_000)
    starts = [when for when, send in life.sent if send.data == b"\0\0"][::2]
    pauses = [after - before for before, after in itertools.pairwise(starts)]
    assert 27 <= pauses[0] <= 36
    assert all(after > before * 1.4 for before, after in itertools.pairwise(pauses[:6]))
    assert all(0.9 * LONGEST_PAUSE <= pause <= 1.1 * LONGEST_PAUSE + 3 for pause in pauses[8:])


# --- A router that is started anew ---


@BY_UDP
def test_a_reboot_is_seen_by_the_epoch_at_the_next_check(name: str, service: Service) -> None:
    life = Life(Router({name}))
    life.run(100)
    life.router.reboot()
    assert life.router.ours() == []
    life.run(CHECK_INTERVAL)
    assert life.router.forwards(PORT) == (OWN, PORT)
    assert life.map.counters["lost"] == 1
    assert len(life.changes) == 1, "the same port, so nothing is to be told"


def test_a_reboot_is_seen_by_upnp_too() -> None:
    life = Life(Router({"UPnP"}))
    life.run(100)
    life.router.reboot()
    life.run(CHECK_INTERVAL + 10)
    assert life.router.forwards(PORT) == (OWN, PORT)
    assert len(life.changes) == 1


@BY_UDP
def test_what_a_router_says_unasked_hurries_the_check(name: str, service: Service) -> None:
    life = Life(Router({name}))
    life.run(100)
    life.router.reboot()
    life.now += 1
    since = life.now
    life.map.heard(life.router._pcp_head(0, 0, 0), Place(GATEWAY, SERVER), life.now)
    life.run(0.01)
    assert requests(life, since) == [], "RFC 6887, 14.1.3: not all machines of a network at once"
    life.run(6)
    assert life.router.forwards(PORT) == (OWN, PORT)


def test_a_machine_that_slept_finds_a_new_mapping() -> None:
    life = Life(Router({"PCP"}))
    life.run(100)
    life.router.reboot(external="11.0.0.9")
    life.now += 50_000
    life.run(10)
    assert external(life) == Place("11.0.0.9", PORT)
    assert [c.mapping and c.mapping.external.host for _, c in life.changes] == [
        EXTERNAL,
        None,
        "11.0.0.9",
    ]


@EACH
def test_a_new_external_address_is_told(name: str, service: Service) -> None:
    life = Life(Router({name}))
    life.run(100)
    life.router.external = "11.0.0.8"
    life.run(4_100)
    assert external(life) == Place("11.0.0.8", PORT)
    assert [c.mapping.external.host for _, c in life.changes if c.mapping] == [
        EXTERNAL,
        "11.0.0.8",
    ]


def test_natpmp_tells_a_new_address_at_the_check_and_it_is_asked_again() -> None:
    life = Life(Router({"NAT-PMP"}))
    life.run(100)
    life.router.reboot(external="11.0.0.8")
    life.router.started = START - 500  # it kept its clock
    life.run(CHECK_INTERVAL)
    assert external(life) == Place("11.0.0.8", PORT)
    assert life.router.forwards(PORT) == (OWN, PORT)


# --- A network that changes ---


def test_a_new_port_of_ours_gives_the_old_one_back() -> None:
    for name, _ in SERVICES:
        life = Life(Router({name}))
        life.run(5)
        life.map.set(NETWORK, PORT + 1, life.now)
        life.flush()
        assert external(life) is None
        life.run(10)
        found = external(life)
        assert found is not None
        assert life.router.forwards(found.port) == (OWN, PORT + 1)
        assert len(life.router.ours()) == 1


def test_another_router_is_asked_and_the_old_one_is_not() -> None:
    life = Life(Router({"PCP"}))
    life.run(5)
    old = life.router
    life.router = Router({"NAT-PMP"}, gateway="10.0.0.1", external="11.0.0.9")
    life.router.clock = lambda: life.now
    since = life.now
    life.map.set(Network("10.0.0.1", OWN, 3), PORT, life.now)
    life.flush()
    assert [change.mapping for _, change in life.changes][1:] == [None]
    life.run(10)
    assert external(life) == Place("11.0.0.9", PORT)
    assert {send.to.host for send in requests(life, since)} == {"10.0.0.1"}
    assert old.forwards(PORT) == (OWN, PORT), "it expires: from here it cannot be given back"


def test_no_network_and_no_port_are_quiet() -> None:
    life = Life(Router(ALL), None)
    assert life.map.due() is None
    life.run(5)
    life.map.set(NETWORK, 0, life.now)
    life.run(5)
    assert life.sent == []
    life.map.set(NETWORK, PORT, life.now)
    life.flush()
    life.run(5)
    assert life.mapping
    life.map.set(None, PORT, life.now)
    life.flush()
    assert life.map.due() is None
    assert life.map.reason == "there is no router"
    assert life.changes[-1][1] == Changed(None, "the network changed")


def test_a_network_that_flaps_is_asked_every_two_seconds_at_most() -> None:
    life = Life(Router(set()), None)
    for step in range(1_000):
        life.map.set(NETWORK if step % 2 else None, PORT, life.now)
        life.flush()
        life.run(0.01)
    assert len([1 for send in requests(life) if send.data == b"\0\0"]) <= 2 * 6
    assert life.map.counters["held back"] > 400


def test_the_same_router_is_asked_again_when_routes_change() -> None:
    life = Life(Router({"PCP"}))
    life.run(100)
    life.router.reboot()
    life.now += 1
    life.map.again(life.now)
    life.run(1)
    assert life.router.forwards(PORT) == (OWN, PORT)
    since = life.now
    for _ in range(100):
        life.map.again(life.now)
        life.run(0.05)
    assert len(requests(life, since)) <= 1
    assert life.map.counters["held back"] >= 98


# --- Refusals and lies ---


@EACH
def test_a_refusal_is_said_and_tried_again_later(name: str, service: Service) -> None:
    life = Life(Router({name}, refuses=2))
    life.run(10)
    assert external(life) is None
    assert life.map.state is State.PAUSING
    assert life.map.reason.startswith(f"{name}: ")
    life.router.refuses = 0
    life.run(60)
    assert external(life) == Place(EXTERNAL, PORT)
    assert life.map.reason == ""


def test_a_refusal_by_pcp_leads_to_the_next_service() -> None:
    life = Life(Router(ALL, refuses=2))
    life.run(10)
    assert [name for name, *_ in life.router.asked] == ["PCP", "NAT-PMP", "UPnP"]


def test_a_refusal_where_there_is_nothing_else_to_ask() -> None:
    for network in (NETWORK, NETWORK_V6):
        router = Router({"PCP", "NAT-PMP"}, refuses=2, gateway=network.gateway)
        life = Life(router, network, upnp_refusal="not wanted")
        life.run(10)
        assert life.map.state is State.PAUSING
        router.refuses = 0
        life.run(60)
        assert external(life) is not None


def test_a_refusal_holds_as_long_as_it_says_and_half_an_hour_at_most() -> None:
    for says, held in ((600, 600), (1_000_000, 1_800)):
        life = Life(Router({"PCP"}, refuses=8, refuses_for=says), upnp_refusal="not wanted")
        life.run(held - 5)
        assert len(life.router.asked) == 1
        life.run(20)
        assert len(life.router.asked) == 2


def test_a_renewal_that_is_refused_ends_the_mapping() -> None:
    life = Life(Router({"PCP"}), upnp_refusal="not wanted")
    life.run(100)
    life.router.refuses = 2
    life.run(4_000)
    assert external(life) is None
    assert life.changes[-1][1].mapping is None


def test_a_mapping_that_another_process_made_is_not_ours() -> None:
    """RFC 6887, 11.3: another nonce is refused. Ours is found again after a crash."""
    router = Router({"PCP"})
    life = Life(router)
    life.run(5)
    life.map = PortMap(life.random.randbytes, bytes(32), upnp_refusal="not wanted")
    life.map.set(NETWORK, PORT, life.now)
    life.flush()
    life.run(5)
    assert external(life) is None
    assert life.map.reason == "PCP: the router does not allow it"
    life.map = PortMap(life.random.randbytes, SECRET)
    life.map.set(NETWORK, PORT, life.now)
    life.flush()
    life.run(5)
    assert external(life) == Place(EXTERNAL, PORT)
    assert router.most == 1


LIES = ("127.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255", "169.254.1.1")


@EACH
@pytest.mark.parametrize("host", LIES)
def test_an_external_address_that_cannot_be_is_refused(
    name: str, service: Service, host: str
) -> None:
    life = Life(Router({name}, external=host))
    life.run(20)
    assert external(life) is None
    assert life.changes == []
    assert life.router.ours() == [], "what was granted is given back"
    assert host in life.map.reason
    assert life.map.double_nat == ""
    assert life.map.counters["unusable"] >= 1


@EACH
@pytest.mark.parametrize("host", ["10.1.1.1", "192.168.0.20", "172.31.0.1", "100.64.3.4"])
def test_a_private_external_address_is_kept_as_a_fact(
    name: str, service: Service, host: str
) -> None:
    life = Life(Router({name}, external=host))
    life.run(20)
    assert external(life) is None
    assert life.changes == []
    assert life.router.ours() == []
    assert life.map.double_nat == host
    assert "another NAT" in life.map.reason


def test_before_a_double_nat_no_other_service_is_tried() -> None:
    life = Life(Router(ALL, external="100.64.0.9"))
    life.run(20)
    assert len({name for name, *_ in life.router.asked}) <= 1
    assert life.orders == []


@EACH
def test_port_zero_is_refused(name: str, service: Service) -> None:
    life = Life(Router({name}, lie=lambda port: 0))
    life.run(20)
    assert external(life) is None
    assert life.changes == []
    assert "port 0" in life.map.reason


def test_nothing_is_taken_from_anybody_but_the_gateway() -> None:
    life = Life(Router(set()))
    router = Router({"PCP", "NAT-PMP"})
    router.clock = lambda: life.now
    for when, send in life.sent:
        for data, _ in router.hear(send):
            assert when == START
            life.deliver(data, Place("192.168.1.2", SERVER))
            life.deliver(data, Place(GATEWAY, SERVER + 1))
    life.run(20)
    assert external(life) is None
    assert life.map.counters["stranger"] == 2
    assert life.map.counters["unasked"] == 2, "and from its other ports only what was searched"


def test_answers_that_nobody_asked_for_are_counted() -> None:
    life = Life(Router({"PCP"}))
    life.run(5)
    held = life.mapping
    answer = life.router.pcp(life.sent[-1][1].data)
    life.router.external = "11.0.0.9"
    for _ in range(3):
        life.deliver(life.router.pcp(life.sent[-1][1].data), Place(GATEWAY, SERVER))
        life.deliver(answer, Place(GATEWAY, SERVER))
    assert life.mapping == held
    assert life.map.counters["unasked"] == 6


def test_the_other_protocol_s_answer_that_comes_late_is_no_fault() -> None:
    """Both are asked at once, and PCP's answer is enough."""
    life = Life(Router({"PCP", "NAT-PMP"}))
    life.run(5)
    assert life.map.counters["malformed"] == 0
    assert life.map.counters["unasked"] == 1


def test_an_answer_with_another_nonce_or_port_is_counted() -> None:
    life = Life(Router({"PCP"}))
    life.loss = lambda send: len(send.data) == 60
    life.run(0.1)
    request = life.sent[-1][1].data
    assert len(request) == 60
    for at in (24, 41):
        wrong = bytearray(life.router.pcp(request))
        wrong[at] ^= 1
        life.deliver(bytes(wrong), Place(GATEWAY, SERVER))
    assert life.map.counters["foreign"] == 2
    assert external(life) is None
    life.deliver(life.router.pcp(request), Place(GATEWAY, SERVER))
    assert external(life) == Place(EXTERNAL, PORT)


def test_an_alarm_that_is_held_back_is_not_lost() -> None:
    """A router that starts anew takes the link away first, and says so itself a moment later."""
    life = Life(Router({"PCP"}))
    life.run(100)
    life.map.again(life.now)
    life.run(1)
    life.router.reboot()
    since = life.now
    for _ in range(5):
        life.map.heard(life.router._pcp_head(0, 0, 0), Place(GATEWAY, SERVER), life.now)
    life.run(BETWEEN_ALARMS - 2)
    assert requests(life, since) == []
    life.run(ALARM_DELAY + 2)
    assert life.router.forwards(PORT) == (OWN, PORT)
    assert life.map.counters["held back"] == 5


def test_alarms_are_bounded_and_only_the_gateway_s() -> None:
    life = Life(Router({"PCP"}))
    life.run(100)
    since = life.now
    announce = life.router._pcp_head(0, 0, 0)
    for _ in range(1_000):
        life.map.heard(announce, Place(GATEWAY, SERVER), life.now)
        life.map.heard(announce, Place("192.168.1.66", SERVER), life.now)
        life.map.heard(b"\x02", Place(GATEWAY, SERVER), life.now)
        life.run(0.03)
    assert len(requests(life, since)) <= 4
    assert life.map.counters["stranger"] == 1_000
    assert life.map.counters["malformed"] == 1_000
    assert life.map.counters["held back"] > 900


@given(
    st.lists(
        st.tuples(st.binary(max_size=80), st.sampled_from([SERVER, 1900]), st.floats(0, 3)),
        max_size=30,
    )
)
def test_no_bytes_from_the_gateway_raise(datagrams: list[tuple[bytes, int, float]]) -> None:
    life = Life(Router(ALL))
    life.loss = lambda send: True
    for data, port, pause in datagrams:
        for first in (b"", b"\x02\x81", b"\x00\x80", b"\x00\x81\x00\x00", b"HTTP/1.1 200 OK\r\n"):
            life.deliver(first + data, Place(GATEWAY, port))
            life.map.heard(first + data, Place(GATEWAY, SERVER), life.now)
        life.run(pause)
    life.loss = lambda send: False
    life.run(4_000)
    assert life.mapping is not None, "an honest router is found in the end"


# --- Leaving ---


@EACH
def test_leaving_gives_it_back_within_a_second(name: str, service: Service) -> None:
    life = Life(Router({name}))
    life.run(5)
    life.release()
    assert life.map.ended
    assert life.router.ours() == []
    assert life.mapping is None
    assert life.changes[-1][1] == Changed(None, "it was given back")
    assert life.map.due() is None


@BY_UDP
def test_leaving_a_silent_router_takes_a_second(name: str, service: Service) -> None:
    life = Life(Router({name}))
    life.run(5)
    life.router.services.clear()
    since = life.now
    life.release()
    assert life.map.ended
    assert [when - since for when, _ in life.sent if when >= since] == [0.0, 0.25]


@EACH
def test_leaving_while_it_is_asked_for_leaves_nothing_behind(name: str, service: Service) -> None:
    life = Life(Router({name}))
    for _ in range(400):
        life.run(0.01)
        if life.map.state is State.ASKING:
            break
    life.run(0.003)
    life.release()
    life.run(2)
    assert life.map.ended
    assert life.router.ours() == []


def test_a_mapping_of_a_network_that_was_left_meanwhile_is_undone() -> None:
    life = Life(Router({"UPnP"}))
    while not life.orders:
        life.run(0.1)
    life.map.set(None, PORT, life.now)
    life.flush()
    life.run(3)
    assert [order.deed for _, order in life.orders] == [Deed.MAP, Deed.REMOVE]
    assert life.router.ours() == []


def test_leaving_without_anything_ends_at_once() -> None:
    for services in (set[str](), {"PCP"}):
        life = Life(Router(services), None)
        life.map.release(life.now)
        assert life.map.ended
        assert life.map.take() == []
        life.map.set(NETWORK, PORT, life.now)
        assert life.map.take() == [], "whoever left does not come back"


# --- Without UPnP ---


def test_without_the_extra_upnp_is_not_asked_and_that_is_said() -> None:
    life = Life(Router({"UPnP"}), upnp_refusal="miniupnpc is not installed")
    life.run(60)
    assert all(send.to.port == SERVER for send in requests(life))
    assert life.map.seen is not None
    assert life.map.seen.upnp_refusal == "miniupnpc is not installed"


def test_from_a_public_address_nothing_is_multicast() -> None:
    life = Life(Router({"UPnP"}), Network(GATEWAY, "11.0.0.50", 2))
    life.run(60)
    assert all(send.to.port == SERVER for send in requests(life))
