"""Handshakes through a real device: answers, roaming, cookies under load, what is counted."""

import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.unit.device.kit import PRIVATE, Kit, Stranger
from wgpy.datapath.contract import Endpoint
from wgpy.datapath.endpoint import Route, to_route
from wgpy.device.uapi import Address, DeviceChange
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol import messages
from wgpy.protocol.constants import UNDER_LOAD_DEPTH
from wgpy.protocol.cookie import CookieChecker

INITIATION, RESPONSE, COOKIE, TRANSPORT = 1, 2, 3, 4


@pytest.fixture
def kit():
    return Kit().up()


@pytest.fixture
def alice(kit):
    made = Stranger(kit)
    made.befriend("10.0.0.1")
    return made


# --- Responder ---


def test_an_initiation_is_answered_to_where_it_came_from(kit, alice):
    alice.send(alice.initiation())
    kit.settle()
    ((answer, route),) = kit.sent(RESPONSE)
    assert len(answer) == 92
    assert route.address == alice.route.address
    alice.finish(answer)
    shown = kit.shown()[alice.key]
    assert (shown.rx_bytes, shown.tx_bytes) == (148, 92)
    assert str(shown.endpoint) == "192.0.2.1:1001"
    assert shown.last_handshake == (0, 0), "not before the key is confirmed"


def keepalive_with(alice, answer):
    """The first message under the new key, by no code of the data path."""
    keys = alice.finish(answer)
    (index,) = struct.unpack_from("<I", answer, 4)
    tag = ChaCha20Poly1305(bytes(keys.send)).encrypt(bytes(12), b"", None)
    return struct.pack("<IIQ", TRANSPORT, index, 0) + tag


def test_the_handshake_counts_from_its_confirmation(kit, alice):
    alice.send(alice.initiation())
    kit.settle()
    ((answer, _),) = kit.sent(RESPONSE)
    kit.path.now += 0.5
    alice.send(keepalive_with(alice, answer))
    kit.settle()
    assert kit.shown()[alice.key].last_handshake == divmod(kit.wall_ns(), 10**9)
    assert kit.sessions() == 1


def test_a_stranger_gets_silence(kit):
    stranger = Stranger(kit, 9)
    stranger.send(stranger.initiation())
    kit.settle()
    assert kit.path.sent == []
    assert kit.counters() == {"unknown_peer": 1}


def test_a_replayed_initiation_is_counted_and_moves_nothing(kit, alice):
    data = alice.initiation()
    alice.send(data)
    kit.settle()
    kit.sent(RESPONSE)
    kit.path.now += 1
    kit.path.take(data, Route(("203.0.113.66", 66)))
    kit.settle()
    assert kit.path.sent == []
    assert kit.counters() == {"replayed_timestamp": 1}
    assert str(kit.shown()[alice.key].endpoint) == "192.0.2.1:1001"


def test_initiations_that_follow_closely_are_counted(kit, alice):
    for _ in range(3):
        alice.send(alice.initiation())
        kit.path.now += 0.015
        kit.settle()
    assert len(kit.sent(RESPONSE)) == 2
    assert kit.counters() == {"flood": 1}


def test_a_forged_initiation_with_a_right_mac1_is_counted(kit, alice):
    data = bytearray(alice.initiation())
    data[50] ^= 1
    alice.send(alice.peer.cookie.add_macs(bytes(data[:116]), 0.0))
    kit.settle()
    assert kit.path.sent == []
    assert kit.counters() == {"unauthenticated": 1}


def test_an_initiation_moves_the_endpoint_and_the_source(kit, alice):
    pktinfo = struct.pack("@i4s4s", 3, bytes((10, 1, 1, 1)), bytes((10, 1, 1, 1)))
    alice.route = Route(("203.0.113.5", 555), pktinfo)
    alice.send(alice.initiation())
    kit.settle()
    ((_, route),) = kit.sent(RESPONSE)
    assert route == alice.route
    assert str(kit.shown()[alice.key].endpoint) == "203.0.113.5:555"


def test_answers_to_many_initiations_leave_no_indices_behind(kit, alice):
    for _ in range(50):
        alice.send(alice.initiation())
        kit.settle()
        kit.path.now += 0.03
    assert kit.sessions() == 1
    assert len(kit.path._reserved) == 0
    assert len(kit.device._peers.by_index) == 1


