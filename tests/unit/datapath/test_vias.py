"""Sockets beside the pair: which way peers are reached, and what is left when one goes."""

import errno

import pytest

from tests.support.memory_path import HERE, START, THERE, MemoryPath, join, key_pair
from tests.support.packets import Segment, ip_packet
from wgpy.datapath.contract import (
    Datagram,
    DataPathError,
    Endpoint,
    FilterRule,
    KeyConfirmed,
    Roamed,
    Slot,
)
from wgpy.datapath.endpoint import Route, to_endpoint, to_route

HOME = to_route(HERE)
PACKET = ip_packet(17, b"payload")
NO_FD = -1


@pytest.fixture
def joined(engine):
    here, there = engine(), engine()
    peers = join(here, there)
    return here, there, peers.here, peers.there


def by(via, endpoint=HERE):
    return Endpoint(endpoint.address, endpoint.port, via=via)


def keepalive(path, peer):
    path.send_keepalive(peer)
    return path.sent.pop()[0]


def test_handles_are_never_used_again(engine):
    path = engine()
    assert [path.add_socket(NO_FD) for _ in range(3)] == [1, 2, 3]
    path.remove_via(3)
    path.remove_via(2)
    path.remove_via(2)
    path.remove_via(0)
    path.remove_via(77)
    assert path.add_socket(NO_FD) == 4


def test_there_are_64_at_the_most(engine):
    path = engine()
    made = [path.add_socket(NO_FD) for _ in range(64)]
    with pytest.raises(DataPathError, match="there are 64 sockets already"):
        path.add_socket(NO_FD)
    path.remove_via(made[5])
    assert path.add_socket(NO_FD) == 65


def test_a_peer_is_reached_by_the_socket_of_its_endpoint(joined):
    here, _there, one, _other = joined
    via = here.add_socket(NO_FD)
    here.set_endpoint(one, by(via, THERE))
    here.write(PACKET)
    here.send_keepalive(one)
    here.send(b"control", peer=one)
    large = Segment(payload=bytes(5000))
    here.write(bytes(large), large.vnet(1000))
    assert {route for _, route in here.sent} == {to_route(by(via, THERE))}
    assert here.trains[-1] == 5
    assert here.counters() == {}


def test_a_peer_roams_to_the_socket_that_it_uses(joined):
    here, there, one, other = joined
    via = there.add_socket(NO_FD)
    there.take(keepalive(here, one), Route(HOME.address, b"", via))
    assert there.drain(9) == [Roamed(other, by(via))]
    there.send_keepalive(other)
    assert there.sent.pop()[1] == to_route(by(via))
    there.take(keepalive(here, one), HOME)
    assert there.drain(9) == [Roamed(other, HERE)]


def test_another_socket_is_another_place_for_who_is_not_to_roam(joined):
    here, there, one, other = joined
    there.set_roaming(other, False)
    via = there.add_socket(NO_FD)
    there.take(keepalive(here, one), Route(HOME.address, b"", via))
    assert there.drain(9) == [Roamed(other, by(via))]
    there.send_keepalive(other)
    assert there.sent.pop()[1] == HOME


def test_control_datagrams_name_the_socket(engine):
    path = engine()
    path.set_filter([FilterRule(0x20, 40)], bytes(32))
    path.set_stun_sources([(HERE.address, HERE.port)])
    via = path.add_socket(NO_FD)
    stun = bytes.fromhex("010100002112a442") + bytes(12)
    for data in (b"\x20\0\0\0" + bytes(36), stun):
        path.take(data, Route(HOME.address, b"", via))
        assert path.drain(9) == [Datagram(data, by(via), path.now)]
    path.send(b"answer", to=by(via))
    assert path.sent.pop() == (b"answer", to_route(by(via)))


def test_an_endpoint_by_a_socket_that_is_not_there_is_none(joined):
    here, _there, one, _other = joined
    for via in (1, 77):
        assert here.send(b"x", to=by(via)) == errno.EDESTADDRREQ
        here.set_endpoint(one, by(via, THERE))
        assert here.send(b"x", peer=one) == errno.EDESTADDRREQ
        here.write(PACKET)
        here.send_keepalive(one)
    assert here.sent == []
    assert here.counters() == {"no_endpoint": 4}
    # An ICMP error says so to whoever sent it.
    assert [packet[9] for packet in here.packets()] == [1, 1]


def test_a_socket_that_goes_leaves_its_peers_without_an_endpoint(joined):
    here, there, one, other = joined
    via, kept = there.add_socket(NO_FD), there.add_socket(NO_FD)
    third = there.peer("10.0.0.9", at=by(kept, THERE))
    there.set_endpoint(other, by(via))
    there.remove_via(via)
    assert there.send(b"x", peer=other) == errno.EDESTADDRREQ
    assert there.send(b"x", to=by(via)) == errno.EDESTADDRREQ
    assert there.send(b"x", peer=third) is None
    there.send_keepalive(other)
    assert there.counters() == {"no_endpoint": 1}
    # Where it is next heard, it is.
    there.sent.clear()
    there.take(keepalive(here, one), HOME)
    there.send_keepalive(other)
    assert there.sent.pop()[1] == HOME


def test_a_place_that_was_told_goes_with_its_socket(joined):
    here, there, one, other = joined
    there.set_roaming(other, False)
    via = there.add_socket(NO_FD)
    there.take(keepalive(here, one), Route(HOME.address, b"", via))
    there.remove_via(via)
    assert there.drain(9) == []


def test_a_move_to_a_socket_that_went_is_not_told(joined):
    here, there, one, _other = joined
    via = there.add_socket(NO_FD)
    there.take(keepalive(here, one), Route(HOME.address, b"", via))
    there.remove_via(via)
    assert there.drain(9) == []


def test_a_gated_pair_that_was_used_by_a_socket_that_went_moves_nobody(joined):
    here, there, one, other = joined
    via = there.add_socket(NO_FD)
    index, remote = here.reserve_index(), there.reserve_index()
    answer = key_pair(b"c" * 32, b"d" * 32, remote, index, created=START)
    there.install(other, Slot.NEXT, answer, kick=False, gated=True)
    here.install(one, Slot.CURRENT, key_pair(b"d" * 32, b"c" * 32, index, remote), kick=False)
    there.take(keepalive(here, one), Route(HOME.address, b"", via))
    there.remove_via(via)
    assert there.drain(9) == [KeyConfirmed(other, remote)]
    assert there.release(other)
    assert there.drain(9) == []
    there.send_keepalive(other)
    assert there.sent.pop()[1] == HOME


def test_the_source_of_a_peer_by_another_socket_is_cleared(joined):
    here, _there, one, _other = joined
    via = here.add_socket(NO_FD)
    here.set_endpoint(one, Endpoint(THERE.address, THERE.port, source=bytes(4), ifindex=2, via=via))
    here.clear_source(None)
    here.send_keepalive(one)
    assert to_endpoint(here.sent.pop()[1]) == by(via, THERE)


def test_a_peers_rate_is_where_it_is_by_whatever_socket():
    path = MemoryPath()
    via = path.add_socket(NO_FD)
    path.peer(at=by(via))
    assert path._filter.places.has(HOME)
    path.remove_via(via)
    assert not path._filter.places.has(HOME)
    assert len(path._filter.places) == 0
