"""What a flood of datagrams that are dear to answer gets through, on both data paths."""

import ipaddress
from collections.abc import Callable

import pytest

from tests.support.memory_path import THERE, MemoryPath, join
from tests.support.native_path import NativeMemoryPath, needs_native
from wgpy.datapath.contract import Budget, Datagram, DataPathError, Endpoint, FilterRule
from wgpy.datapath.endpoint import Route
from wgpy.keys import PrivateKey
from wgpy.protocol.cookie import CookieChecker, CookieGenerator, mac1_key
from wgpy.protocol.hashes import mac
from wgpy.protocol.messages import parse_cookie_reply

KEY = bytes(range(32))
SECRET = b"s" * 32
DEAR = FilterRule(0x10, 1200, mac1_offset=-32, budget=Budget())
RULES = (FilterRule(1, 148, mac1_offset=116), DEAR)


@pytest.fixture(params=["portable", pytest.param("native", marks=needs_native)])
def path(request: pytest.FixtureRequest) -> MemoryPath:
    make: Callable[..., MemoryPath] = NativeMemoryPath if request.param == "native" else MemoryPath
    made = make()
    made.set_filter(RULES, KEY)
    return made


def place(number: int, port: int = 5000) -> Route:
    return Route((str(ipaddress.IPv4Address(0x0A000000 + number)), port))


def dear(secret: bytes | None = None, where: Route | None = None, size: int = 1200) -> bytes:
    body = b"\x10\0\0\0" + bytes(size - 36)
    body += mac(KEY, body)
    if secret is None:
        return body + bytes(16)
    assert where is not None
    address = ipaddress.ip_address(where.address[0]).packed
    return body + mac(mac(secret, address + where.address[1].to_bytes(2, "big")), body)


def flood(path: MemoryPath, count: int, *, proven: bool = False, start: int = 0) -> int:
    """So many from as many places at once; how many of them wait."""
    before = path.queue_depth(0x10)
    for number in range(start, start + count):
        where = place(number)
        path.take(dear(SECRET if proven else None, where), where)
    return path.queue_depth(0x10) - before


def test_it_goes_up_with_place_and_time_from_a_queue_of_its_own(path):
    data = dear()
    path.take(data, place(1))
    assert path.queue_depth() == 0
    assert path.queue_depth(0x10) == 1
    ((event,),) = (path.drain(9),)
    assert isinstance(event, Datagram)
    assert (event.data, event.endpoint.address, event.when) == (data, "10.0.0.1", path.now)
    assert path.counters() == {}


def test_length_and_mac1_come_first_and_cost_nothing_of_the_budget(path):
    path.take(dear(size=1199), place(1))
    for _ in range(500):
        path.take(b"\x10\0\0\0" + bytes(1196), place(1))
    assert path.counters() == {"wrong_length": 1, "bad_mac1": 500}
    path.take(dear(), place(1))
    assert path.queue_depth(0x10) == 1


def test_unproven_ones_pass_at_their_rate_and_leave_half_of_the_queue(path):
    assert flood(path, 1000) == 32
    assert path.counters() == {"shed_unproven": 968}
    path.now += 0.08
    assert flood(path, 1000, start=1000) == 0, "it is filled up before it gives again"
    path.now += 0.09
    assert flood(path, 32, start=2000) == 32
    path.now += 1
    assert flood(path, 1000, start=3000) == 0
    assert path.queue_depth(0x10) == 64
    assert path.counters()["shed_queue"] == 1000
    path.set_cookie_secret(SECRET)
    assert flood(path, 100, proven=True, start=4000) == 64
    assert path.counters()["shed_queue"] == 1000 + 36


def test_what_passes_in_a_second_of_ten_thousand(path):
    path.set_cookie_secret(SECRET)
    passed = {True: 0, False: 0}
    for millisecond in range(1000):
        for proven in (True, False):
            at = (millisecond * 20 + 10 * proven) % 65536
            passed[proven] += flood(path, 5, proven=proven, start=at)
        path.drain(99)
        path.now += 0.001
    # What was saved up comes once, and then the rate: in bursts, of those that proved nothing.
    assert 200 <= passed[False] <= 200 + 32
    assert passed[True] == pytest.approx(500 + 128, abs=2)
    counters = path.counters()
    assert counters["shed_rate"] + counters["shed_unproven"] == 10_000 - sum(passed.values())


