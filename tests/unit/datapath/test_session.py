"""A session takes over its keys; the keys' traces in Python are wiped."""

import pytest

from tests.support.memory_path import THERE, MemoryPath, key_pair
from wgpy.datapath.contract import NewKeyPair, Slot
from wgpy.datapath.session import Session, padding


def test_the_keys_are_wiped_once_taken_over():
    pair = key_pair(b"s" * 32, b"r" * 32, 1, 2)
    Session(pair)
    assert pair.send_key == pair.receive_key == bytes(32)


def test_installing_wipes_them_too():
    path = MemoryPath()
    pair = key_pair(b"s" * 32, b"r" * 32, path.reserve_index(), 2)
    path.install(path.peer(at=THERE), Slot.NEXT, pair, kick=False)
    assert pair.send_key == pair.receive_key == bytes(32)


def test_nothing_shows_a_key():
    pair: NewKeyPair = key_pair(b"s" * 32, b"r" * 32, 1, 2)
    for thing in (pair, Session(key_pair(b"s" * 32, b"r" * 32, 1, 2))):
        assert "ssss" not in repr(thing)
        assert "rrrr" not in repr(thing)


@pytest.mark.parametrize("mtu", [1, 15, 16, 17, 576, 1280, 1420, 65_475])
def test_padding_is_that_of_the_naive_rule(mtu):
    for length in range(min(mtu, 2000) + 1):
        padded = length
        while padded % 16 and padded < mtu:
            padded += 1
        assert padding(length, mtu) == padded - length


@pytest.mark.parametrize("mtu", [1, 16, 576, 1420])
def test_padding_over_the_mtu_is_never_negative_nor_more_than_15(mtu):
    assert all(0 <= padding(length, mtu) <= 15 for length in range(mtu, mtu + 3000))
