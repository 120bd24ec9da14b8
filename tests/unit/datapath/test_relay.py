"""Peers through TURN servers: ChannelData in and out, by sockets and by carriers."""

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory_path import HERE, START, THERE, MemoryPath, join, key_pair
from tests.support.native_path import NativeMemoryPath, needs_native
from tests.support.packets import Segment, ip_packet, kernel_receives
from wgpy.datapath.contract import (
    Budget,
    Datagram,
    DataPathError,
    Endpoint,
    FilterRule,
    KeyConfirmed,
    Roamed,
    Slot,
)
from wgpy.datapath.endpoint import Route, source_of, to_route
from wgpy.datapath.vias import MAX_CHANNEL_DATA
from wgpy.protocol.hashes import mac

UDP = 17
PACKET = ip_packet(UDP, b"payload")
SERVER = Endpoint("198.51.100.1", 3478)
SERVER6 = Endpoint("2001:db8::7", 3478)
NO_FD = -1
CHANNEL = 0x4321
KEY = bytes(range(32))


def frame(data, channel=CHANNEL, length=None):
    return struct.pack(">HH", channel, len(data) if length is None else length) + data


def through(via, channel=CHANNEL, peer=HERE):
    """A peer's endpoint by a channel of a relay."""
    return Endpoint(peer.address, peer.port, via=via, channel=channel)


@pytest.fixture(params=["socket", "carrier"])
def carried(request):
    return request.param == "carrier"


class Side:
    """An engine whose peer is behind a relay; `relay` is the relay's handle."""

    def __init__(self, path, peer, relay, carried):
        self.path, self.peer, self.relay, self.carried = path, peer, relay, carried

    def sent(self):
        """The messages that left, out of their frames; forgets them."""
        way = to_route(SERVER) if not self.carried else to_route(SERVER)._replace(via=self.relay)
        taken = []
        for data, route in self.path.sent:
            assert route == way
            number, length = struct.unpack_from(">HH", data)
            assert (number, length) == (CHANNEL, len(data) - 4), "no padding, one channel"
            taken.append(data[4:])
        self.path.sent.clear()
        return taken

    def take(self, data, segment=0):
        """The relay sends this."""
        if self.carried:
            self.path.take_carried(data, self.relay)
        else:
            self.path.take(data, to_route(SERVER), segment)


@pytest.fixture
def sides(engine, carried):
    """Each the other's peer through a relay of its own."""
    here, there = engine(), engine()
    peers = join(here, there)
    found = []
    for path, peer, place in ((here, peers.here, THERE), (there, peers.there, HERE)):
        relay = path.add_relay(SERVER, NO_FD if carried else None)
        path.set_channel(relay, CHANNEL, place)
        path.set_endpoint(peer, through(relay))
        found.append(Side(path, peer, relay, carried))
    return found


# --- Through it ---


def test_a_packet_goes_through(sides):
    here, there = sides
    here.path.write(PACKET)
    (message,) = here.sent()
    there.take(frame(message))
    assert there.path.packets() == [PACKET]
    assert there.path.drain(9) == [], "where it is it was before"
    for side in sides:
        assert side.path.counters() == {}
    assert here.path.activity(here.peer).tx_bytes == len(message)
    assert there.path.activity(there.peer).rx_bytes == len(message)


def test_a_large_packet_goes_through_in_one_train(sides):
    here, there = sides
    large = Segment(payload=bytes(range(256)) * 200)
    here.path.write(bytes(large), large.vnet(1368))
    trains = list(here.path.trains)
    messages = here.sent()
    assert len(messages) == 38
    assert trains == ([1] * 38 if here.carried else [38])
    assert len({len(message) for message in messages[:-1]}) == 1
    whole = b"".join(map(frame, messages))
    if there.carried:
        for message in messages:
            there.take(frame(message))
    else:
        there.take(whole, segment=4 + len(messages[0]))
    arrived = [packet for raw in there.path.delivered for packet in kernel_receives(raw)]
    assert arrived == [bytes(segment) for segment in large.split(1368)]
    if not there.carried:
        assert len(there.path.delivered) == 1, "merged from where they were opened"