def test_where_a_peer_is_there_is_a_rate_of_its_own(path):
    peer = path.peer(at=Endpoint("10.9.0.1", 5000))
    assert flood(path, 1000) == 32
    here, there = Route(("10.9.0.1", 5000)), Route(("10.9.0.2", 5000))

    def passes(where: Route) -> bool:
        before = path.queue_depth(0x10)
        path.take(dear(), where)
        return path.queue_depth(0x10) > before

    assert passes(here)
    assert not passes(there)
    assert not passes(Route(("10.9.0.1", 5001)))
    path.set_endpoint(peer, Endpoint("10.9.0.2", 5000))
    assert (passes(here), passes(there)) == (False, True)
    # Two may be at one place, and one of them leave it.
    other = path.peer(at=Endpoint("10.9.0.2", 5000))
    path.set_endpoint(peer, None)
    assert passes(there)
    path.remove_peer(other)
    assert not passes(there)


def test_a_peer_that_moves_takes_its_rate_along(path):
    other = MemoryPath()
    join(path, other)
    other.send_keepalive(1)
    ((keepalive, _route),) = other.sent
    assert flood(path, 1000) == 32
    new = Route(("10.9.0.3", 5000))
    path.take(dear(), new)
    assert path.queue_depth(0x10) == 32
    path.take(keepalive, new)
    path.take(dear(), new)
    assert path.queue_depth(0x10) == 33
    path.take(dear(), Route((THERE.address, THERE.port)))
    assert path.queue_depth(0x10) == 33


def test_peers_have_their_rate_and_three_quarters_of_the_queue(path):
    for number in range(5000, 5200):
        path.peer(at=Endpoint("10.0.19.136", number))
    places = [place(5000, number) for number in range(5000, 5200)]
    flood(path, 32)
    path.now += 1
    for where in places[:20]:
        path.take(dear(), where)
    # One address: ten at once by the peers' rate, and then as anybody.
    assert path.queue_depth(0x10) == 32 + 10 + 10
    for number in range(6000, 6200):
        path.peer(at=Endpoint(place(number).address[0], 5000))
    for second in range(4):
        path.now += 1
        for number in range(6000 + 50 * second, 6050 + 50 * second):
            path.take(dear(), place(number))
    assert path.queue_depth(0x10) == 96


@pytest.mark.parametrize("position", [4, 100, 1167, 1168, 1183])
def test_mac1_covers_everything(path, position):
    data = bytearray(dear())
    data[position] ^= 1
    path.take(bytes(data), place(1))
    assert path.counters() == {"bad_mac1": 1}


def test_in_a_flood_mac1_is_looked_at_only_of_who_might_pass(path):
    path.set_cookie_secret(SECRET)
    path.peer(at=Endpoint("10.9.0.1", 5000))
    assert flood(path, 100) == 32
    before = path.counters()["shed_unproven"]
    where = place(7)
    for mac2 in (bytes(16), b"x" * 16):
        path.take(dear()[:-32] + b"y" * 16 + mac2, where)
    assert path.counters() == {"shed_unproven": before + 2}
    spoiled = bytearray(dear(SECRET, where))
    spoiled[40] ^= 1
    path.take(bytes(spoiled), where)
    assert path.counters() == {"shed_unproven": before + 3}
    path.take(dear()[:-32] + b"y" * 16 + bytes(16), Route(("10.9.0.1", 5000)))
    assert path.counters()["bad_mac1"] == 1
    path.take(dear(SECRET, where), where)
    assert path.queue_depth(0x10) == 33


def test_one_source_gets_forty_a_second_and_others_their_own(path):
    path.set_cookie_secret(SECRET)
    for port in range(100):
        where = place(7, 1000 + port)
        path.take(dear(), where)
        path.take(dear(SECRET, where), where)
    # Proven and not, ten each.
    assert path.queue_depth(0x10) == 20
    assert path.counters() == {"shed_source": 180}
    path.take(dear(), place(8))
    assert path.queue_depth(0x10) == 21
    path.drain(99)
    path.now += 0.1
    for _ in range(9):
        path.take(dear(), place(7))
    assert path.queue_depth(0x10) == 4


def test_a_whole_ipv6_64_is_one_source(path):
    for number in range(20):
        path.take(dear(), Route((f"2001:db8::{number:x}:1", 5000, 0, 0)))
    assert path.queue_depth(0x10) == 10
    path.take(dear(), Route(("2001:db8:0:1::1", 5000, 0, 0)))
    assert path.queue_depth(0x10) == 11


