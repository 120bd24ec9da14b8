"""From the socket to the TUN: what is opened, believed, counted, and reported."""

import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.support.memory_path import HERE, THERE, MemoryPath, join, share_keys
from tests.support.packets import Segment, ip_packet
from wgpy.datapath.contract import (
    Active,
    AllowedIpOperation,
    Endpoint,
    KeyConfirmed,
    RekeyReceive,
    Roamed,
    Slot,
)
from wgpy.datapath.endpoint import Route, to_route
from wgpy.ip import parse_prefix
from wgpy.protocol.constants import REJECT_AFTER_MESSAGES

UDP = 17
PACKET = ip_packet(UDP, b"payload")
AWAY = Route(("198.51.100.7", 7))


@pytest.fixture
def joined(engine):
    here, there = engine(), engine()
    return here, there, join(here, there)


def sealed(path, *packets):
    """The datagrams that carry these packets."""
    for packet in packets:
        path.write(packet)
    taken = [data for data, _ in path.sent]
    path.sent.clear()
    return taken


def keepalive(path, peer):
    path.send_keepalive(peer)
    return path.sent.pop()[0]


def endpoint_of(path, peer):
    """Where the peer's next packet goes."""
    path.send(b"?", peer=peer)
    return path.sent.pop()[1]


# --- Authentication and replay ---


def test_a_packet_arrives_without_its_padding(joined):
    here, there, _peers = joined
    there.take(*sealed(here, PACKET))
    assert there.delivered == [bytes(10) + PACKET]
    assert there.counters() == {}


def test_a_replayed_packet_is_dropped_and_counted(joined):
    here, there, peers = joined
    (data,) = sealed(here, PACKET)
    there.take(data)
    before = there.activity(peers.there)
    there.now += 5
    there.take(data, AWAY)
    assert len(there.delivered) == 1
    assert there.counters() == {"replayed": 1}
    assert there.activity(peers.there) == before
    assert endpoint_of(there, peers.there) != AWAY


def test_reordered_packets_all_arrive_once(joined):
    here, there, _peers = joined
    packets = [ip_packet(UDP, n.to_bytes(2, "big")) for n in range(200)]
    data = sealed(here, *packets)
    for datagram in reversed(data):
        there.take(datagram)
    for datagram in data:
        there.take(datagram)
    assert there.packets() == packets[::-1]
    assert there.counters() == {"replayed": 200}


def test_a_forger_cannot_move_the_window(joined):
    here, there, _peers = joined
    data = sealed(here, PACKET, PACKET)
    forged = bytearray(data[0])
    for counter in (0, 1, 2**40, REJECT_AFTER_MESSAGES - 1):
        struct.pack_into("<Q", forged, 8, counter)
        if counter:
            there.take(bytes(forged))
    forged = bytearray(data[0])
    forged[-1] ^= 1
    there.take(bytes(forged))
    assert there.counters() == {"bad_tag": 4}
    for datagram in data:
        there.take(datagram)
    assert len(there.delivered) == 2


@pytest.mark.parametrize("place", [16, 20, 40, -17, -16, -1])
def test_a_changed_byte_is_noticed_and_the_plaintext_wiped(joined, place):
    here, there, peers = joined
    secret = b"very secret payload " * 3
    forged = bytearray(sealed(here, ip_packet(UDP, secret))[0])
    forged[place] ^= 0x40
    there.take(bytes(forged), AWAY)
    assert there.delivered == []
    assert there.counters() == {"bad_tag": 1}
    # Nothing of what the cipher made of it is left in the buffer; the other one's is not seen here.
    if isinstance(there, MemoryPath):
        assert bytes(there.udp[16 : len(forged) - 16]) == bytes(len(forged) - 32)
    activity = there.activity(peers.there)
    assert (activity.last_received, activity.rx_bytes) == (0.0, 0)
    assert endpoint_of(there, peers.there) != AWAY


@pytest.mark.parametrize("counter", [REJECT_AFTER_MESSAGES, 2**64 - 1])
def test_counters_over_the_limit_are_refused(joined, counter):
    here, there, _peers = joined
    data = bytearray(sealed(here, PACKET)[0])
    struct.pack_into("<Q", data, 8, counter)
    there.take(bytes(data))
    assert there.counters() == {"expired_key": 1}


def test_an_old_key_opens_nothing(joined):
    here, there, _peers = joined
    first, second = sealed(here, PACKET, PACKET)
    there.now += 179.9
    there.take(first)
    there.now += 0.1
    there.take(second)
    assert len(there.delivered) == 1
    assert there.counters() == {"expired_key": 1}