def test_trains_end_where_they_must(sides):
    """At 64 datagrams, and at one UDP payload with the frames counted."""
    here, _there = sides
    for size, wanted in ((100, [64, 64, 22]), (1380, [44, 1])):
        large = Segment(payload=bytes(size * sum(wanted)))
        here.path.trains.clear()
        here.path.write(bytes(large), large.vnet(size))
        trains = list(here.path.trains)
        assert trains == ([1] * sum(wanted) if here.carried else wanted)
        assert len(here.sent()) == sum(wanted)


def test_keepalives_control_and_what_was_staged_go_through(sides):
    here, there = sides
    here.path.drop_keys(here.peer)
    here.path.write(PACKET)
    index, remote = here.path.reserve_index(), there.path.reserve_index()
    ours = key_pair(b"c" * 32, b"d" * 32, index, remote)
    theirs = key_pair(b"d" * 32, b"c" * 32, remote, index)
    there.path.install(there.peer, Slot.NEXT, theirs, kick=False)
    here.path.install(here.peer, Slot.CURRENT, ours, kick=True)
    here.path.send_keepalive(here.peer)
    here.path.send(b"to the peer", peer=here.peer)
    here.path.send(b"to the place", to=through(here.relay))
    staged, keepalive, first, second = here.sent()
    assert (len(keepalive), first, second) == (32, b"to the peer", b"to the place")
    there.take(frame(staged))
    assert there.path.packets() == [PACKET]


def test_control_datagrams_come_up_with_the_peers_address(sides):
    _here, there = sides
    there.path.set_filter([FilterRule(0x20, 40), FilterRule(1, 148)], KEY)
    for data in (b"\x20\0\0\0" + bytes(36), b"\1\0\0\0" + bytes(144)):
        there.take(frame(data))
        assert there.path.drain(9) == [Datagram(data, through(there.relay), there.path.now)]


def test_a_message_too_long_for_a_frame_is_refused(sides):
    here, _there = sides
    longest = bytes(MAX_CHANNEL_DATA)
    assert here.path.send(longest + b"\0", peer=here.peer) == errno.EMSGSIZE
    assert here.path.send(longest, peer=here.peer) is None
    assert here.sent() == [longest]


@pytest.mark.parametrize("ttl", [0, 5])
def test_times_to_live_are_of_the_way_to_the_server(sides, ttl):
    here, _there = sides
    here.path.send(b"x", peer=here.peer, ttl=ttl, whole=True)
    assert here.path.manners == [(ttl, True)]


# --- What is not believed ---


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda message: frame(message, 0x4322), "unknown_channel"),
        (lambda message: frame(message, length=len(message) + 1), "bad_channel_data"),
        (lambda message: frame(message, length=0xFFFF), "bad_channel_data"),
        (lambda message: frame(message, length=len(message) - 1), "bad_tag"),
        (lambda message: frame(message, length=31), "unknown_type"),
        (lambda message: frame(message, length=3), "too_short"),
        (lambda message: frame(message, length=0), "too_short"),
        (lambda message: frame(message)[:3], "bad_channel_data"),
        (lambda message: frame(frame(message)), "unknown_type"),
        (lambda message: frame(bytes.fromhex("010100002112a442") + bytes(12)), "unknown_type"),
        (lambda message: frame(b"\x20\0\0\0" + bytes(60)), "unknown_type"),
        (lambda message: frame(message[:-1] + bytes([message[-1] ^ 1])), "bad_tag"),
    ],
)
def test_what_comes_through_is_a_message_on_its_channel_or_nothing(sides, spoil, reason):
    here, there = sides
    there.path.set_stun_sources([(SERVER.address, SERVER.port)])
    here.path.write(PACKET)
    (message,) = here.sent()
    there.take(spoil(message))
    assert there.path.counters() == {reason: 1}
    assert there.path.drain(9) == []
    assert there.path.delivered == []
    there.take(frame(message))
    assert there.path.packets() == ([PACKET])


def test_padding_behind_a_message_is_nobodys(sides):
    here, there = sides
    here.path.write(PACKET)
    (message,) = here.sent()
    there.take(frame(message) + b"\0\xff\0")
    assert there.path.packets() == [PACKET]


