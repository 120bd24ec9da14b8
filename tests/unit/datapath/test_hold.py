"""Packets to a peer that moved wait, and leave in order: nothing is lost, nothing overtakes."""

import errno
import struct

import pytest

from tests.support.memory_path import HERE, START, THERE, MemoryPath, join, key_pair
from tests.support.packets import Segment, ip_packet
from wgpy.datapath.contract import (
    Active,
    AllowedIpOperation,
    DataPathError,
    Endpoint,
    HandshakeNeeded,
    KeyConfirmed,
    Roamed,
    Slot,
)
from wgpy.datapath.endpoint import Route, to_endpoint, to_route
from wgpy.datapath.hold import HOLD_BYTES, HOLD_PACKETS, HOLD_TOTAL_BYTES
from wgpy.ip import parse_prefix

UDP = 17
FASTER = Endpoint("198.51.100.7", 7)
OLD, NEW = to_route(THERE), to_route(FASTER)
NO_FD = -1
INNER_HERE, INNER_THERE = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))


def packet(number, size=0):
    return ip_packet(UDP, number.to_bytes(4, "big") + bytes(size))


class Net:
    """`here`, whose peer `there` moves."""

    def __init__(self, engine):
        self.here, self.there = engine(), engine()
        peers = join(self.here, self.there)
        self.one, self.other = peers.here, peers.there

    def move(self, hold=0.05, to=FASTER):
        self.here.set_endpoint(self.one, to, hold=hold)

    def write(self, *numbers):
        for number in numbers:
            self.here.write(packet(number))

    def sent(self):
        """The numbers of the packets that left, with where they went; forgets them."""
        taken, self.here.sent[:] = list(self.here.sent), []
        arrived = []
        for data, route in taken:
            before = len(self.there.delivered)
            self.there.take(data, to_route(HERE))
            for frame in self.there.delivered[before:]:
                arrived.append((int.from_bytes(frame[10 + 20 : 10 + 24], "big"), route))
        self.there.delivered.clear()
        return arrived

    def keys(self, *, gated=False, slots=(Slot.CURRENT, Slot.NEXT), kick=True):
        """A fresh key pair; `there` gets its half first."""
        index, remote = self.here.reserve_index(), self.there.reserve_index()
        now = self.here.now
        theirs = key_pair(b"d" * 32, b"c" * 32, remote, index, created=now)
        self.there.install(self.other, slots[1], theirs, kick=False, gated=gated)
        ours = key_pair(b"c" * 32, b"d" * 32, index, remote, created=now)
        self.here.install(self.one, slots[0], ours, kick=kick)
        return index


@pytest.fixture
def net(engine):
    return Net(engine)


def counters(data):
    return [struct.unpack_from("<Q", message, 8)[0] for message, _ in data]


# --- When they go ---


def test_packets_wait_until_they_are_let_go(net):
    net.write(1, 2)
    net.move()
    net.write(3, 4)
    assert net.sent() == [(1, OLD), (2, OLD)]
    net.write(5)
    assert net.sent() == []
    net.here.let_go(net.one)
    net.write(6)
    assert net.sent() == [(3, NEW), (4, NEW), (5, NEW), (6, NEW)]
    assert net.here.counters() == {}


def test_the_first_packet_after_the_time_takes_the_others_along(net):
    net.move(hold=0.05)
    net.write(1)
    net.here.now += 0.049
    net.write(2)
    assert net.sent() == []
    net.here.now += 0.001
    net.write(3)
    net.write(4)
    assert net.sent() == [(1, NEW), (2, NEW), (3, NEW), (4, NEW)]


def test_drain_lets_them_go_after_the_time_and_not_before(net):
    net.move(hold=0.05)
    net.write(1, 2)
    net.here.drain(0)
    assert net.sent() == []
    net.here.now += 0.05
    net.here.drain(0)
    net.write(3)
    assert net.sent() == [(1, NEW), (2, NEW), (3, NEW)]


