"""From the TUN to the socket: padding, staging, limits, segmentation, sources."""

import errno
import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.support.memory_path import HERE, STALE, THERE, MemoryPath, join, share_keys
from tests.support.packets import TCP, V6, Segment, checksum, ip_packet, pseudo_header
from wgpy.datapath.contract import DataPathError, Endpoint, HandshakeNeeded, RekeySend, Slot
from wgpy.datapath.endpoint import to_route
from wgpy.protocol.constants import (
    MAX_INNER_LENGTH,
    MAX_STAGED_PACKETS,
    REJECT_AFTER_MESSAGES,
    REKEY_AFTER_MESSAGES,
)

UDP = 17


def unseal(data, key):
    """The plaintext, by no code of ours: (type, index, counter, plaintext)."""
    kind, index, counter = struct.unpack_from("<IIQ", data)
    nonce = bytes(4) + counter.to_bytes(8, "little")
    return kind, index, counter, ChaCha20Poly1305(key).decrypt(nonce, data[16:], None)


@pytest.fixture
def joined(engine):
    here, there = engine(), engine()
    return here, there, join(here, there)


# --- Messages and padding ---


def test_a_message_is_what_the_whitepaper_says(joined):
    here, _there, peers = joined
    packets = [ip_packet(UDP, bytes([n]) * 30) for n in range(3)]
    for packet in packets:
        here.write(packet)
    # The index that the other side drew: its first one.
    index = 1
    for number, (data, route) in enumerate(here.sent):
        assert unseal(data, peers.key_out) == (4, index, number, packets[number] + bytes(14))
        assert route.address == (THERE.address, THERE.port)