@pytest.mark.parametrize("first", [0x00, 0x04, 0x3F, 0x50, 0xFF])
def test_what_comes_by_a_carrier_is_channel_data_only(engine, first):
    path = engine()
    relay = path.add_relay(SERVER, NO_FD)
    path.set_filter([FilterRule(0x20, 40)], KEY)
    path.take_carried(bytes([first, 0, 0, 40]) + b"\x20\0\0\0" + bytes(36), relay)
    path.take_carried(b"", relay)
    assert path.counters() == {"unknown_channel": 1, "bad_channel_data": 1}


@pytest.mark.parametrize(
    "where",
    [
        Endpoint("198.51.100.2", 3478),
        Endpoint("198.51.100.1", 3479),
        Endpoint("2001:db8::7", 3478),
        Endpoint("198.51.100.1", 3478, via=1),
    ],
)
def test_only_the_server_by_its_socket_is_believed(engine, where):
    here, there = engine(), engine()
    peers = join(here, there)
    there.add_socket(NO_FD)
    relay = there.add_relay(SERVER)
    there.set_channel(relay, CHANNEL, HERE)
    here.write(PACKET)
    ((message, _route),) = here.sent
    there.take(frame(message), to_route(where))
    assert there.counters() == {"unknown_relay": 1}
    assert there.delivered == []
    there.take(frame(message), to_route(SERVER))
    assert there.packets() == [PACKET]
    assert there.drain(9) == [Roamed(peers.there, through(relay))]


def test_the_server_of_a_carrier_is_nobody_on_our_sockets(engine):
    path = engine()
    relay = path.add_relay(SERVER, NO_FD)
    path.set_channel(relay, CHANNEL, HERE)
    path.take(frame(bytes(40)), to_route(SERVER))
    path.take(bytes.fromhex("010100002112a442") + bytes(12), to_route(SERVER))
    assert path.counters() == {"unknown_relay": 1, "unknown_stun": 1}


def test_stun_of_the_server_comes_up_by_its_socket_alone(engine):
    path = engine()
    path.add_socket(NO_FD)
    path.add_relay(SERVER)
    stun = bytes.fromhex("010100002112a442") + bytes(12)
    path.take(stun, to_route(SERVER))
    assert path.drain(9) == [Datagram(stun, SERVER, path.now)]
    path.take(stun, Route(to_route(SERVER).address, b"", 1))
    assert path.counters() == {"unknown_stun": 1}


# --- Roaming and moving ---


def test_a_peer_roams_between_a_relay_and_a_path_of_its_own(sides):
    here, there = sides
    for data, route, wanted in (
        (None, to_route(HERE), HERE),
        (None, None, through(there.relay)),
    ):
        here.path.send_keepalive(here.peer)
        (data,) = here.sent()
        if route is None:
            there.take(frame(data))
        else:
            there.path.take(data, route)
        assert there.path.drain(9) == [Roamed(there.peer, wanted)]


def test_a_peer_that_is_not_to_roam_stays_on_its_relay(sides):
    here, there = sides
    there.path.set_roaming(there.peer, False)
    here.path.send_keepalive(here.peer)
    (data,) = here.sent()
    there.path.take(data, to_route(HERE))
    assert there.path.drain(9) == [Roamed(there.peer, HERE)]
    there.path.send_keepalive(there.peer)
    assert len(there.sent()) == 1


def test_a_gated_pair_that_is_used_through_a_relay(sides):
    here, there = sides
    there.path.set_endpoint(there.peer, HERE)
    index, remote = here.path.reserve_index(), there.path.reserve_index()
    answer = key_pair(b"c" * 32, b"d" * 32, remote, index, created=START)
    there.path.install(there.peer, Slot.NEXT, answer, kick=False, gated=True)
    ours = key_pair(b"d" * 32, b"c" * 32, index, remote)
    here.path.install(here.peer, Slot.CURRENT, ours, kick=False)
    here.path.write(PACKET)
    there.take(frame(*here.sent()))
    assert there.path.drain(9) == [KeyConfirmed(there.peer, remote)]
    assert there.path.release(there.peer)
    assert there.path.packets() == [PACKET]
    assert there.path.drain(9) == [Roamed(there.peer, through(there.relay))]