def test_an_index_that_is_not_ours(joined):
    here, there, _peers = joined
    data = bytearray(sealed(here, PACKET)[0])
    data[4] ^= 0xFF
    there.take(bytes(data))
    assert there.counters() == {"unknown_index": 1}


@pytest.mark.parametrize("length", range(32))
def test_a_message_shorter_than_a_keepalive(joined, length):
    here, there, _peers = joined
    there.take(sealed(here, PACKET)[0][:length])
    assert sum(there.counters().values()) == 1
    assert there.delivered == []
    assert there.drain(9) == []


def test_a_type_with_high_bytes_set_is_another_type(joined):
    here, there, _peers = joined
    for place in (1, 2, 3):
        data = bytearray(sealed(here, PACKET)[0])
        data[place] = 1
        there.take(bytes(data))
    assert there.counters() == {"unknown_type": 3}


# --- Sources and inner packets ---


def test_the_source_must_belong_to_the_peer_by_the_longest_prefix(engine):
    """Not "some prefix of the peer's has it": another peer may own a longer one."""
    here, there = engine(), engine()
    peers = join(here, there)
    broad = AllowedIpOperation("add", peers.there, parse_prefix("10.0.0.0/8"))
    there.set_allowed_ips([broad])
    there.peer("10.9.0.0/16")
    one, other = (ip_packet(UDP, b"", source=bytes((10, n, 0, 1))) for n in (8, 9))
    for data in sealed(here, one, other):
        there.take(data)
    assert there.packets() == [one]
    assert there.counters() == {"wrong_source": 1}


def test_a_source_that_nobody_has(joined):
    here, there, peers = joined
    for data in sealed(here, ip_packet(UDP, b"", source=bytes((9, 9, 9, 9)))):
        there.take(data, AWAY)
    assert there.delivered == []
    assert there.counters() == {"wrong_source": 1}
    # It was authentic all the same: it moves the endpoint and counts as heard.
    assert endpoint_of(there, peers.there) == AWAY
    assert there.activity(peers.there).last_data_received == there.now


def inner(*, first=0x45, length=None, size=60, total_at=2):
    packet = bytearray(ip_packet(UDP, bytes(size - 20)))
    packet[0] = first
    if length is not None:
        struct.pack_into("!H", packet, total_at, length)
    return bytes(packet)


def sealed_raw(path, key, packet):
    """A message as `path` sends them, with what its kernel would never route, padded."""
    head = sealed(path, PACKET)[0][:16]
    padded = packet + bytes(-len(packet) % 16)
    return head + ChaCha20Poly1305(key).encrypt(bytes(4) + head[8:16], padded, None)


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        bytes(16),
        inner()[:16],
        inner(first=0x35),
        inner(first=0x55),
        inner(first=0x05),
        inner(length=0),
        inner(length=19),
        inner(length=65),
        inner(length=0xFFFF),
        inner(first=0x60, length=25, total_at=4),
        inner(first=0x60, length=0xFFFF, total_at=4),
        inner(first=0x60, length=0, total_at=4)[:32],
    ],
    ids=lambda packet: packet[:8].hex(),
)
def test_inner_packets_whose_length_is_not_theirs(joined, packet):
    here, there, peers = joined
    there.take(sealed_raw(here, peers.key_out, packet), AWAY)
    assert there.delivered == []
    assert there.counters() == {"bad_inner": 1}
    assert endpoint_of(there, peers.there) == AWAY
    assert there.activity(peers.there).last_data_received == there.now


def test_more_padding_than_ours_is_trimmed(joined):
    here, there, peers = joined
    there.take(sealed_raw(here, peers.key_out, PACKET + bytes(400)))
    assert there.packets() == [PACKET]


def test_a_length_of_ipv6_does_not_wrap(joined):
    """Payload length and header together pass 65,535."""
    here, there, peers = joined
    source = bytes.fromhex("fd00" + "00" * 13 + "01")
    packet = bytearray(ip_packet(UDP, bytes(100), source=source, target=bytes(16)))
    struct.pack_into("!H", packet, 4, 0xFFFF)
    there.take(sealed_raw(here, peers.key_out, bytes(packet)))
    assert there.counters() == {"bad_inner": 1}


# --- Roaming ---


def test_an_authentic_packet_moves_the_endpoint_and_says_so_once(joined):
    here, there, peers = joined
    first, second, third = sealed(here, PACKET, PACKET, PACKET)
    there.take(first, to_route(HERE))
    assert there.drain(9) == []
    there.take(second, AWAY)
    there.take(third, Route(("198.51.100.7", 7)))
    assert there.drain(9) == [Roamed(peers.there, Endpoint("198.51.100.7", 7))]
    assert endpoint_of(there, peers.there) == AWAY