def test_a_time_that_passed_without_packets_is_over(net):
    net.move(hold=0.05)
    net.here.now += 1
    net.here.drain(0)
    net.write(1)
    assert net.sent() == [(1, NEW)]


def test_a_second_move_goes_on_waiting_or_ends_it(net):
    net.move(hold=0.05)
    net.write(1)
    net.here.now += 0.04
    net.move(hold=0.05, to=HERE)
    net.here.now += 0.04
    net.write(2)
    assert net.sent() == []
    net.move(hold=0.0, to=FASTER)
    net.write(3)
    assert net.sent() == [(1, NEW), (2, NEW), (3, NEW)]


def test_letting_go_of_nothing_is_nothing(net):
    net.here.let_go(net.one)
    net.move(hold=0.05)
    net.here.let_go(net.one)
    net.here.let_go(net.one)
    net.write(1)
    assert net.sent() == [(1, NEW)]


def test_other_peers_do_not_wait(net):
    other = net.here.peer("10.0.0.9", at=HERE)
    pair = key_pair(b"e" * 32, b"f" * 32, net.here.reserve_index(), 77)
    net.here.install(other, Slot.CURRENT, pair, kick=False)
    net.move()
    net.here.write(ip_packet(UDP, b"", target=bytes((10, 0, 0, 9))))
    assert [route for _, route in net.here.sent] == [to_route(HERE)]


@pytest.mark.parametrize("hold", [-0.001, 5.001, float("inf"), float("nan")])
def test_nothing_waits_for_longer_than_five_seconds(net, hold):
    with pytest.raises(DataPathError, match="packets wait 5 s at the most"):
        net.move(hold=hold)
    net.write(1)
    assert net.sent() == [(1, OLD)], "and the peer was not moved"
    net.move(hold=5.0)


# --- What waits, and what does not ---


def test_a_large_packet_waits_whole_and_leaves_in_one_train(net):
    large = Segment(payload=bytes(range(256)) * 100)
    net.move()
    net.here.write(bytes(large), large.vnet(1000))
    net.write(9)
    assert net.here.sent == []
    net.here.let_go(net.one)
    assert list(net.here.trains) == [26, 1]
    for data, _ in net.here.sent:
        net.there.take(data, to_route(HERE))
    packets = net.there.packets()
    assert packets[-1] == packet(9)


def test_a_checksum_is_finished_when_it_goes(net):
    segment = Segment(payload=b"abc")
    raw = bytearray(bytes(segment))
    vnet = struct.pack("=BBHHHH", 1, 0, 40, 0, 20, 16)
    plain = MemoryPath()
    join(plain, MemoryPath())
    plain.write(bytes(raw), vnet)
    net.move()
    net.here.write(bytes(raw), vnet)
    net.here.let_go(net.one)
    ((waited, _),), ((direct, _),) = net.here.sent, plain.sent
    assert waited[16:] == direct[16:]


def test_what_does_not_fit_its_header_is_told_when_it_goes(net):
    net.move()
    net.here.write(packet(1), struct.pack("=BBHHHH", 0, 1, 0, 9, 9, 9))
    assert net.here.counters() == {}
    net.here.let_go(net.one)
    assert net.here.counters() == {"bad_offload": 1}


def test_keepalives_and_control_datagrams_do_not_wait(net):
    net.move()
    net.write(1)
    net.here.send_keepalive(net.one)
    net.here.send(b"control", peer=net.one)
    assert [(len(data), route) for data, route in net.here.sent] == [(32, NEW), (7, NEW)]
    net.here.let_go(net.one)
    # What waited is sealed when it goes: its counter is after that of the keepalive.
    assert counters([net.here.sent[0], net.here.sent[2]]) == [0, 1]


def test_a_packet_that_waits_is_news_of_its_peer(net):
    net.here.rest(net.one)
    net.move()
    net.write(1)
    assert net.here.drain(9) == [Active(net.one)]