@pytest.mark.parametrize("where", [place(3), Route(("2001:db8::9", 777, 0, 0))])
def test_a_cookie_of_ours_proves_and_nothing_else_does(path, where):
    """A real checker gives a real sender the cookie, and the data path believes its mac2."""
    private = PrivateKey(bytes(31) + b"k")
    checker = CookieChecker(private.public(), lambda size: b"r" * size)
    sender = CookieGenerator(private.public())
    address = ipaddress.ip_address(where.address[0]).packed
    source = address + where.address[1].to_bytes(2, "big")
    assert checker.secrets == ()
    first = sender.add_macs(b"\x10\0\0\0" + bytes(1164), path.now)
    assert sender.consume(parse_cookie_reply(checker.reply(first, source, path.now)), path.now)
    with_cookie = sender.add_macs(b"\x10\0\0\0" + bytes(1164), path.now)
    assert checker.check_mac2(with_cookie, source, path.now)

    path.set_filter([DEAR._replace(budget=Budget(unproven_burst=1))], mac1_key(private.public()))
    path.take(first, place(1000))
    path.take(first, where)
    assert path.counters() == {"shed_unproven": 1}
    path.take(with_cookie, where)
    assert path.counters() == {"shed_unproven": 2}
    path.set_cookie_secret(b"x" * 32, *checker.secrets)
    path.take(with_cookie, where)
    assert path.counters() == {"shed_unproven": 2}
    # From elsewhere, and spoiled, it proves nothing.
    path.take(with_cookie, place(3, 5001))
    path.take(with_cookie[:-1] + bytes([with_cookie[-1] ^ 1]), where)
    assert path.counters() == {"shed_unproven": 4}
    path.set_cookie_secret(b"x" * 32)
    path.take(with_cookie, where)
    assert path.counters() == {"shed_unproven": 5}


def test_types_1_and_2_have_their_own_room_and_their_turn(path):
    flood(path, 1000)
    body = b"\1\0\0\0" + bytes(112)
    plain = body + mac(KEY, body) + bytes(16)
    for _ in range(100):
        path.take(plain)
    assert (path.queue_depth(), path.queue_depth(1)) == (100, 100)
    kinds = [event.data[0] for event in path.drain(32)]
    assert kinds == [1] * 24 + [0x10] * 8
    assert [event.data[0] for event in path.drain(1)] == [0x10]
    assert path.drain(0) == []
    while path.queue_depth(0x10):
        assert len(path.drain(8)) == 8 or path.queue_depth() == 0
    assert "control_queue_full" not in path.counters()


def test_new_rules_give_no_second_budget_and_lost_queues_count(path):
    assert flood(path, 100) == 32
    path.set_filter(RULES, KEY)
    assert flood(path, 100, start=100) == 0
    before = path.counters()["shed_unproven"]
    assert before == 168
    path.set_filter(RULES[:1], KEY)
    assert path.counters()["shed_queue"] == 32
    assert path.drain(99) == []


@pytest.mark.parametrize("length", [92, 500, 1200])
def test_a_range_of_lengths_with_mac1_from_the_end(path, length):
    path.set_filter([FilterRule(0x11, 92, False, -32, 8, longest=1200)], KEY)
    index = path.reserve_index()
    body = b"\x11\0\0\0" + bytes(4) + index.to_bytes(4, "little") + bytes(length - 44)
    path.take(body + mac(KEY, body) + bytes(16))
    path.take(body + bytes(16) + mac(KEY, body))
    assert path.queue_depth() == 1
    assert path.counters() == {"bad_mac1": 1}
    for wrong in (91, 1201):
        path.take(b"\x11\0\0\0" + bytes(wrong - 4))
    assert path.counters() == {"bad_mac1": 1, "wrong_length": 2}


@pytest.mark.parametrize(
    "rule",
    [
        FilterRule(9, 3),
        FilterRule(9, 40, index_offset=37),
        FilterRule(9, 40, mac1_offset=25),
        FilterRule(9, 40, mac1_offset=-41),
        FilterRule(9, 40, mac1_offset=-15),
        FilterRule(9, 40, longest=50),
        FilterRule(9, 40, False, longest=39),
        FilterRule(9, 40, budget=Budget()),
        FilterRule(9, 40, mac1_offset=-31, budget=Budget()),
        FilterRule(9, 40, mac1_offset=9, budget=Budget()),
        FilterRule(9, 40, mac1_offset=-32, budget=Budget(queue=0)),
        FilterRule(9, 40, mac1_offset=-32, budget=Budget(queue=4097)),
        FilterRule(9, 40, mac1_offset=-32, budget=Budget(source_rate=0.0)),
        FilterRule(9, 40, mac1_offset=-32, budget=Budget(peer_rate=0.0)),
        FilterRule(9, 40, mac1_offset=-32, budget=Budget(unproven_burst=0)),
    ],
)
def test_rules_that_cannot_be_are_refused(path, rule):
    with pytest.raises(DataPathError, match="type 9"):
        path.set_filter([rule], KEY)
    path.take(dear(), place(1))
    assert path.queue_depth(0x10) == 1


def test_a_secret_has_32_bytes(path):
    with pytest.raises(DataPathError, match="32 bytes"):
        path.set_cookie_secret(b"short")
