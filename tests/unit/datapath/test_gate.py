"""Gated key pairs, on both data paths: what is held, what becomes of it, and every bound."""

import struct
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.support.memory_path import HERE, START, THERE, MemoryPath, key_pair
from tests.support.native_path import NativeMemoryPath, needs_native
from tests.support.packets import Segment, ip_packet
from wgpy.datapath.contract import (
    Active,
    AllowedIpOperation,
    DataPathError,
    KeyConfirmed,
    Roamed,
    Slot,
)
from wgpy.datapath.endpoint import Route, to_endpoint, to_route
from wgpy.datapath.gate import GATE_BYTES, GATE_PACKETS, GATE_SECONDS, GATE_TOTAL_BYTES
from wgpy.ip import parse_prefix
from wgpy.protocol.constants import MAX_INNER_LENGTH

UDP = 17
PACKET = ip_packet(UDP, b"payload")
AWAY = Route(("198.51.100.7", 7))
FURTHER = Route(("198.51.100.8", 8))


@pytest.fixture(params=["portable", pytest.param("native", marks=needs_native)])
def make(request: pytest.FixtureRequest) -> Callable[..., MemoryPath]:
    return NativeMemoryPath if request.param == "native" else MemoryPath


@pytest.fixture
def path(make):
    made = make(vnet_header=False)
    made.set_up(True)
    return made


class Far:
    """The peer's end of one key pair."""

    def __init__(self, path, peer, seed, slot=Slot.NEXT, *, gated=False, life=180.0):
        self.path, self.index, self.counter = path, path.reserve_index(), 0
        self._key, self._back = bytes([seed]) * 32, bytes([seed + 100]) * 32
        pair = key_pair(self._back, self._key, self.index, 77, created=path.now, life=life)
        path.install(peer, slot, pair, kick=False, gated=gated)
        assert pair.send_key == pair.receive_key == bytes(32)

    def seal(self, packet=b""):
        nonce = struct.pack("<4xQ", self.counter)
        head = struct.pack("<IIQ", 4, self.index, self.counter)
        self.counter += 1
        padded = packet + bytes(-len(packet) % 16)
        return head + ChaCha20Poly1305(self._key).encrypt(nonce, padded, None)

    def say(self, packet=b"", where=AWAY):
        data = self.seal(packet)
        self.path.take(data, where)
        return data

    def opens(self, data):
        """Whether this key pair sealed a message of ours."""
        nonce = bytes(4) + data[8:16]
        try:
            ChaCha20Poly1305(self._back).decrypt(nonce, data[16:], None)
        except Exception:
            return False
        return True


def newcomer(path, *prefixes):
    """A peer that nobody has admitted: no endpoint, a gated key pair alone."""
    peer = path.peer(*prefixes)
    return peer, Far(path, peer, 1, gated=True)


def member(path):
    """A peer in service, with a current key pair."""
    peer = path.peer("10.0.0.1", at=THERE)
    return peer, Far(path, peer, 1, Slot.CURRENT)


def admit(path, peer):
    path.set_allowed_ips([AllowedIpOperation("add", peer, parse_prefix("10.0.0.1"))])
    return path.release(peer)


def endpoint_of(path, peer):
    path.send(b"?", peer=peer)
    return path.sent.pop()[1] if path.sent else None


# --- While it is gated ---


def test_nothing_reaches_the_tun_and_the_first_packet_alone_is_reported(path):
    peer, far = newcomer(path, "10.0.0.1")
    path.rest(peer)
    far.say()
    assert path.drain(9) == [KeyConfirmed(peer, far.index), Active(peer)]
    far.say(PACKET)
    far.say(PACKET)
    assert path.drain(9) == []
    assert path.delivered == []
    assert path.sent == []
    assert path.counters() == {}


def test_the_endpoint_stays_and_nothing_is_sealed_with_it(path):
    peer, old = member(path)
    gated = Far(path, peer, 2, gated=True)
    gated.say(PACKET)
    assert path.drain(9) == [KeyConfirmed(peer, gated.index)]
    assert endpoint_of(path, peer) == to_route(THERE)
    path.write(ip_packet(UDP, b"out", source=bytes((10, 0, 0, 2)), target=bytes((10, 0, 0, 1))))
    data, where = path.sent.pop()
    assert where == to_route(THERE)
    assert old.opens(data)


def test_a_newcomer_without_another_key_cannot_be_spoken_to(path):
    peer, far = newcomer(path)
    far.say(PACKET)
    path.set_endpoint(peer, HERE)
    path.send_keepalive(peer)
    assert path.sent == []


def test_forged_replayed_and_expired_packets_are_not_held(path):
    peer, far = newcomer(path, "10.0.0.1")
    data = far.say(PACKET)
    path.take(data, FURTHER)
    forged = far.seal(PACKET)
    path.take(forged[:-1] + bytes([forged[-1] ^ 1]), FURTHER)
    far.say(bytes(32))
    assert path.counters() == {"replayed": 1, "bad_tag": 1, "bad_inner": 1}
    assert path.release(peer)
    assert path.packets() == [PACKET]
    assert endpoint_of(path, peer) == AWAY