def test_activity_is_of_what_was_sent(net):
    net.move()
    net.write(1)
    before = net.here.activity(net.one)
    assert (before.last_sent, before.tx_bytes, before.staged) == (0.0, 0, 0)
    net.here.now += 0.01
    net.here.let_go(net.one)
    after = net.here.activity(net.one)
    assert after.last_data_sent == net.here.now
    assert after.tx_bytes > 0


def test_no_peer_and_no_ip_are_told_at_once(net):
    net.move()
    net.here.write(b"junk")
    net.here.write(ip_packet(UDP, b"", target=bytes((9, 9, 9, 9))))
    assert net.here.counters() == {"not_ip": 1, "no_peer": 1}


# --- With no key, and when keys change ---


def test_a_handshake_is_asked_for_at_once(net):
    net.here.drop_keys(net.one)
    net.move()
    net.write(1)
    assert net.here.drain(9) == [HandshakeNeeded(net.one)]
    assert net.here.activity(net.one).staged == 0
    net.here.let_go(net.one)
    assert net.here.activity(net.one).staged == 1
    net.keys()
    assert net.sent() == [(1, NEW)]


def test_what_waits_for_a_key_goes_before_what_waits_since_the_move(net):
    net.here.drop_keys(net.one)
    net.write(1, 2)
    net.move()
    net.write(3)
    net.keys()
    # The key is confirmed by a keepalive, which does not wait.
    ((message, route),) = net.here.sent
    assert (len(message), route) == (32, NEW)
    net.write(4)
    net.here.let_go(net.one)
    net.write(5)
    assert net.sent() == [(1, NEW), (2, NEW), (3, NEW), (4, NEW), (5, NEW)]


def test_what_waits_for_a_key_alone_goes_when_it_is_let_go(net):
    net.here.drop_keys(net.one)
    net.write(1)
    net.move()
    net.keys()
    net.here.sent.clear()
    net.here.now += 0.05
    net.here.drain(0)
    assert net.sent() == [(1, NEW)]


def test_a_key_that_the_peer_confirms_lets_nothing_go(net):
    net.here.drop_keys(net.one)
    net.write(1)
    net.move()
    # The peer began this one, and its keepalive confirms it.
    index, remote = net.here.reserve_index(), net.there.reserve_index()
    ours = key_pair(b"c" * 32, b"d" * 32, index, remote)
    net.here.install(net.one, Slot.NEXT, ours, kick=False)
    theirs = key_pair(b"d" * 32, b"c" * 32, remote, index)
    net.there.install(net.other, Slot.CURRENT, theirs, kick=True)
    net.here.take(net.there.sent.pop()[0], NEW)
    assert KeyConfirmed(net.one, index) in net.here.drain(9)
    net.write(2)
    assert net.here.sent == []
    net.here.let_go(net.one)
    assert net.sent() == [(1, NEW), (2, NEW)]


def test_the_release_of_a_gated_pair_lets_nothing_go(net):
    net.here.drop_keys(net.one)
    net.write(1)
    net.move()
    index, remote = net.here.reserve_index(), net.there.reserve_index()
    ours = key_pair(b"c" * 32, b"d" * 32, index, remote)
    net.here.install(net.one, Slot.NEXT, ours, kick=False, gated=True)
    theirs = key_pair(b"d" * 32, b"c" * 32, remote, index)
    net.there.install(net.other, Slot.CURRENT, theirs, kick=True)
    net.here.take(net.there.sent.pop()[0], NEW)
    assert net.here.release(net.one)
    assert net.here.sent == []
    net.write(2)
    net.here.let_go(net.one)
    assert net.sent() == [(1, NEW), (2, NEW)]


def test_keys_may_go_and_come_meanwhile(net):
    net.move()
    net.write(1)
    net.here.drop_keys(net.one)
    net.there.drop_keys(net.other)
    net.write(2)
    net.keys()
    net.here.sent.clear()
    net.here.let_go(net.one)
    assert net.sent() == [(1, NEW), (2, NEW)]