def test_a_keepalive_moves_the_endpoint(joined):
    here, there, peers = joined
    there.take(keepalive(here, peers.here), AWAY)
    assert endpoint_of(there, peers.there) == AWAY
    assert there.drain(9) == [Roamed(peers.there, Endpoint("198.51.100.7", 7))]


def test_the_answer_leaves_from_the_address_that_was_hit(joined):
    here, there, peers = joined
    pktinfo = struct.pack("@i4s4s", 7, bytes((203, 0, 113, 1)), bytes((203, 0, 113, 1)))
    there.take(sealed(here, PACKET)[0], Route(AWAY.address, pktinfo))
    expected = Endpoint("198.51.100.7", 7, source=bytes((203, 0, 113, 1)), ifindex=7)
    assert there.drain(9) == [Roamed(peers.there, expected)]
    there.write(ip_packet(UDP, b"", source=bytes(4), target=bytes((10, 0, 0, 1))))
    assert there.sent[-1][1] == Route(AWAY.address, pktinfo)


def test_what_the_control_plane_heard_is_no_news_to_the_data_path(joined):
    """A handshake told where the peer is; its first packet from there is not a move."""
    here, there, peers = joined
    pktinfo = struct.pack("@i4s4s", 7, bytes((203, 0, 113, 1)), bytes((203, 0, 113, 1)))
    heard = Endpoint("198.51.100.7", 7, source=bytes((203, 0, 113, 1)), ifindex=7)
    there.set_endpoint(peers.there, heard)
    there.take(sealed(here, PACKET)[0], Route(AWAY.address, pktinfo))
    assert there.drain(9) == []


# --- Confirmation, and other events ---


@pytest.fixture
def answering(engine):
    """`there` has answered an initiation of `here`, with two packets waiting."""
    here, there = engine(), engine()
    one, other = here.peer("10.0.0.2", at=THERE), there.peer("10.0.0.1", at=HERE)
    for n in range(2):
        there.write(ip_packet(UDP, bytes([n]), source=bytes(4), target=bytes((10, 0, 0, 1))))
    there.drain(9)
    share_keys(here, there, (one, other), slots=(Slot.CURRENT, Slot.NEXT))
    return here, there, one, other


def test_the_first_packet_confirms_the_key_and_frees_what_was_staged(answering):
    here, there, one, other = answering
    assert there.sent == []
    data = keepalive(here, one)
    there.take(data, to_route(HERE))
    assert len(there.sent) == 2
    assert there.activity(other).staged == 0
    assert there.drain(9) == [KeyConfirmed(other, int.from_bytes(data[4:8], "little"))]
    there.take(keepalive(here, one), to_route(HERE))
    assert there.drain(9) == []


def test_a_forged_packet_confirms_nothing(answering):
    here, there, one, other = answering
    forged = bytearray(keepalive(here, one))
    forged[-1] ^= 1
    there.take(bytes(forged))
    assert there.sent == []
    assert there.drain(9) == []
    there.send_keepalive(other)
    assert there.sent == [], "there is no key to seal with yet"


def test_data_confirms_and_is_delivered_too(answering):
    here, there, _one, _other = answering
    there.take(*sealed(here, PACKET))
    assert there.packets() == [PACKET]
    assert len(there.sent) == 2


def test_the_key_before_still_opens_what_is_under_way(engine):
    here, there = engine(), engine()
    peers = join(here, there)
    (late,) = sealed(here, PACKET)
    share_keys(here, there, (peers.here, peers.there), seed=2, slots=(Slot.CURRENT, Slot.NEXT))
    # Until its confirmation, the answering side goes on sealing with the old key.
    there.write(ip_packet(UDP, b"", source=bytes(4), target=bytes((10, 0, 0, 1))))
    assert len(there.sent) == 1
    there.take(*sealed(here, PACKET))
    there.take(late)
    assert there.packets() == [PACKET, PACKET]


def test_dropped_keys_open_nothing_and_their_indices_are_free(joined):
    here, there, peers = joined
    (data,) = sealed(here, PACKET)
    there.drop_keys(peers.there)
    there.take(data)
    assert there.counters() == {"unknown_index": 1}
    assert there.session_count() == 0


def test_a_removed_peer_is_gone_with_its_keys_prefixes_and_events(joined):
    here, there, peers = joined
    moving, data = sealed(here, PACKET, PACKET)
    there.take(moving)
    there.remove_peer(peers.there)
    assert there.session_count() == 0
    assert there.drain(9) == []
    there.take(data)
    assert there.counters() == {"unknown_index": 1}
    assert len(there.packets()) == 1
    there.write(ip_packet(UDP, b"", source=bytes((10, 0, 0, 2)), target=bytes((10, 0, 0, 1))))
    assert there.counters()["no_peer"] == 1
    assert there.add_peer() != peers.there, "a handle is never used twice"