@pytest.mark.parametrize("length", range(20, 70))
def test_padding_is_zeros_to_a_multiple_of_16(joined, length):
    here, _there, peers = joined
    # An earlier packet has left its bytes where the padding will be.
    here.write(ip_packet(UDP, b"\xff" * 500))
    here.write(ip_packet(UDP, b"\x55" * (length - 20)))
    plain = unseal(here.sent[-1][0], peers.key_out)[3]
    assert len(plain) == -(-length // 16) * 16
    assert plain[length:] == bytes(len(plain) - length)


@pytest.mark.parametrize("mtu", [1280, 1419, 1420, 1425])
def test_padding_ends_at_the_mtu(engine, mtu):
    here, there = engine(mtu=mtu), engine()
    peers = join(here, there)
    for length in range(mtu - 20, mtu + 1):
        here.write(ip_packet(UDP, b"\x55" * (length - 20)))
        plain = unseal(here.sent[-1][0], peers.key_out)[3]
        assert len(plain) == min(-(-length // 16) * 16, mtu)
        assert not any(plain[length:])


def test_a_packet_over_a_lowered_mtu_still_goes(joined):
    here, there, peers = joined
    here.set_mtu(576)
    for length in (577, 1000, 1151, 1152, 1153, 1420):
        packet = ip_packet(UDP, b"\x55" * (length - 20))
        here.write(packet)
        plain = unseal(here.sent[-1][0], peers.key_out)[3]
        assert plain.rstrip(b"\0") == packet
        # As the kernel: what is over whole MTUs is padded, to 16 and not beyond the MTU.
        rest = length % 576
        assert len(plain) == length - rest + min(-(-rest // 16) * 16, 576)
        there.take(here.sent[-1][0])
        assert there.packets() == [packet]


def test_segments_are_padded_with_zeros_too(joined):
    here, _there, peers = joined
    large = Segment(payload=b"\x77" * 5000)
    for _ in range(2):
        here.write(bytes(large), large.vnet(1001))
    segments = [bytes(segment) for segment in large.split(1001)]
    for (data, _), segment in zip(here.sent, segments * 2, strict=True):
        plain = unseal(data, peers.key_out)[3]
        assert plain == segment + bytes(-len(segment) % 16)


def test_every_size_goes_through_and_comes_out_as_it_was(engine):
    here, there = engine(mtu=MAX_INNER_LENGTH), engine(mtu=MAX_INNER_LENGTH)
    join(here, there)
    body = bytes(range(256)) * 256
    head = bytearray(ip_packet(UDP, b""))
    for length in range(20, MAX_INNER_LENGTH + 1):
        struct.pack_into("!H", head, 2, length)
        packet = bytes(head) + body[: length - 20]
        here.write(packet)
        data, _ = here.sent.pop()
        assert len(data) <= 65_507
        there.take(data)
        (frame,) = there.delivered
        there.delivered.clear()
        assert frame == bytes(10) + packet
    assert there.counters() == here.counters() == {}


def test_an_mtu_that_no_datagram_carries_is_refused_with_the_reason(engine):
    path = engine()
    path.set_mtu(MAX_INNER_LENGTH)
    with pytest.raises(DataPathError, match=r"65476.*65475"):
        path.set_mtu(MAX_INNER_LENGTH + 1)
    with pytest.raises(DataPathError):
        path.set_mtu(0)


# --- Who gets it ---


def test_packets_that_are_no_ip_are_counted(joined):
    here, _there, _peers = joined
    for packet in (b"", b"\x45", bytes(60), ip_packet(UDP, b"")[:19], b"\x60" + bytes(38)):
        here.write(packet)
    assert here.counters() == {"not_ip": 5}
    assert here.sent == []


def test_a_peer_without_endpoint_answers_unreachable(engine):
    path = engine()
    path.peer("10.0.0.2")
    path.write(ip_packet(UDP, b"x"))
    assert path.counters() == {"no_endpoint": 1}
    assert len(path.delivered) == 1
    assert path.drain(9) == []


def test_what_the_socket_refuses_is_counted_and_not_as_sent_bytes(joined):
    here, _there, peers = joined
    here.error = errno.ENETUNREACH
    here.write(ip_packet(UDP, b"x"))
    assert here.counters() == {"send_error": 1}
    assert here.activity(peers.here).tx_bytes == 0
    here.error = None
    here.write(ip_packet(UDP, b"x"))
    assert unseal(here.sent[0][0], peers.key_out)[2] == 1, "a counter is never used twice"


# --- Staging ---


@pytest.fixture
def keyless(engine):
    path = engine()
    return path, path.peer("10.0.0.2", "fd00::2", at=THERE)


def numbered(count):
    return [ip_packet(UDP, n.to_bytes(4, "big")) for n in range(count)]


def test_the_oldest_staged_packet_makes_room(engine, keyless):
    path, peer = keyless
    packets = numbered(MAX_STAGED_PACKETS + 5)
    for packet in packets:
        path.write(packet)
    assert path.activity(peer).staged == MAX_STAGED_PACKETS
    assert path.counters() == {"staged_overflow": 5}
    assert path.drain(9) == [HandshakeNeeded(peer)], "one event, however many packets"
    there = engine()
    other = there.peer("10.0.0.1", at=HERE)
    share_keys(path, there, (peer, other), kick=False)
    assert path.sent == [], "without a kick nothing goes"
    share_keys(path, there, (peer, other), kick=True, seed=2)
    assert path.activity(peer).staged == 0
    for data, _ in path.sent:
        there.take(data)
    assert there.packets() == packets[5:]


def test_a_kick_with_nothing_staged_sends_a_keepalive(engine, keyless):
    path, peer = keyless
    there = engine()
    other = there.peer("10.0.0.1", at=HERE)
    share_keys(path, there, (peer, other), kick=True)
    ((data, _),) = path.sent
    assert len(data) == 32
    activity = path.activity(peer)
    assert (activity.last_sent, activity.last_data_sent) == (path.now, 0.0)
    assert activity.tx_bytes == 32


def test_a_kick_with_packets_staged_sends_no_keepalive_beside_them(engine, keyless):
    path, peer = keyless
    path.write(ip_packet(UDP, b"x"))
    there = engine()
    share_keys(path, there, (peer, there.peer("10.0.0.1", at=HERE)), kick=True)
    assert len(path.sent) == 1
    assert path.activity(peer).last_data_sent == path.now


def test_staged_packets_are_dropped_and_counted(keyless):
    path, peer = keyless
    for packet in numbered(3):
        path.write(packet)
    path.drop_staged(peer)
    assert path.counters() == {"staged_dropped": 3}
    assert path.activity(peer).staged == 0
    path.write(numbered(1)[0])
    path.set_up(False)
    assert path.counters() == {"staged_dropped": 4}
    assert path.activity(peer).staged == 0


def test_large_packets_are_staged_as_segments(engine, keyless):
    path, peer = keyless
    large = Segment(payload=b"s" * 3000)
    path.write(bytes(large), large.vnet(1200))
    assert path.activity(peer).staged == 3
    there = engine()
    share_keys(path, there, (peer, there.peer("10.0.0.1", at=HERE)), kick=True)
    for data, _ in path.sent:
        there.take(data)
    assert there.packets() == [bytes(segment) for segment in large.split(1200)]


def test_a_keepalive_without_a_key_asks_for_a_handshake(keyless):
    path, peer = keyless
    path.send_keepalive(peer)
    assert path.sent == []
    assert path.drain(9) == [HandshakeNeeded(peer)]


@pytest.mark.parametrize("slot", [Slot.CURRENT, Slot.NEXT])
def test_a_new_key_answers_what_was_asked_for_before_it(engine, slot):
    """A packet met no key while the response was being read: that asks for no second handshake."""
    here, there = engine(), engine()
    peer, other = here.peer("10.0.0.2", at=THERE), there.peer("10.0.0.1", at=HERE)
    (packet,) = numbered(1)
    here.write(packet)
    share_keys(there, here, (other, peer), slots=(Slot.CURRENT, slot), kick=True)
    here.take(there.sent[0][0])
    assert here.activity(peer).staged == 0
    assert HandshakeNeeded(peer) not in here.drain(9)


# --- The end of a key ---


def test_the_last_counter_is_never_passed(joined):
    here, there, peers = joined
    here.set_send_counter(peers.here, REJECT_AFTER_MESSAGES - 2)
    for packet in numbered(4):
        here.write(packet)
    counters = [unseal(data, peers.key_out)[2] for data, _ in here.sent]
    assert counters == [REJECT_AFTER_MESSAGES - 2, REJECT_AFTER_MESSAGES - 1]
    assert here.activity(peers.here).staged == 2
    assert here.drain(9) == [RekeySend(peers.here), HandshakeNeeded(peers.here)]
    for data, _ in here.sent:
        there.take(data)
    assert there.packets() == numbered(2)


def test_a_keepalive_does_not_pass_the_last_counter_either(joined):
    here, _there, peers = joined
    here.set_send_counter(peers.here, REJECT_AFTER_MESSAGES)
    here.send_keepalive(peers.here)
    assert here.sent == []
    assert here.drain(9) == [HandshakeNeeded(peers.here)]


def test_a_train_ends_with_the_last_counter(joined):
    here, _there, peers = joined
    here.set_send_counter(peers.here, REJECT_AFTER_MESSAGES - 2)
    large = Segment(payload=b"s" * 100)
    here.write(bytes(large), large.vnet(10))
    counters = [unseal(data, peers.key_out)[2] for data, _ in here.sent]
    assert counters == [REJECT_AFTER_MESSAGES - 2, REJECT_AFTER_MESSAGES - 1]
    # The other eight of its segments wait for the next key.
    assert here.activity(peers.here).staged == 8
    assert here.drain(9) == [RekeySend(peers.here), HandshakeNeeded(peers.here)]


def test_an_expired_key_seals_no_more(joined):
    here, _there, peers = joined
    here.now += 179.9
    here.write(numbered(1)[0])
    assert len(here.sent) == 1
    here.now += 0.1
    here.write(numbered(1)[0])
    here.send_keepalive(peers.here)
    assert len(here.sent) == 1
    assert here.drain(9) == [HandshakeNeeded(peers.here)]


def test_rekey_is_asked_for_once_after_its_time(engine):
    here, there = engine(), engine()
    peers = join(here, there, rekey_send=120.0)
    here.now += 119.9
    here.write(numbered(1)[0])
    assert here.drain(9) == []
    here.now += 0.1
    for packet in numbered(3):
        here.write(packet)
    assert here.drain(9) == [RekeySend(peers.here)]
    here.send_keepalive(peers.here)
    assert here.drain(9) == []


def test_rekey_is_asked_for_after_many_messages(joined):
    here, _there, peers = joined
    here.set_send_counter(peers.here, REKEY_AFTER_MESSAGES - 2)
    here.write(numbered(1)[0])
    assert here.drain(9) == []
    here.write(numbered(1)[0])
    assert here.drain(9) == [RekeySend(peers.here)]


def test_a_keepalive_asks_for_a_rekey_as_well(engine):
    here, there = engine(), engine()
    peers = join(here, there, rekey_send=120.0)
    here.now += 130
    here.send_keepalive(peers.here)
    assert here.drain(9) == [RekeySend(peers.here)]


# --- Offloads ---


def test_trains_are_of_equal_datagrams_and_bounded(engine):
    here, there = engine(), engine()
    join(here, there)
    for size, length in ((1380, 64_000), (100, 60_000), (16, 20_000), (65_000, 65_400)):
        large = Segment(payload=bytes(n % 251 for n in range(length)))
        here.write(bytes(large), large.vnet(size))
        assert max(here.trains) <= 64
        at = 0
        for number in here.trains:
            train = [len(data) for data, _ in here.sent[at : at + number]]
            assert len(set(train[:-1])) <= 1
            assert train[-1] <= train[0]
            assert sum(train) <= 65_507
            at += number
        for data, _ in here.sent:
            there.take(data)
        assert there.packets() == [bytes(segment) for segment in large.split(size)]
        here.sent.clear()
        here.trains.clear()


@pytest.mark.parametrize("addresses", [None, V6])
def test_a_checksum_left_to_us_is_finished(joined, addresses):
    here, there, _peers = joined
    segment = Segment(payload=b"c" * 333)
    if addresses is not None:
        segment = replace(segment, source=bytes.fromhex("fd00" + "00" * 13 + "01"))
        segment = replace(segment, target=bytes.fromhex("fd00" + "00" * 13 + "02"))
    packet = bytes(segment)
    start = segment.header - 20
    partial = bytearray(packet)
    pseudo = pseudo_header(segment.source, segment.target, TCP, len(packet) - start)
    struct.pack_into("!H", partial, start + 16, ~checksum(pseudo) & 0xFFFF)
    here.write(bytes(partial), struct.pack("=BBHHHH", 1, 0, 0, 0, start, 16))
    there.take(here.sent[0][0])
    assert there.packets() == [packet]


def test_bad_offloads_are_dropped_and_counted(joined):
    here, _there, _peers = joined
    packet = bytes(Segment(payload=b"x" * 100))
    for vnet in (
        struct.pack("=BBHHHH", 1, 0, 0, 0, 200, 16),
        struct.pack("=BBHHHH", 1, 1, 40, 0, 20, 16),
        struct.pack("=BBHHHH", 0, 7, 40, 10, 20, 16),
    ):
        here.write(packet, vnet)
    assert here.counters() == {"bad_offload": 3}
    assert here.sent == []


# --- Sources ---


def test_a_sticky_source_goes_with_the_packet_until_it_is_cleared(joined):
    here, _there, peers = joined
    sticky = Endpoint("192.0.2.2", 2222, source=bytes((192, 0, 2, 1)), ifindex=3)
    here.set_endpoint(peers.here, sticky)
    here.write(numbered(1)[0])
    assert here.sent[-1][1] == to_route(sticky)
    here.clear_source(peers.here)
    here.write(numbered(1)[0])
    assert here.sent[-1][1] == to_route(THERE)


def test_every_source_is_cleared_at_once(engine):
    path = engine()
    source = {"source": bytes((192, 0, 2, 1)), "ifindex": 3}
    first = path.peer("10.0.0.1", at=Endpoint("192.0.2.2", 1, **source))
    second = path.peer("10.0.0.2", at=Endpoint("192.0.2.3", 1, **source))
    path.peer("10.0.0.3")
    path.clear_source(None)
    for peer, address in ((first, "192.0.2.2"), (second, "192.0.2.3")):
        path.send(b"control", peer=peer)
        assert path.sent.pop()[1] == to_route(Endpoint(address, 1))


# --- The control plane's own datagrams ---


def test_control_datagrams_are_counted_to_their_peer_and_are_no_data(keyless):
    path, peer = keyless
    assert path.send(b"h" * 148, peer=peer) is None
    activity = path.activity(peer)
    assert (activity.tx_bytes, activity.last_sent, activity.last_data_sent) == (148, path.now, 0.0)
    elsewhere = Endpoint("2001:db8::1", 5)
    assert path.send(b"cookie", to=elsewhere) is None
    assert [route for _, route in path.sent] == [to_route(THERE), to_route(elsewhere)]
    assert path.activity(peer).tx_bytes == 148


def test_a_control_datagram_without_an_endpoint_says_so(engine):
    path = engine()
    assert path.send(b"x", peer=path.peer()) == errno.EDESTADDRREQ
    assert path.send(b"x") == errno.EDESTADDRREQ


def test_an_answer_to_an_initiation_does_not_use_the_next_key(engine, keyless):
    path, peer = keyless
    there = engine()
    other = there.peer("10.0.0.1", at=HERE)
    share_keys(path, there, (peer, other), slots=(Slot.NEXT, Slot.CURRENT))
    path.write(numbered(1)[0])
    path.send_keepalive(peer)
    assert path.sent == [], "the other side has not yet shown that it has the key"
    assert path.drain(9) == [HandshakeNeeded(peer)]


def test_buffers_of_the_kit_are_stale_where_padding_goes():
    assert MemoryPath().tun[5000] == STALE


@pytest.mark.parametrize(("start", "goes"), [(492, True), (493, False), (520, False)])
def test_headers_of_more_than_512_bytes_are_refused(joined, start, goes):
    """By the vnet header: the bytes there read as a TCP header of 20."""
    here, _there, _peers = joined
    packet = bytearray(bytes(Segment(payload=b"\x50" * 1200)))
    here.write(bytes(packet), struct.pack("=BBHHHH", 1, 1, start + 20, 400, start, 16))
    assert bool(here.sent) == goes
    assert here.counters() == ({} if goes else {"bad_offload": 1})