def test_more_than_may_wait_for_a_key_is_counted_as_ever(net):
    net.here.drop_keys(net.one)
    net.move()
    net.write(*range(130))
    net.here.let_go(net.one)
    assert net.here.counters() == {"staged_overflow": 2}
    net.keys()
    assert net.sent() == [(number, NEW) for number in range(2, 130)]


def test_giving_up_a_handshake_drops_nothing_that_waits_since_the_move(net):
    net.here.drop_keys(net.one)
    net.write(1)
    net.move()
    net.write(2)
    net.here.drop_staged(net.one)
    assert net.here.counters() == {"staged_dropped": 1}
    net.keys()
    net.here.sent.clear()
    net.here.let_go(net.one)
    assert net.sent() == [(2, NEW)]


# --- When the peer, its place or the link goes ---


def test_the_link_goes_down(net):
    net.move()
    net.write(1, 2)
    net.here.set_up(False)
    assert net.here.counters() == {"hold_dropped": 2}
    net.here.set_up(True)
    net.write(3)
    assert net.sent() == [(3, NEW)]


def test_the_peer_is_removed(net):
    net.move()
    net.write(1, 2)
    net.here.remove_peer(net.one)
    assert net.here.counters() == {"hold_dropped": 2}
    net.here.now += 1
    net.here.drain(0)
    assert net.here.sent == []
    again = net.here.peer("10.0.0.2", at=FASTER)
    net.here.set_endpoint(again, FASTER, hold=0.05)
    net.here.let_go(again)


def test_a_peer_that_is_nowhere_when_it_is_let_go(net):
    net.move()
    net.write(1, 2)
    net.here.set_endpoint(net.one, None, hold=0.05)
    net.write(3)
    net.here.let_go(net.one)
    assert net.here.counters() == {"no_endpoint": 1, "hold_dropped": 2}
    net.here.set_endpoint(net.one, FASTER)
    net.write(4)
    assert net.sent() == [(4, NEW)]


def test_a_peer_that_is_looked_for_when_it_is_let_go(net):
    """It waits as for a key until the peer is found."""
    net.here.set_roaming(net.one, False)
    net.move()
    net.write(1)
    net.here.set_endpoint(net.one, None, hold=0.05)
    net.write(2)
    net.here.let_go(net.one)
    net.write(3)
    assert net.here.activity(net.one).staged == 3
    assert net.here.drain(9) == [HandshakeNeeded(net.one)]
    net.here.set_endpoint(net.one, FASTER, hold=0.05)
    net.write(4)
    assert net.here.sent == []
    net.here.let_go(net.one)
    assert net.sent() == [(1, NEW), (2, NEW), (3, NEW), (4, NEW)]
    assert net.here.counters() == {}


def test_the_way_goes_and_another_comes(net):
    via = net.here.add_socket(NO_FD)
    net.move(to=Endpoint(FASTER.address, FASTER.port, via=via))
    net.write(1)
    net.here.remove_via(via)
    assert net.here.send(b"?", peer=net.one) == errno.EDESTADDRREQ
    net.move(hold=0.0)
    net.write(2)
    assert net.sent() == [(1, NEW), (2, NEW)]
    assert net.here.counters() == {}


def test_the_way_goes_and_none_comes(net):
    via = net.here.add_socket(NO_FD)
    net.move(to=Endpoint(FASTER.address, FASTER.port, via=via))
    net.write(1)
    net.here.remove_via(via)
    net.here.now += 0.05
    net.here.drain(0)
    assert net.here.counters() == {"hold_dropped": 1}


def test_a_peer_that_roams_meanwhile_takes_them_along(net):
    net.move()
    net.write(1)
    net.there.send_keepalive(net.other)
    away = Route(("203.0.113.9", 9))
    net.here.take(net.there.sent.pop()[0], away)
    assert net.here.drain(9) == [Roamed(net.one, to_endpoint(away))]
    net.here.let_go(net.one)
    assert net.sent() == [(1, away)]


