"""What may reach Python, and the bound of the queue before it."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory_path import MemoryPath
from wgpy.datapath.contract import Datagram, Endpoint, FilterRule
from wgpy.protocol.constants import CONTROL_QUEUE_LENGTH

KEY = bytes(range(32))
RULES = (
    FilterRule(1, 148, mac1_offset=116),
    FilterRule(2, 92, mac1_offset=60, index_offset=8),
    FilterRule(3, 64, index_offset=4),
    FilterRule(0x20, 40, exact=False),
)


def with_mac1(body, key=KEY):
    return body + hashlib.blake2s(body, key=key, digest_size=16).digest() + bytes(16)


def initiation(fill=b"i"):
    return with_mac1(b"\1\0\0\0" + fill * 112)


def response(index):
    return with_mac1(b"\2\0\0\0" + b"r" * 4 + index.to_bytes(4, "little") + b"r" * 48)


def cookie(index):
    return b"\3\0\0\0" + index.to_bytes(4, "little") + b"c" * 56


@pytest.fixture
def path():
    made = MemoryPath()
    made.set_filter(RULES, KEY)
    return made


def test_what_fits_its_rule_goes_up_with_place_and_time(path):
    index = path.reserve_index()
    data = [initiation(), response(index), cookie(index), b"\x20\0\0\0" + bytes(36)]
    for datagram in data:
        path.take(datagram)
    assert path.queue_depth() == 4
    assert path.drain(9) == [
        Datagram(datagram, Endpoint("192.0.2.9", 9999), path.now) for datagram in data
    ]
    assert path.counters() == {}


def spoiled(data, at):
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too_short"),
        (b"\1\0\0", "too_short"),
        (b"\0\0\0\0" * 37, "unknown_type"),
        (b"\5\0\0\0" * 37, "unknown_type"),
        (b"\1\0\0\1" + initiation()[4:], "unknown_type"),
        (initiation()[:-1], "wrong_length"),
        (initiation() + b"x", "wrong_length"),
        (initiation() + bytes(65_000), "wrong_length"),
        (response(1)[:-1], "wrong_length"),
        (cookie(1) + b"x", "wrong_length"),
        (b"\x20\0\0\0" + bytes(35), "wrong_length"),
        (spoiled(initiation(), 8), "bad_mac1"),
        (spoiled(initiation(), 116), "bad_mac1"),
        (spoiled(initiation(), 131), "bad_mac1"),
        (with_mac1(b"\1\0\0\0" + b"i" * 112, bytes(32)), "bad_mac1"),
        (response(0x12345678), "unknown_index"),
        (cookie(0x12345678), "unknown_index"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_junk_takes_no_place_in_the_queue(path, data, reason):
    path.take(data)
    assert path.counters() == {reason: 1}
    assert path.queue_depth() == 0
    assert path.drain(9) == []


def test_the_second_mac_is_not_the_filters_business(path):
    path.take(spoiled(initiation(), 140))
    assert path.queue_depth() == 1


def test_without_a_key_nothing_goes_up(path):
    path.set_filter((), bytes(32))
    path.take(initiation())
    assert path.counters() == {"unknown_type": 1}


def test_the_queue_is_bounded_and_drained_in_order(path):
    for number in range(CONTROL_QUEUE_LENGTH + 3):
        path.take(initiation() if number else initiation(b"f"))
    assert path.queue_depth() == CONTROL_QUEUE_LENGTH
    assert path.counters() == {"control_queue_full": 3}
    first = path.drain(10)
    assert len(first) == 10
    assert first[0].data == initiation(b"f")
    rings = path.rings
    assert path.queue_depth() == CONTROL_QUEUE_LENGTH - 10
    path.drain(10)
    assert path.rings == rings + 1, "what is left is announced again"
    while path.queue_depth():
        path.drain(1000)
    assert path.drain(10) == []


def test_an_index_serves_until_it_is_freed(path):
    index = path.reserve_index()
    assert path.reserve_index() != index
    path.take(cookie(index))
    path.free_index(index)
    path.free_index(index)
    path.take(cookie(index))
    assert path.queue_depth() == 1
    assert path.counters() == {"unknown_index": 1}


def test_an_index_never_reads_as_stun():
    """RFC 8489: the magic cookie stands where a receiver's index does."""

    class Fixed(MemoryPath):
        def _draw(self, length):
            drawn = [0x42A41221, 77, 77, 78]
            self._drawn += 1
            return drawn[self._drawn - 1].to_bytes(length, "little")

    path = Fixed()
    assert [path.reserve_index(), path.reserve_index()] == [77, 78]


@given(st.binary(max_size=200), st.integers(0, 21))
@settings(max_examples=400, deadline=None)
def test_random_datagrams_never_raise_and_never_pass(data, kind):
    path = MemoryPath()
    path.set_filter(RULES[:3], KEY)
    for datagram in (data, bytes([kind, 0, 0, 0]) + data):
        path.take(datagram)
    assert sum(path.counters().values()) == 2
    assert path.drain(9) == []
    assert path.delivered == []
