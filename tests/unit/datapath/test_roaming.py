"""Whether a peer is where its packets come from, or only told so."""

import pytest

from tests.support.memory_path import HERE, START, THERE, MemoryPath, join, key_pair
from tests.support.packets import V4, Segment, ip_packet
from wgpy.datapath.contract import Endpoint, HandshakeNeeded, KeyConfirmed, Roamed, Slot
from wgpy.datapath.endpoint import Route, to_endpoint, to_route

HOME = to_route(HERE)
AWAY = Route(("198.51.100.7", 7))
FURTHER = Route(("2001:db8::7", 7, 0, 0))
OTHER_SOURCE = to_route(Endpoint(HERE.address, HERE.port, source=bytes((10, 9, 9, 9)), ifindex=3))
PACKET = ip_packet(17, b"payload")


@pytest.fixture
def joined(engine):
    here, there = engine(), engine()
    peers = join(here, there)
    there.set_roaming(peers.there, False)
    return here, there, peers.here, peers.there


def keepalive(path, peer):
    path.send_keepalive(peer)
    return path.sent.pop()[0]


def goes_to(path, peer):
    """Where the peer's next packet goes."""
    assert path.send(b"?", peer=peer) is None
    return path.sent.pop()[1]


def test_a_packet_from_elsewhere_is_told_and_moves_nothing(joined):
    here, there, _one, other = joined
    here.write(PACKET)
    there.take(here.sent.pop()[0], AWAY)
    assert there.packets() == [PACKET]
    assert there.drain(9) == [Roamed(other, to_endpoint(AWAY))]
    assert goes_to(there, other) == HOME
    activity = there.activity(other)
    assert (activity.last_received, activity.rx_bytes > 0) == (there.now, True)


def test_each_place_is_told_once(joined):
    here, there, one, other = joined
    for _ in range(3):
        there.take(keepalive(here, one), AWAY)
        there.take(keepalive(here, one), HOME)
    assert there.drain(9) == [Roamed(other, to_endpoint(AWAY))]
    there.take(keepalive(here, one), AWAY)
    assert there.drain(9) == []
    there.take(keepalive(here, one), FURTHER)
    assert there.drain(9) == [Roamed(other, to_endpoint(FURTHER))]
    there.take(keepalive(here, one), AWAY)
    assert there.drain(9) == [Roamed(other, to_endpoint(AWAY))]


def test_of_several_places_the_latest_is_told(joined):
    here, there, one, other = joined
    for place in (AWAY, FURTHER, AWAY, FURTHER):
        there.take(keepalive(here, one), place)
    assert there.drain(9) == [Roamed(other, to_endpoint(FURTHER))]
    assert goes_to(there, other) == HOME


def test_what_is_not_authentic_tells_nothing(joined):
    here, there, one, _other = joined
    message = keepalive(here, one)
    there.take(message[:-1] + bytes([message[-1] ^ 1]), AWAY)
    there.take(message, HOME)
    there.take(message, AWAY)
    assert there.drain(9) == []
    assert there.counters() == {"bad_tag": 1, "replayed": 1}


def test_the_control_plane_moves_it(joined):
    here, there, one, other = joined
    there.take(keepalive(here, one), AWAY)
    there.drain(9)
    there.set_endpoint(other, to_endpoint(AWAY))
    assert goes_to(there, other) == AWAY
    there.take(keepalive(here, one), AWAY)
    assert there.drain(9) == []
    # What is home now was told before it was home.
    there.take(keepalive(here, one), HOME)
    assert there.drain(9) == [Roamed(other, HERE)]
    there.set_endpoint(other, HERE)
    there.take(keepalive(here, one), AWAY)
    assert there.drain(9) == [Roamed(other, to_endpoint(AWAY))]


def test_what_was_not_drained_is_void_once_it_was_moved(joined):
    here, there, one, other = joined
    there.take(keepalive(here, one), AWAY)
    there.set_endpoint(other, to_endpoint(AWAY))
    assert there.drain(9) == []


def test_another_address_of_ours_is_followed(joined):
    here, there, one, other = joined
    there.take(keepalive(here, one), OTHER_SOURCE)
    assert there.drain(9) == [Roamed(other, to_endpoint(OTHER_SOURCE))]
    assert goes_to(there, other) == OTHER_SOURCE
    there.take(keepalive(here, one), AWAY)
    there.take(keepalive(here, one), HOME)
    assert there.drain(9) == [Roamed(other, HERE), Roamed(other, to_endpoint(AWAY))]


def test_a_link_local_address_is_the_same_with_and_without_its_link(joined):
    here, there, one, other = joined
    there.set_endpoint(other, Endpoint("fe80::5", 5, 2))
    there.take(keepalive(here, one), Route(("fe80::5%eth0", 5, 0, 2)))
    there.drain(9)
    assert goes_to(there, other).address[1:] == (5, 0, 2)
    there.take(keepalive(here, one), Route(("fe80::5%eth1", 5, 0, 3)))
    assert there.drain(9) == [Roamed(other, Endpoint("fe80::5", 5, 3))]