def test_a_relay_and_back(net):
    relay = net.here.add_relay(Endpoint("192.0.2.99", 3478))
    net.here.set_channel(relay, 0x4000, THERE)
    behind = Endpoint(THERE.address, THERE.port, via=relay, channel=0x4000)
    net.move(to=behind)
    net.write(1, 2)
    net.here.let_go(net.one)
    datagrams = [(data, route.address) for data, route in net.here.sent]
    assert [address for _, address in datagrams] == [("192.0.2.99", 3478)] * 2
    net.here.sent[:] = [(data[4:], NEW) for data, _ in datagrams]
    assert net.sent() == [(1, NEW), (2, NEW)]


def test_an_address_that_moves_meanwhile_leaves_what_waits_where_it_belonged(net):
    """As it is with what waits for a key: it was accepted when the peer had the address."""
    net.move()
    net.write(1)
    other = net.here.peer(at=HERE)
    net.here.set_allowed_ips([AllowedIpOperation("add", other, parse_prefix("10.0.0.2"))])
    net.here.let_go(net.one)
    assert net.sent() == [(1, NEW)]


# --- Bounds ---


def test_4096_packets_wait_and_no_more(net):
    net.move()
    net.write(*range(HOLD_PACKETS - 1))
    assert net.here.sent == []
    net.write(HOLD_PACKETS - 1)
    assert net.here.counters() == {"hold_full": 1}
    net.write(HOLD_PACKETS)
    assert net.sent() == [(number, NEW) for number in range(HOLD_PACKETS + 1)]
    net.here.drain(0)
    assert net.here.counters() == {"hold_full": 1}


def test_8_mib_wait_and_no_more(net):
    size = 60_000
    large = packet(7, size - 24)
    net.move()
    fits = HOLD_BYTES // size
    assert (fits + 1) * size > HOLD_BYTES - 65_535
    count = 0
    while net.here.counters() == {}:
        net.here.write(large)
        count += 1
    assert net.here.counters() == {"hold_full": 1}
    assert HOLD_BYTES - 65_535 < count * size <= HOLD_BYTES
    assert len(net.here.sent) == count


def test_64_mib_of_all_peers_wait_and_no_more(engine):
    path = engine()
    size, count = 65_535, 0
    peers = []
    for number in range(2, 12):
        peer = path.peer(f"10.0.0.{number}", at=THERE)
        pair = key_pair(b"a" * 32, b"b" * 32, path.reserve_index(), 7)
        path.install(peer, Slot.CURRENT, pair, kick=False)
        path.set_endpoint(peer, FASTER, hold=1.0)
        peers.append(peer)
        large = ip_packet(UDP, bytes(size - 20), target=bytes((10, 0, 0, number)))
        for _ in range(HOLD_BYTES // size - 1):
            path.write(large)
            count += 1
            if path.counters():
                break
        if path.counters():
            break
    assert path.counters() == {"hold_full": 1}
    assert HOLD_TOTAL_BYTES - size < count * size <= HOLD_TOTAL_BYTES
    # It was the last one whose packets went; the room is for the others again.
    assert len({route for _, route in path.sent}) == 1
    sent = len(path.sent)
    assert sent < HOLD_BYTES // size
    path.set_endpoint(peers[-1], FASTER, hold=1.0)
    path.write(large)
    assert len(path.sent) == sent


def test_nothing_is_kept_of_what_went():
    net = Net(MemoryPath)
    for ending in ("let_go", "set_up", "remove_peer"):
        net.move()
        net.write(1, 2, 3)
        assert net.here._holds.kept_bytes == 3 * len(packet(1))
        assert net.here._holding != []
        if ending == "set_up":
            net.here.set_up(False)
            net.here.set_up(True)
        else:
            getattr(net.here, ending)(net.one)
        assert net.here._holds.kept_bytes == 0
        assert net.here._holding == []
    assert net.here.now == START
