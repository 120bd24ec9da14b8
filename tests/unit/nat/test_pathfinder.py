"""One pathfinder and another on the fake internet: the simplest case, and what a shell may do."""

import pytest

from tests.support.fake_houses import houses
from tests.support.fake_nat import Host, World
from tests.support.fake_node import RELAY_VIA, FakePost, Node
from wgpy.nat.budget import Budget
from wgpy.nat.candidates import Candidate, Kind
from wgpy.nat.facts import UNKNOWN
from wgpy.nat.orders import Ask, Carrier, DropSockets, PathIds, Unuse, Use
from wgpy.nat.place import Place, Send


def two_in_the_open(world):
    post = FakePost(world, delay=world.delay)
    nodes = [
        Node(world, Host(world, f"198.51.100.{number}"), post, seed)
        for number, seed in ((10, b"a"), (11, b"b"))
    ]
    nodes[0].befriend(nodes[1])
    return nodes


def test_two_with_public_addresses_meet_without_anything_else():
    world = World()
    alice, bob = two_in_the_open(world)
    alice.start()
    bob.start()
    world.run(2)
    assert alice.carrier is bob.carrier is Carrier.DIRECT
    assert alice.used[:2] == ("198.51.100.11", 51820)
    assert bob.used[:2] == ("198.51.100.10", 51820)


def test_one_side_is_enough_to_begin():
    world = World()
    alice, bob = two_in_the_open(world)
    alice.start()
    world.run(2)
    assert alice.carrier is bob.carrier is Carrier.DIRECT


def test_people_are_told_that_a_way_is_looked_for_and_not_that_there_is_none():
    world = World()
    alice, bob = two_in_the_open(world)
    assert alice.finder.status()[:2] == (Carrier.SEARCHING, None)
    alice.finder.network_changed(world.now)
    alice.start()
    bob.start()
    world.run(2)
    words = [report.why for _, report in alice.reports]
    assert words == ["looking for a way", "direct, by IPv4"]


def test_people_are_told_when_nobody_answers_for_minutes():
    world = World()
    alice, bob = two_in_the_open(world)
    bob.pause(True)
    alice.start()
    world.run(60)
    assert alice.carrier is Carrier.SEARCHING
    world.run(400)
    words = [report.why for _, report in alice.reports]
    assert words[:2] == ["looking for a way", "no way was found; the next attempt is later"]


# --- What the shell may do at any time ---


@pytest.fixture
def pair():
    made = houses("port", "port", 1).start()
    assert made.run_until_direct() is not None
    made.world.run(5)
    return made


def orders_of(node, call):
    """What the pathfinder wants done after a call."""
    call(node.finder)
    node.finder.tick(node.world.now)
    return node.finder.take()


def test_a_closed_relay_is_forgotten_and_never_asked_again(pair):
    alice = pair.alice
    alice.finder.gone(RELAY_VIA, pair.world.now)
    alice.settle()
    before = len(alice.sent)
    pair.world.run(120)
    assert all(send.to.via != RELAY_VIA for _, send in alice.sent[before:])
    assert alice.carrier is Carrier.DIRECT


def test_when_the_relay_in_use_is_closed_there_is_no_way():
    pair = houses("sym", "sym", 1).start()
    pair.world.run(2)
    assert pair.alice.carrier is Carrier.RELAY
    place = pair.alice.used
    other = place._replace(channel=1)
    assert Unuse() not in orders_of(pair.alice, lambda f: f.released(other, pair.world.now))
    assert Unuse() in orders_of(pair.alice, lambda f: f.released(place, pair.world.now))
    assert pair.alice.carrier is Carrier.SEARCHING
    # And what still comes by it is not looked at.
    assert not pair.alice.finder._ways.accepts(place)


def test_news_without_end_make_few_signals(pair):
    asked = 0
    for number in range(300):
        pair.world.now += 0.01
        found = [Candidate(Kind.HOST, f"10.0.0.{number % 250 + 1}", 51820)]
        orders = orders_of(pair.alice, lambda f, x=found: f.local(x, UNKNOWN, pair.world.now))
        asked += sum(isinstance(order, Ask) for order in orders)
    assert asked <= 4


def test_the_same_candidates_again_are_no_news(pair):
    signals = pair.alice.finder.counters["signals_sent"]
    for _ in range(10):
        pair.alice.tell()
        pair.world.run(1)
    assert pair.alice.finder.counters["signals_sent"] == signals


def test_a_nat_that_shows_another_port_each_time_is_no_news():
    pair = houses("sym", "full", 1).start()
    assert pair.run_until_direct() is not None
    signals = pair.alice.finder.counters["signals_sent"]
    for port in range(4000, 4010):
        pair.alice._seen[0] = ("203.0.113.1", port)
        pair.alice.tell()
        pair.world.run(1)
    assert pair.alice.finder.counters["signals_sent"] == signals


def test_packets_from_an_unknown_place_are_a_reason_to_ask_and_no_more(pair):
    place = Place("198.51.100.77", 9)
    sent = []
    for _ in range(1000):
        pair.world.now += 0.001
        sent += orders_of(pair.alice, lambda f: f.heard(place, pair.world.now))
    asked = [order for order in sent if isinstance(order, Send) and order.to == place]
    assert 1 <= len(asked) <= 3
    assert not any(isinstance(order, Use) for order in sent)


def test_the_status_is_for_people(pair):
    status = pair.alice.finder.status()
    assert status.carrier is Carrier.DIRECT
    assert status.place == pair.alice.used
    assert 0.05 < status.round_trip < 0.07
    assert status.loss == 0.0
    assert status.mtu == 1472
    assert status.why == "direct, by IPv4"


def test_the_keepalive_is_the_nats(pair):
    pair.alice.finder.keepalive(7.0)
    pair.alice.settle()
    pair.world.run(30)
    before = pair.alice.finder.counters["probes_sent"]
    pair.world.run(70)
    # The path in use and the relay in reserve, and the length once a minute.
    assert 18 <= pair.alice.finder.counters["probes_sent"] - before <= 23


def test_after_the_end_there_is_nothing():
    pair = houses("port", "sym", 1).start()
    pair.world.run(3.5)
    assert pair.alice.opened
    orders = orders_of(pair.alice, lambda f: f.stop(pair.world.now))
    assert {via for x in orders if isinstance(x, DropSockets) for via in x.vias} == set(
        pair.alice.opened
    )
    assert PathIds(()) in orders


def test_two_peers_share_a_budget_and_nothing_else():
    world = World()
    budget = Budget()
    post = FakePost(world, delay=0.03)
    sides = [
        Node(world, Host(world, f"198.51.100.{number}"), post, seed, budget=budget)
        for number, seed in ((10, b"a"), (11, b"b"))
    ]
    others = [
        Node(world, Host(world, f"198.51.100.{number}"), post, seed)
        for number, seed in ((12, b"c"), (13, b"d"))
    ]
    for side, other in zip(sides, others, strict=True):
        side.befriend(other)
        side.start()
    world.run(3)
    assert all(node.carrier is Carrier.DIRECT for node in (*sides, *others))
    assert set(sides[0].path_ids).isdisjoint(sides[1].path_ids)