def test_a_key_is_confirmed_through_a_relay_and_what_waited_goes_back(sides):
    here, there = sides
    there.path.drop_keys(there.peer)
    back = ip_packet(UDP, b"back", source=bytes((10, 0, 0, 2)), target=bytes((10, 0, 0, 1)))
    there.path.write(back)
    index, remote = here.path.reserve_index(), there.path.reserve_index()
    theirs = key_pair(b"d" * 32, b"c" * 32, remote, index)
    there.path.install(there.peer, Slot.NEXT, theirs, kick=False)
    ours = key_pair(b"c" * 32, b"d" * 32, index, remote)
    here.path.install(here.peer, Slot.CURRENT, ours, kick=True)
    there.take(frame(*here.sent()))
    (message,) = there.sent()
    here.take(frame(message))
    assert here.path.packets() == [back]


# --- Channels and relays that come and go ---


def refuses(path, peer):
    """Whether there is no way to the peer."""
    return path.send(b"?", peer=peer) == errno.EDESTADDRREQ


def test_a_channel_that_is_unbound_leaves_its_peer_nowhere(sides):
    here, there = sides
    there.path.set_channel(there.relay, CHANNEL, None)
    there.path.set_channel(there.relay, CHANNEL, None)
    assert refuses(there.path, there.peer)
    assert there.path.send(b"?", to=through(there.relay)) == errno.EDESTADDRREQ
    here.path.write(PACKET)
    messages = here.sent()
    there.take(frame(*messages))
    assert there.path.counters() == {"unknown_channel": 1}
    there.path.set_endpoint(there.peer, through(there.relay))
    assert refuses(there.path, there.peer), "an endpoint by a channel that is not there is none"
    there.path.set_channel(there.relay, CHANNEL, HERE)
    there.take(frame(*messages))
    assert not refuses(there.path, there.peer)


def test_a_channel_that_is_bound_again_as_it_was_changes_nothing(sides):
    _here, there = sides
    there.path.set_channel(there.relay, CHANNEL, HERE)
    assert not refuses(there.path, there.peer)
    there.path.set_channel(there.relay, CHANNEL, Endpoint(HERE.address, HERE.port, via=9))
    assert not refuses(there.path, there.peer)
    there.path.set_channel(there.relay, CHANNEL, Endpoint(HERE.address, HERE.port + 1))
    assert refuses(there.path, there.peer)


def test_an_endpoint_is_that_of_its_channel(sides):
    """Whatever address is written beside the channel: the channel leads to one peer."""
    here, there = sides
    there.path.set_endpoint(there.peer, through(there.relay, peer=Endpoint("9.9.9.9", 9)))
    here.path.send_keepalive(here.peer)
    there.take(frame(*here.sent()))
    assert there.path.drain(9) == []


def test_a_relay_that_goes_leaves_its_peers_nowhere(sides):
    here, there = sides
    there.path.remove_via(there.relay)
    assert refuses(there.path, there.peer)
    assert there.path.send(b"?", to=through(there.relay)) == errno.EDESTADDRREQ
    with pytest.raises(DataPathError, match=f"there is no relay {there.relay}"):
        there.path.set_channel(there.relay, CHANNEL, HERE)
    if not there.carried:
        here.path.write(PACKET)
        there.take(frame(*here.sent()))
        assert there.path.counters() == {"unknown_relay": 1}
    assert there.path.add_relay(SERVER) == there.relay + 1


def test_relays_go_with_their_socket(engine):
    path = engine()
    via = path.add_socket(NO_FD)
    server = Endpoint(SERVER.address, SERVER.port, via=via)
    by_it, carried, other = (
        path.add_relay(server),
        path.add_relay(server, NO_FD),
        path.add_relay(SERVER),
    )
    for number, relay in enumerate((by_it, carried, other)):
        path.set_channel(relay, CHANNEL, HERE)
        path.peer(f"10.0.1.{number}", at=through(relay))
    path.send(b"x", to=through(by_it))
    assert path.sent.pop() == (frame(b"x"), to_route(server))
    path.remove_via(via)
    assert [refuses(path, peer) for peer in (1, 2, 3)] == [True, False, False]
    with pytest.raises(DataPathError, match=f"no socket {via} leads to the relay's server"):
        path.add_relay(server)
    assert path.add_relay(SERVER6) == 5


