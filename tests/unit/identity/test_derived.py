"""Where a key lives before it has a name."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from wgpy.identity.checks import is_host
from wgpy.identity.derived import quarantine_address, quarantine_range
from wgpy.identity.profile import within
from wgpy.ip import parse_prefix
from wgpy.keys import PublicKey

NETWORK, KEY = bytes(range(16)), PublicKey(bytes(range(32)))
networks = st.binary(min_size=16, max_size=16)
keys = st.binary(min_size=32, max_size=32).map(PublicKey)


def test_by_the_words_of_the_document() -> None:
    head = b"\xfd" + hashlib.sha256(b"wgpy quarantine network" + NETWORK).digest()[:5]
    tail = hashlib.sha256(b"wgpy quarantine address" + NETWORK + bytes(KEY)).digest()[:10]
    assert quarantine_range(NETWORK).address == head + bytes(10)
    assert quarantine_address(NETWORK, KEY).address == head + tail


def test_it_never_changes() -> None:
    """Both ends compute it, of whatever version they are."""
    assert str(quarantine_range(NETWORK)) == "fd04:58b2:fbfe::/48"
    assert str(quarantine_address(NETWORK, KEY)) == "fd04:58b2:fbfe:753e:3828:e0d3:2a83:5a0c/128"


@given(networks, keys)
def test_it_is_one_address_of_the_range(network: bytes, key: PublicKey) -> None:
    address, around = quarantine_address(network, key), quarantine_range(network)
    assert is_host(address)
    assert around.length == 48
    assert within(address, [around])
    assert within(around, [parse_prefix("fd00::/8")])


@given(networks, keys, keys)
def test_each_key_has_its_own(network: bytes, one: PublicKey, other: PublicKey) -> None:
    same = quarantine_address(network, one) == quarantine_address(network, other)
    assert same == (one == other)