def test_without_an_endpoint_it_stays_without(joined):
    here, there, one, other = joined
    there.set_endpoint(other, None)
    there.take(keepalive(here, one), AWAY)
    assert there.drain(9) == [Roamed(other, to_endpoint(AWAY))]
    assert there.send(b"?", peer=other) is not None


def test_it_is_applied_again_when_it_is_said(joined):
    here, there, one, other = joined
    there.take(keepalive(here, one), AWAY)
    there.set_roaming(other, True)
    there.take(keepalive(here, one), AWAY)
    assert there.drain(9) == [Roamed(other, to_endpoint(AWAY))]
    assert goes_to(there, other) == AWAY
    there.set_roaming(other, False)
    there.take(keepalive(here, one), HOME)
    assert there.drain(9) == [Roamed(other, HERE)]
    assert goes_to(there, other) == AWAY


def test_another_peer_roams_as_ever(engine):
    path, other, third = engine(), engine(), engine()
    join(path, other)
    second = path.peer("10.0.0.9", at=THERE)
    there = third.peer("10.0.0.1", at=HERE)
    path.set_roaming(1, False)
    index, remote = path.reserve_index(), third.reserve_index()
    path.install(second, Slot.CURRENT, key_pair(b"a" * 32, b"b" * 32, index, remote), kick=False)
    third.install(there, Slot.CURRENT, key_pair(b"b" * 32, b"a" * 32, remote, index), kick=False)
    path.take(keepalive(third, there), AWAY)
    path.take(keepalive(other, 1), FURTHER)
    assert path.drain(9) == [
        Roamed(second, to_endpoint(AWAY)),
        Roamed(1, to_endpoint(FURTHER)),
    ]
    assert goes_to(path, second) == AWAY
    assert goes_to(path, 1) == to_route(THERE)


def gated(here, there, one, other):
    """A gated key pair of `there`, and its other half as the current one of `here`."""
    index, remote = here.reserve_index(), there.reserve_index()
    answer = key_pair(b"c" * 32, b"d" * 32, remote, index, created=START)
    there.install(other, Slot.NEXT, answer, kick=False, gated=True)
    here.install(one, Slot.CURRENT, key_pair(b"d" * 32, b"c" * 32, index, remote), kick=False)
    return remote


@pytest.mark.parametrize("applied", [False, True])
def test_the_release_of_a_gated_pair(joined, applied):
    here, there, one, other = joined
    there.set_roaming(other, applied)
    remote = gated(here, there, one, other)
    there.take(keepalive(here, one), AWAY)
    assert there.drain(9) == [KeyConfirmed(other, remote)]
    assert goes_to(there, other) == HOME
    assert there.release(other)
    assert there.drain(9) == [Roamed(other, to_endpoint(AWAY))]
    assert goes_to(there, other) == (AWAY if applied else HOME)


def test_the_release_of_a_gated_pair_that_was_used_at_home_tells_nothing(joined):
    here, there, one, other = joined
    gated(here, there, one, other)
    there.take(keepalive(here, one), HOME)
    there.drain(9)
    assert there.release(other)
    assert there.drain(9) == []


def test_a_place_that_was_only_told_is_not_where_a_peer_is():
    """The rate of what is dear to answer, for where peers are, is not for where one was seen."""
    here, there = MemoryPath(), MemoryPath()
    peers = join(here, there)
    there.set_roaming(peers.there, False)
    there.take(keepalive(here, peers.here), AWAY)
    assert there._filter.places.has(HOME)
    assert not there._filter.places.has(AWAY)


def test_packets_for_a_peer_that_is_looked_for_wait_until_it_is_found(joined):
    _here, there, _one, other = joined
    there.set_endpoint(other, None)
    for _ in range(3):
        there.write(ip_packet(17, b"payload", source=V4[1], target=V4[0]))
    assert there.sent == []
    assert there.drain(9) == [HandshakeNeeded(other)]
    there.set_endpoint(other, to_endpoint(AWAY))
    # A train, or three datagrams.
    assert {route for _, route in there.sent} == {AWAY}
    assert there.activity(other).staged == 0
    assert "no_endpoint" not in there.counters()


def test_large_packets_for_it_wait_as_well(joined):
    here, there, one, other = joined
    there.set_endpoint(other, None)
    large = Segment(payload=b"s" * 3000, source=V4[1], target=V4[0])
    there.write(bytes(large), large.vnet(1200))
    assert there.activity(other).staged == 3
    there.set_endpoint(other, HERE)
    for data, _route in there.sent:
        here.take(data, HOME)
    assert here.activity(one).rx_bytes > 3000