def test_a_receiver_asks_for_a_new_key_once(engine):
    here, there = engine(), engine()
    peers = join(here, there, rekey_receive=165.0)
    there.now = here.now = here.now + 164.9
    packet = ip_packet(UDP, b"", source=bytes((10, 0, 0, 2)), target=bytes((10, 0, 0, 1)))
    first, second, third = sealed(there, packet, packet, packet)
    here.take(first, to_route(THERE))
    assert here.drain(9) == []
    here.now += 0.1
    here.take(second, to_route(THERE))
    assert here.drain(9) == [RekeyReceive(peers.here)]
    here.take(third, to_route(THERE))
    assert here.drain(9) == []


def test_a_resting_peer_is_reported_by_its_first_packet_in_or_out(joined):
    here, there, peers = joined
    there.rest(peers.there)
    here.rest(peers.here)
    data = sealed(here, PACKET, PACKET)
    assert here.drain(9) == [Active(peers.here)]
    for datagram in data:
        there.take(datagram, to_route(HERE))
    assert there.drain(9) == [Active(peers.there)]
    there.take(*sealed(here, PACKET), to_route(HERE))
    assert there.drain(9) == here.drain(9) == []


def test_a_forged_packet_wakes_nobody(joined):
    here, there, peers = joined
    there.rest(peers.there)
    forged = bytearray(*sealed(here, PACKET))
    forged[20] ^= 1
    there.take(bytes(forged))
    assert there.drain(9) == []


# --- Activity ---


def test_activity_tells_data_from_keepalives(joined):
    here, there, peers = joined
    start = here.now
    there.take(keepalive(here, peers.here))
    seen = there.activity(peers.there)
    assert (seen.last_received, seen.rx_bytes) == (start, 32)
    assert seen.last_data_received == seen.first_data_received_unanswered == 0.0

    here.now = there.now = start + 1
    there.take(*sealed(here, PACKET))
    here.now = there.now = start + 2
    there.take(*sealed(here, PACKET))
    seen = there.activity(peers.there)
    assert seen.first_data_received_unanswered == start + 1
    assert seen.last_data_received == start + 2
    sent = here.activity(peers.here)
    assert (sent.first_data_sent_unanswered, sent.last_data_sent) == (start + 1, start + 2)
    assert sent.tx_bytes == seen.rx_bytes == 32 + 2 * 64

    here.now = there.now = start + 3
    here.take(keepalive(there, peers.there))
    assert there.activity(peers.there).first_data_received_unanswered == 0.0
    assert here.activity(peers.here).first_data_sent_unanswered == 0.0
    assert here.activity(peers.here).last_received == start + 3


def test_a_handshake_message_counts_as_heard_and_as_answer(joined):
    here, _there, peers = joined
    sealed(here, PACKET)
    here.heard(peers.here, 92, here.now + 1)
    seen = here.activity(peers.here)
    assert (seen.last_received, seen.rx_bytes) == (here.now + 1, 92)
    assert seen.first_data_sent_unanswered == 0.0


def test_activity_is_a_copy(joined):
    here, _there, peers = joined
    seen = here.activity(peers.here)
    seen.tx_bytes = 12345
    assert here.activity(peers.here).tx_bytes == 0


# --- Trains ---


def test_a_train_is_taken_apart_and_merged(joined):
    here, there, _peers = joined
    large = Segment(payload=bytes(range(250)) * 40, source=bytes((10, 0, 0, 1)))
    here.write(bytes(large), large.vnet(1360))
    data = [data for data, _ in here.sent]
    there.take(b"".join(data), segment=len(data[0]))
    assert len(there.delivered) == 1
    assert there.delivered[0][10 + 40 :] == large.payload


def test_one_bad_datagram_in_a_train_does_not_spoil_the_others(joined):
    here, there, _peers = joined
    packets = [ip_packet(UDP, bytes([n]) * 100) for n in range(5)]
    data = sealed(here, *packets)
    data[2] = bytes(len(data[2]))
    there.take(b"".join(data), segment=len(data[0]))
    assert there.packets() == packets[:2] + packets[3:]
    assert there.counters() == {"unknown_type": 1}


def test_an_empty_datagram_is_counted(joined):
    _here, there, _peers = joined
    there.take(b"")
    assert there.counters() == {"too_short": 1}


def test_without_vnet_headers_nothing_is_merged(engine):
    here, there = engine(), engine(vnet_header=False)
    join(here, there)
    large = Segment(payload=b"m" * 4000)
    here.write(bytes(large), large.vnet(1000))
    data = [data for data, _ in here.sent]
    there.take(b"".join(data), segment=len(data[0]))
    assert there.packets() == [bytes(segment) for segment in large.split(1000)]