def test_its_packets_count_as_activity(path):
    peer, far = newcomer(path)
    path.now += 3
    first = len(far.say())
    second = len(far.say(PACKET))
    seen = path.activity(peer)
    assert seen.last_received == seen.last_data_received == START + 3
    assert seen.first_data_received_unanswered == START + 3
    assert seen.rx_bytes == first + second


# --- Released ---


def test_release_lets_what_was_held_in_in_order_and_moves_the_endpoint(path):
    peer, far = newcomer(path)
    packets = [ip_packet(UDP, bytes([n])) for n in range(5)]
    for packet in packets[:-1]:
        far.say(packet)
    far.say(packets[-1], FURTHER)
    path.drain(9)
    assert admit(path, peer)
    assert path.packets() == packets
    assert path.drain(9) == [Roamed(peer, to_endpoint(FURTHER))]
    far.say(PACKET)
    assert path.packets() == [PACKET]
    path.send_keepalive(peer)
    data, where = path.sent.pop()
    assert far.opens(data)
    # It roamed once more, as any peer.
    assert where == AWAY


def test_the_event_is_not_lost_when_the_decision_comes_first(path):
    peer, far = newcomer(path)
    far.say()
    assert path.release(peer)
    assert path.drain(9) == [Roamed(peer, to_endpoint(AWAY)), KeyConfirmed(peer, far.index)]


def test_allowed_ips_are_asked_when_it_is_let_in(path):
    peer, far = newcomer(path)
    far.say(PACKET)
    far.say(ip_packet(UDP, b"", source=bytes((10, 9, 9, 9))))
    admit(path, peer)
    assert path.packets() == [PACKET]
    assert path.counters() == {"wrong_source": 1}


def test_released_before_its_first_packet_it_is_an_ordinary_next_pair(path):
    peer, old = member(path)
    far = Far(path, peer, 2, gated=True)
    assert path.release(peer)
    assert path.drain(9) == []
    path.send_keepalive(peer)
    assert old.opens(path.sent.pop()[0])
    far.say(PACKET)
    assert path.drain(9) == [Roamed(peer, to_endpoint(AWAY)), KeyConfirmed(peer, far.index)]
    assert path.packets() == [PACKET]
    path.send_keepalive(peer)
    assert far.opens(path.sent.pop()[0])


def test_a_rekey_through_the_gate_loses_no_packet(path):
    peer, old = member(path)
    new = Far(path, peer, 2, gated=True)
    late = [old.seal(PACKET) for _ in range(3)]
    new.say(PACKET)
    path.take(late[0], AWAY)
    assert path.packets() == [PACKET]
    path.release(peer)
    assert path.packets() == [PACKET]
    path.take(late[1], AWAY)
    new.say(PACKET)
    path.take(late[2], AWAY)
    assert path.packets() == [PACKET] * 3
    assert path.counters() == {}


def test_what_waited_for_a_key_is_sent(path):
    peer = path.peer("10.0.0.1", at=THERE)
    path.write(ip_packet(UDP, b"out", source=bytes((10, 0, 0, 2)), target=bytes((10, 0, 0, 1))))
    far = Far(path, peer, 1, gated=True)
    far.say()
    assert path.sent == []
    path.release(peer)
    data, where = path.sent.pop()
    assert far.opens(data)
    assert where == AWAY
    assert path.activity(peer).staged == 0


def test_held_tcp_is_merged_as_it_would_have_been(make):
    path = make()
    path.set_up(True)
    peer, far = newcomer(path, "10.0.0.1")
    whole = Segment(payload=b"x" * 2736)
    for piece in whole.split(1368):
        far.say(bytes(piece))
    path.release(peer)
    assert len(path.delivered) == 1


def test_an_initiation_of_ours_that_crosses_leaves_both_pairs_in_use(path):
    peer, _old = member(path)
    theirs = Far(path, peer, 2, gated=True)
    theirs.say()
    ours = Far(path, peer, 3, Slot.CURRENT)
    path.release(peer)
    path.send_keepalive(peer)
    assert theirs.opens(path.sent.pop()[0])
    ours.say(PACKET)
    theirs.say(PACKET)
    assert path.packets() == [PACKET] * 2


# --- Refused ---


def test_refuse_leaves_the_older_pairs_and_frees_the_index(path):
    peer, old = member(path)
    far = Far(path, peer, 2, gated=True)
    far.say(PACKET)
    path.refuse(peer)
    assert path.drain(9) == []
    assert not path.release(peer)
    far.say(PACKET)
    assert path.packets() == []
    assert path.counters() == {"gate_dropped": 1, "unknown_index": 1}
    old.say(PACKET)
    assert path.packets() == [PACKET]
    path.refuse(peer)


