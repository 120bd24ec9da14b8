"""One pathfinder and another, on the fake internet: the simplest of cases."""

from tests.support.fake_nat import Host, World
from tests.support.fake_node import FakePost, Node
from wgpy.nat.orders import Carrier


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