def test_without_a_private_key_nobody_is_answered(kit, alice):
    data = alice.initiation()
    kit.device.apply(DeviceChange(private_key=PrivateKey(bytes(32))))
    alice.send(data)
    kit.settle()
    assert kit.path.sent == []
    assert kit.counters() == {"unknown_type": 1}


# --- Initiator ---


@pytest.fixture
def called(kit):
    """Bob, whom the device has just sent an initiation."""
    bob = Stranger(kit, 2)
    bob.befriend("10.0.0.2", endpoint=True, persistent_keepalive=25)
    kit.settle()
    ((data, route),) = kit.sent(INITIATION)
    assert route.address == bob.route.address
    return bob, data


def test_a_response_gives_a_session_and_a_keepalive(kit, called):
    bob, data = called
    answer, _keys = bob.answer(data)
    bob.send(answer)
    kit.settle()
    assert len(kit.sent(TRANSPORT)) == 1
    assert kit.sessions() == 1
    assert kit.shown()[bob.key].last_handshake == divmod(kit.wall_ns(), 10**9)
    assert kit.path._reserved == set()


def test_a_response_is_taken_once(kit, called):
    bob, data = called
    answer, _keys = bob.answer(data)
    bob.send(answer)
    bob.send(answer)
    kit.settle()
    assert kit.sessions() == 1
    assert kit.counters() == {"unexpected_response": 1}


def test_a_response_to_our_response_is_none(kit, alice):
    """It names an index of ours, but not that of a handshake that we began."""
    alice.send(alice.initiation())
    kit.settle()
    ((answer, _),) = kit.sent(RESPONSE)
    forged = b"\2\0\0\0" + b"s" * 4 + answer[4:8] + bytes(48)
    alice.send(alice.peer.cookie.add_macs(forged, 0.0))
    kit.settle()
    assert kit.counters() == {"unexpected_response": 1}
    assert kit.sessions() == 1


def test_a_forged_response_does_not_end_the_handshake(kit, called):
    bob, data = called
    answer, _keys = bob.answer(data)
    forged = bytearray(answer[:60])
    forged[20] ^= 1
    kit.path.take(bob.peer.cookie.add_macs(bytes(forged), 0.0), Route(("203.0.113.66", 66)))
    kit.settle()
    assert kit.counters() == {"unauthenticated": 1}
    assert str(kit.shown()[bob.key].endpoint) == "192.0.2.2:1002"
    bob.send(answer)
    kit.settle()
    assert kit.sessions() == 1


def test_a_response_moves_the_endpoint(kit, called):
    bob, data = called
    answer, _keys = bob.answer(data)
    kit.path.take(answer, Route(("203.0.113.8", 8)))
    kit.settle()
    assert str(kit.shown()[bob.key].endpoint) == "203.0.113.8:8"
    assert kit.sent(TRANSPORT)[0][1].address == ("203.0.113.8", 8)


def test_a_repeated_initiation_is_fresh_and_has_an_index_of_its_own(kit, called):
    _bob, first = called
    kit.pass_time(6)
    ((second, _),) = kit.sent(INITIATION)
    assert second[4:8] != first[4:8]
    assert second[8:40] != first[8:40]
    assert len(kit.path._reserved) == len(kit.device._peers.by_index) == 1


def test_without_an_endpoint_nothing_is_sent_and_nothing_spins(kit):
    carol = Stranger(kit, 3)
    carol.befriend("10.0.0.3", persistent_keepalive=1)
    kit.pass_time(60)
    assert kit.path.sent == []
    assert kit.path._reserved == set()


def test_a_key_of_low_order_is_counted_and_no_handshake_is_begun(kit):
    kit.peer(PublicKey(bytes(32)), endpoint=Address("192.0.2.9", 9), persistent_keepalive=25)
    kit.settle()
    assert kit.path.sent == []
    assert kit.counters() == {"unauthenticated": 1}
    assert kit.path._reserved == set()


def test_a_preshared_key_must_be_the_same(kit):
    bob = Stranger(kit, 2)
    psk = PresharedKey(b"p" * 32)
    bob.befriend("10.0.0.2", endpoint=True, persistent_keepalive=25, preshared_key=psk)
    kit.settle()
    ((data, _),) = kit.sent(INITIATION)
    bob.send(bob.answer(data)[0])
    kit.settle()
    assert kit.counters() == {"unauthenticated": 1}
    assert kit.sessions() == 0
    bob.peer.set_psk(psk)
    kit.path.now += 1
    kit.pass_time(6)
    ((data, _),) = kit.sent(INITIATION)
    bob.send(bob.answer(data)[0])
    kit.settle()
    assert kit.sessions() == 1