def test_a_second_gated_pair_replaces_the_first(path):
    peer, first = newcomer(path, "10.0.0.1")
    first.say(PACKET)
    second = Far(path, peer, 2, gated=True)
    assert path.drain(9) == []
    second.say(PACKET)
    assert path.drain(9) == [KeyConfirmed(peer, second.index)]
    first.say(PACKET)
    path.release(peer)
    assert path.packets() == [PACKET]
    assert path.counters() == {"gate_dropped": 1, "unknown_index": 1}


@pytest.mark.parametrize("how", ["drop_keys", "remove_peer"])
def test_dropped_keys_and_peers_leave_nothing_held(path, how):
    peer, far = newcomer(path, "10.0.0.1")
    far.say(PACKET)
    getattr(path, how)(peer)
    far.say(PACKET)
    assert path.counters() == {"gate_dropped": 1, "unknown_index": 1}
    path.now += GATE_SECONDS
    assert path.drain(9) == []
    assert "gate_expired" not in path.counters()


def test_a_link_that_goes_down_drops_what_is_held_and_keeps_the_pair(path):
    peer, far = newcomer(path, "10.0.0.1")
    far.say(PACKET)
    path.set_up(False)
    assert path.counters() == {"gate_dropped": 1}
    path.set_up(True)
    assert path.release(peer)
    assert path.packets() == []
    far.say(PACKET)
    assert path.packets() == [PACKET]


def test_only_the_next_pair_can_be_gated(path):
    pair = key_pair(bytes(32), b"k" * 32, path.reserve_index(), 77)
    with pytest.raises(DataPathError, match="responder"):
        path.install(path.peer(), Slot.CURRENT, pair, kick=False, gated=True)
    assert pair.receive_key == bytes(32)


# --- Bounds ---


def test_so_many_packets_are_held(path):
    peer, far = newcomer(path, "10.0.0.1")
    packets = [ip_packet(UDP, bytes([n])) for n in range(GATE_PACKETS + 2)]
    for packet in packets:
        far.say(packet)
    path.release(peer)
    assert path.packets() == packets[:GATE_PACKETS]
    assert path.counters() == {"gate_full": 2}


def test_so_many_bytes_are_held_of_one_peer(path):
    peer, far = newcomer(path, "10.0.0.1")
    large = ip_packet(UDP, bytes(MAX_INNER_LENGTH - 100))
    assert GATE_BYTES / 2 < len(large) < GATE_BYTES - len(PACKET)
    for packet in (large, large, PACKET):
        far.say(packet)
    path.release(peer)
    assert path.packets() == [large, PACKET]
    assert path.counters() == {"gate_full": 1}


def test_so_many_bytes_are_held_of_all_peers_and_given_back(path):
    large = ip_packet(UDP, bytes(60_000))
    fits = GATE_TOTAL_BYTES // len(large)
    crowd = [
        (peer, Far(path, peer, 1, gated=True)) for peer in (path.peer() for _ in range(fits + 2))
    ]
    for _peer, far in crowd:
        far.say(large)
    assert path.counters() == {"gate_memory": 2}
    path.refuse(crowd[0][0])
    crowd[-1][1].say(large)
    assert path.counters() == {"gate_memory": 2, "gate_dropped": 1}
    for peer, _far in crowd:
        path.release(peer)
    (newest, far) = newcomer(path, "10.0.0.1")
    far.say(large)
    path.release(newest)
    assert path.packets() == [large]


@pytest.mark.parametrize("activity", ["datagram", "drain", "release"])
def test_an_undecided_pair_is_refused_in_time(path, activity):
    peer, far = newcomer(path, "10.0.0.1")
    # The time begins with its first packet.
    path.now += 60
    far.say(PACKET)
    path.drain(9)
    path.now += GATE_SECONDS - 0.1
    far.say(PACKET)
    assert path.counters() == {}
    path.now += 0.1
    if activity == "datagram":
        path.take(b"anything")
    elif activity == "drain":
        assert path.drain(9) == []
    else:
        assert not path.release(peer)
    counters = path.counters()
    assert (counters["gate_expired"], counters["gate_dropped"]) == (1, 2)
    assert not path.release(peer)
    far.say(PACKET)
    assert path.counters()["unknown_index"] == 1
    assert path.packets() == []


def test_a_newer_gate_has_its_own_time(path):
    peer, first = newcomer(path, "10.0.0.1")
    first.say(PACKET)
    path.now += GATE_SECONDS - 1
    second = Far(path, peer, 2, gated=True)
    second.say(PACKET)
    path.now += 1.5
    path.drain(9)
    assert path.release(peer)
    assert path.packets() == [PACKET]


def test_an_expired_key_pair_opens_nothing(path):
    peer = path.peer("10.0.0.1")
    far = Far(path, peer, 1, gated=True, life=10.0)
    path.now += 10
    far.say(PACKET)
    assert path.drain(9) == []
    assert path.counters() == {"expired_key": 1}
