"""BLAKE2s, HMAC and HKDF against published vectors and the standard library."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.vectors import load, raw
from wgpy.protocol import hashes

KDF = load("kdf")
BYTES32 = st.binary(min_size=32, max_size=32)


def test_blake2s_vector():
    vector = KDF["blake2s"]
    assert hashes.hash_(raw(vector["data"])).hex() == vector["digest"]


@pytest.mark.parametrize("vector", KDF["hkdf"])
def test_hkdf_vectors(vector):
    # HMAC fills shorter keys with zeros, so these keys may be written as 32 bytes.
    key, data = raw(vector["key"]).ljust(32, b"\0"), raw(vector["data"])
    assert [output.hex() for output in hashes.hkdf(key, data, 3)] == vector["outputs"]
    assert [output.hex() for output in hashes.hkdf(key, data, 2)] == vector["outputs"][:2]


@given(BYTES32, st.binary(max_size=200))
def test_hmac_is_the_standard_librarys(key, data):
    assert hashes.hmac_blake2s(key, data) == hmac.new(key, data, hashlib.blake2s).digest()


@pytest.mark.parametrize("length", [0, 31, 33, 64, 65])
def test_hmac_refuses_other_key_lengths(length):
    with pytest.raises(ValueError, match="32 bytes"):
        hashes.hmac_blake2s(bytes(length), b"")


def test_mac_is_keyed_blake2s_of_16_bytes():
    expected = hashlib.blake2s(b"data", key=b"k" * 32, digest_size=16).digest()
    assert hashes.mac(b"k" * 32, b"data") == expected
    assert hashes.mac(b"k" * 16, b"data") != expected