# --- Under load ---


def flood(alice, count):
    """Queue so many initiations, the first of them ready to be drained."""
    for _ in range(count):
        alice.send(alice.initiation())


def act(kit):
    """Let the device take one datagram."""
    kit.device.process(kit.path.drain(1))


def test_below_the_depth_there_are_no_cookies(kit, alice):
    flood(alice, UNDER_LOAD_DEPTH)
    act(kit)
    assert kit.path.queue_depth() == UNDER_LOAD_DEPTH - 1
    assert kit.sent(COOKIE) == []


def test_under_load_a_cookie_is_asked_for_and_its_mac2_is_let_in(kit, alice):
    flood(alice, UNDER_LOAD_DEPTH + 5)
    last = alice.initiation(index=0xABCD)
    alice.send(last)
    while kit.path.queue_depth():
        act(kit)
    cookies = kit.sent(COOKIE)
    assert len(cookies) == UNDER_LOAD_DEPTH + 6
    assert kit.counters()["cookie_replies_sent"] == len(cookies)
    reply, route = cookies[-1]
    assert len(reply) == 64
    assert route.address == alice.route.address
    assert kit.shown()[alice.key].endpoint is None, "a cookie moves nothing"
    parsed = messages.parse_cookie_reply(reply)
    assert parsed.receiver == 0xABCD
    assert alice.peer.consume_cookie(parsed, kit.path.now)

    # Load is believed for a second; with the cookie's mac2 the initiation is answered meanwhile.
    kit.path.now += 0.9
    alice.send(alice.initiation())
    act(kit)
    assert len(kit.sent(RESPONSE)) == 1


def test_a_cookie_is_good_for_one_address_and_port(kit, alice):
    flood(alice, UNDER_LOAD_DEPTH + 1)
    while kit.path.queue_depth():
        act(kit)
    assert alice.peer.consume_cookie(
        messages.parse_cookie_reply(kit.sent(COOKIE)[-1][0]), kit.path.now
    )
    for route in (("192.0.2.1", 1002), ("192.0.2.3", 1001)):
        alice.route = Route(route)
        alice.send(alice.initiation())
        act(kit)
        ((_, back),) = kit.sent(COOKIE)
        assert back.address == route


def test_a_cookie_through_a_relay_is_good_for_its_channel(kit, alice):
    """The relay's server sends what many peers send: what tells them apart is the channel."""
    server, channels = Endpoint("198.51.100.1", 3478), (0x4000, 0x4001)
    relay = kit.path.add_relay(server)
    for number, channel in enumerate(channels):
        kit.path.set_channel(relay, channel, Endpoint("192.0.2.77", 77 + number))

    def send(data, channel):
        framed = struct.pack(">HH", channel, len(data)) + data
        kit.path.take(framed, to_route(server))

    for _ in range(UNDER_LOAD_DEPTH + 1):
        send(alice.initiation(), channels[0])
    while kit.path.queue_depth():
        act(kit)
    (framed, route) = kit.path.sent[-1]
    assert route == to_route(server)
    assert framed[:4] == struct.pack(">HH", channels[0], 64)
    reply = messages.parse_cookie_reply(framed[4:])
    assert alice.peer.consume_cookie(reply, kit.path.now)
    before = kit.counters()["cookie_replies_sent"]
    send(alice.initiation(), channels[1])
    act(kit)
    alice.send(alice.initiation())
    act(kit)
    assert kit.counters()["cookie_replies_sent"] == before + 2
    kit.path.sent.clear()
    send(alice.initiation(), channels[0])
    act(kit)
    ((answer, _),) = kit.path.sent
    assert answer[:8] == struct.pack(">HH", channels[0], 92) + b"\2\0\0\0"
    endpoint = kit.shown()[alice.key].endpoint
    assert (endpoint.host, endpoint.port) == ("192.0.2.77", 77)


def test_with_a_cookie_each_source_has_a_rate(kit, alice):
    flood(alice, UNDER_LOAD_DEPTH + 1)
    while kit.path.queue_depth():
        act(kit)
    assert alice.peer.consume_cookie(
        messages.parse_cookie_reply(kit.sent(COOKIE)[-1][0]), kit.path.now
    )
    for _ in range(8):
        alice.send(alice.initiation())
    while kit.path.queue_depth():
        act(kit)
    assert kit.counters()["rate_limited"] == 3
    # Of the five that were let in, four came too soon after the first.
    assert len(kit.sent(RESPONSE)) == 1
    assert kit.counters()["flood"] == 4


