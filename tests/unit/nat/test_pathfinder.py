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