def test_one_server_by_one_socket_is_one_relay(engine):
    path = engine()
    via = path.add_socket(NO_FD)
    path.add_relay(SERVER)
    with pytest.raises(DataPathError, match=r"198.51.100.1, port 3478, is a relay's already"):
        path.add_relay(Endpoint(SERVER.address, SERVER.port, source=bytes(4)))
    path.add_relay(Endpoint(SERVER.address, SERVER.port, via=via))
    path.add_relay(Endpoint(SERVER.address, SERVER.port + 1))
    path.add_relay(SERVER, NO_FD)
    path.add_relay(SERVER, NO_FD)


def test_there_are_16_at_the_most(engine):
    path = engine()
    for port in range(16):
        path.add_relay(Endpoint(SERVER.address, port), NO_FD if port % 2 else None)
    with pytest.raises(DataPathError, match="there are 16 relays already"):
        path.add_relay(SERVER)
    path.remove_via(5)
    path.add_relay(SERVER)


@pytest.mark.parametrize("number", [0, 0x3FFF, 0x5000, 0x7FFF, 0xFFFF, 1 << 20, -1])
def test_a_channel_has_a_number_that_may_be_bound(engine, number):
    path = engine()
    relay = path.add_relay(SERVER)
    with pytest.raises(DataPathError, match="a channel is of 0x4000 to 0x4fff"):
        path.set_channel(relay, number, HERE)
    for good in (0x4000, 0x4FFF):
        path.set_channel(relay, good, HERE)


@pytest.mark.parametrize("address", ["relay.example", "", "1.2.3"])
def test_addresses_are_numeric(engine, address):
    path = engine()
    with pytest.raises(DataPathError, match="is not an IP address"):
        path.add_relay(Endpoint(address, 3478))
    relay = path.add_relay(SERVER)
    with pytest.raises(DataPathError, match="is not an IP address"):
        path.set_channel(relay, CHANNEL, Endpoint(address, 1))


def test_addresses_are_the_same_however_they_are_written(engine):
    path = engine()
    relay = path.add_relay(Endpoint("2001:DB8:0::7", 3478))
    path.set_channel(relay, CHANNEL, Endpoint("2001:0db8::1", 9))
    path.set_filter([FilterRule(0x20, 40)], KEY)
    data = b"\x20\0\0\0" + bytes(36)
    path.take(frame(data), to_route(SERVER6))
    (event,) = path.drain(9)
    assert event.endpoint == Endpoint("2001:db8::1", 9, via=relay, channel=CHANNEL)


def test_a_server_that_is_reached_from_one_address_loses_it_with_the_routes(engine):
    path = engine()
    relay = path.add_relay(Endpoint(SERVER.address, SERVER.port, source=bytes(4), ifindex=3))
    path.set_channel(relay, CHANNEL, HERE)
    path.send(b"x", to=through(relay))
    path.clear_source(None)
    path.send(b"x", to=through(relay))
    assert [route.pktinfo != b"" for _, route in path.sent] == [True, False]


# --- Bounds ---


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.ECONNREFUSED, errno.ENETUNREACH])
def test_what_a_carrier_has_no_room_for_is_counted_apart(sides, error):
    here, _there = sides
    here.path.error = error
    large = Segment(payload=bytes(5000))
    here.path.write(bytes(large), large.vnet(1000))
    here.path.send_keepalive(here.peer)
    full = here.carried and error == errno.EAGAIN
    assert here.path.counters() == {"carrier_full" if full else "send_error": 6}
    assert here.path.send(b"x", peer=here.peer) == error
    if full:
        assert here.path.counters() == {"carrier_full": 7}
    assert here.path.activity(here.peer).tx_bytes == 0


def dear(source=None, secret=b"s" * 32):
    body = b"\x10\0\0\0" + bytes(1164)
    body += mac(KEY, body)
    return body + (bytes(16) if source is None else mac(mac(secret, source), body))


