"""XChaCha20-Poly1305 against the draft's vectors."""

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from tests.support.vectors import load, raw
from wgpy.protocol import xchacha

VECTORS = load("xchacha20poly1305")


def test_hchacha20_vector():
    vector = VECTORS["hchacha20"]
    assert xchacha.hchacha20(raw(vector["key"]), raw(vector["nonce"])).hex() == vector["subkey"]


def test_aead_vector():
    vector = VECTORS["aead"]
    key, nonce, associated = (raw(vector[name]) for name in ("key", "nonce", "associated"))
    sealed = xchacha.seal(key, nonce, raw(vector["plaintext"]), associated)
    assert sealed.hex() == vector["ciphertext"] + vector["tag"]
    assert xchacha.unseal(key, nonce, sealed, associated).hex() == vector["plaintext"]


def test_nonce_length_is_exact():
    for length in (12, 23, 25):
        with pytest.raises(ValueError, match="24 bytes"):
            xchacha.seal(bytes(32), bytes(length), b"", b"")


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=24, max_size=24),
    st.binary(max_size=64),
    st.binary(max_size=32),
    st.data(),
)
def test_one_changed_bit_is_refused(key, nonce, plaintext, associated, data):
    sealed = bytearray(xchacha.seal(key, nonce, plaintext, associated))
    assert xchacha.unseal(key, nonce, bytes(sealed), associated) == plaintext
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidTag):
        xchacha.unseal(key, nonce, bytes(sealed), associated)