def test_a_second_after_the_load_no_cookie_is_needed(kit, alice):
    flood(alice, UNDER_LOAD_DEPTH + 1)
    while kit.path.queue_depth():
        act(kit)
    kit.sent(COOKIE)
    kit.path.now += 1.1
    alice.send(alice.initiation())
    act(kit)
    assert len(kit.sent(RESPONSE)) == 1


def test_a_response_needs_a_cookie_under_load_too(kit, alice, called):
    bob, data = called
    answer, _keys = bob.answer(data)
    bob.send(answer)
    flood(alice, UNDER_LOAD_DEPTH)
    act(kit)
    ((reply, route),) = kit.sent(COOKIE)
    assert route.address == bob.route.address
    assert messages.parse_cookie_reply(reply).receiver == 88
    assert kit.sessions() == 0


# --- Cookies for us ---


def test_a_cookie_is_used_at_the_next_try_and_moves_nothing(kit, called):
    bob, data = called
    checker = CookieChecker(bob.key, lambda length: b"r" * length)
    reply = checker.reply(data, b"us", kit.path.now)
    assert data[132:] == bytes(16)
    kit.path.take(reply, Route(("203.0.113.66", 66)))
    kit.settle()
    assert kit.path.sent == [], "nothing is sent before the retry"
    assert str(kit.shown()[bob.key].endpoint) == "192.0.2.2:1002"
    kit.pass_time(6)
    ((again, route),) = kit.sent(INITIATION)
    assert route.address == bob.route.address
    assert checker.check_mac2(again, b"us", kit.path.now)
    assert kit.counters() == {}


def test_a_cookie_for_our_response_is_used_as_well(kit, alice):
    alice.send(alice.initiation())
    kit.settle()
    ((answer, _),) = kit.sent(RESPONSE)
    checker = CookieChecker(alice.key, lambda length: b"r" * length)
    alice.send(checker.reply(answer, b"us", kit.path.now))
    kit.path.now += 1
    alice.send(alice.initiation())
    kit.settle()
    ((again, _),) = kit.sent(RESPONSE)
    assert checker.check_mac2(again, b"us", kit.path.now)


def test_a_forged_cookie_is_counted(kit, called):
    _bob, data = called
    reply = b"\3\0\0\0" + data[4:8] + bytes(56)
    kit.path.take(reply)
    kit.settle()
    assert kit.counters() == {"bad_cookie_reply": 1}


# --- Strange input ---


def test_every_type_and_length_class_leaves_the_device_alive(kit, alice):
    for kind in range(21):
        for length in (0, 1, 3, 4, 15, 16, 31, 32, 63, 64, 91, 92, 147, 148, 149, 1500, 65_507):
            for fill in (b"\0", b"\xff", b"\x01"):
                data = (kind.to_bytes(4, "little") + fill * length)[:length]
                kit.path.take(data)
    kit.settle()
    assert kit.path.sent == []
    assert sum(kit.counters().values()) == 21 * 17 * 3
    alice.send(alice.initiation())
    kit.settle()
    assert len(kit.sent(RESPONSE)) == 1


def test_two_devices_and_their_own_initiations_at_once():
    """Both begin in the same moment; both sessions work, and one of them stays."""
    one = Kit().up()
    other_private = PrivateKey(bytes([7]) * 32)
    other = Kit(private=other_private).up()
    places = {"192.0.2.1": one, "192.0.2.2": other}
    one.peer(other_private.public(), endpoint=Address("192.0.2.2", 2), persistent_keepalive=25)
    other.peer(PRIVATE.public(), endpoint=Address("192.0.2.1", 1), persistent_keepalive=25)
    for _ in range(12):
        for kit, name in ((one, "192.0.2.1"), (other, "192.0.2.2")):
            kit.settle()
            sent, kit.path.sent = kit.path.sent, []
            for data, route in sent:
                places[route.address[0]].path.take(data, Route((name, int(name[-1]))))
    for kit in (one, other):
        (state,) = kit.device.state().peers
        assert state.last_handshake != (0, 0)
        (entry,) = kit.device._peers.by_key.values()
        assert kit.path._roads[entry.handle].keys.current is not None