def test_a_channel_is_a_source_of_its_own(sides):
    """Many peers' datagrams come from one server: each channel has its rate, and its cookie."""
    _here, there = sides
    rule = FilterRule(0x10, 1200, mac1_offset=-32, budget=Budget())
    there.path.set_filter([rule], KEY)
    there.path.set_cookie_secret(b"s" * 32)
    other = CHANNEL + 1
    there.path.set_channel(there.relay, other, Endpoint("10.9.9.9", 9))
    there.path.set_endpoint(there.peer, None)
    for _ in range(20):
        there.take(frame(dear()))
    assert there.path.queue_depth(0x10) == 10
    assert there.path.counters() == {"shed_source": 10}
    there.take(frame(dear(), other))
    assert there.path.queue_depth(0x10) == 11
    # A cookie is good for one channel.
    proof = source_of(through(there.relay))[1]
    assert proof == there.relay.to_bytes(4, "big") + CHANNEL.to_bytes(2, "big")
    there.take(frame(dear(proof)))
    assert there.path.queue_depth(0x10) == 12
    for _ in range(40):
        there.take(frame(dear(proof), other))
    assert there.path.queue_depth(0x10) == 21, "as any that proved nothing, of which nine are left"
    # Nor for the address that the peer has behind the relay.
    there.take(frame(dear(source_of(HERE)[1])))
    assert there.path.queue_depth(0x10) == 21


def test_where_a_peer_is_by_a_relay_is_its_channel(sides):
    _here, there = sides
    # A peer has one each 10 ms, anybody one in ten seconds.
    budget = Budget(unproven_rate=0.1, unproven_burst=1, source_burst=50, source_rate=100.0)
    there.path.set_filter([FilterRule(0x10, 1200, mac1_offset=-32, budget=budget)], KEY)
    there.take(frame(dear()))
    there.take(frame(dear()))
    assert there.path.queue_depth(0x10) == 2, "one as a peer, one as anybody"
    there.path.now += 0.011
    there.path.take(dear(), to_route(HERE))
    assert there.path.counters() == {"shed_unproven": 1}
    there.take(frame(dear()))
    assert there.path.queue_depth(0x10) == 3


# --- Any bytes ---


class Listener:
    """An engine that knows one relay, with the address of which anything may come."""

    def __init__(self, engine):
        self.path = engine()
        self.path.set_filter([FilterRule(0x20, 4, exact=False), FilterRule(3, 64)], KEY)
        self.relay = self.path.add_relay(SERVER)
        self.carrier = self.path.add_relay(SERVER, NO_FD)
        for relay in (self.relay, self.carrier):
            self.path.set_channel(relay, CHANNEL, HERE)


@settings(max_examples=300, deadline=None)
@given(
    number=st.sampled_from([CHANNEL, CHANNEL, 0x4000, 0x4FFF]),
    inner=st.one_of(
        st.binary(max_size=80), st.binary(max_size=40).map(lambda more: b"\x20\0\0\0" + more)
    ),
    length=st.one_of(st.none(), st.integers(0, 90)),
    cut=st.integers(0, 90),
)
@pytest.mark.parametrize("name", ["portable", pytest.param("native", marks=needs_native)])
def test_any_channel_data(name, number, inner, length, cut):
    """What comes up is what the header says, of a type that the filter has, on a bound channel."""
    listener = Listener(MemoryPath if name == "portable" else NativeMemoryPath)
    path = listener.path
    datagram = frame(inner, number, length)[: cut + 4]
    said = struct.unpack_from(">H", datagram, 2)[0]
    body = datagram[4 : 4 + said]
    fits = number == CHANNEL and len(body) == said and body[:4] == b"\x20\0\0\0"
    for way in (listener.relay, listener.carrier):
        if way == listener.relay:
            path.take(datagram, to_route(SERVER))
        else:
            path.take_carried(datagram, way)
        wanted = [Datagram(body, through(way), path.now)] if fits else []
        assert path.drain(9) == wanted
    assert sum(path.counters().values()) == (0 if fits else 2)
    assert path.delivered == []
