"""The WireGuard handshake a second time, straight from the whitepaper, to hold wgpy's against.

Section 5.4 line by line: no Noise library, no caching, no splitting, nothing of wgpy but the
standard names of things. It is slow and it is not for use; its worth is that it was written from
the text alone.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"


def hash_(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, key=key, digest_size=16).digest()


def hmac_(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.blake2s).digest()


def kdf(n: int, key: bytes, data: bytes) -> list[bytes]:
    tau0 = hmac_(key, data)
    taus = [hmac_(tau0, b"\x01")]
    for i in range(2, n + 1):
        taus.append(hmac_(tau0, taus[-1] + bytes([i])))
    return taus


def dh(private: bytes, public: bytes) -> bytes:
    key = X25519PrivateKey.from_private_bytes(private)
    return key.exchange(X25519PublicKey.from_public_bytes(public))


def dh_public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def aead(key: bytes, counter: int, plaintext: bytes, data: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(struct.pack("<IQ", 0, counter), plaintext, data)


def aead_open(key: bytes, counter: int, ciphertext: bytes, data: bytes) -> bytes:
    return ChaCha20Poly1305(key).decrypt(struct.pack("<IQ", 0, counter), ciphertext, data)


def macs(message: bytes, receiver_public: bytes) -> bytes:
    """The message with mac1, and mac2 of zeros (5.4.4, no cookie)."""
    return message + mac(hash_(b"mac1----" + receiver_public), message) + bytes(16)


@dataclass
class State:
    """C and H, what the initiation leaves for the response."""

    chain: bytes
    hash: bytes


def make_initiation(
    static: bytes, peer_public: bytes, ephemeral: bytes, sender: int, timestamp: bytes
) -> tuple[bytes, State]:
    """5.4.2, as initiator: the 148 bytes without a cookie."""
    c = hash_(CONSTRUCTION)
    h = hash_(c + IDENTIFIER)
    h = hash_(h + peer_public)
    e_public = dh_public(ephemeral)
    (c,) = kdf(1, c, e_public)
    h = hash_(h + e_public)
    c, k = kdf(2, c, dh(ephemeral, peer_public))
    sealed_static = aead(k, 0, dh_public(static), h)
    h = hash_(h + sealed_static)
    c, k = kdf(2, c, dh(static, peer_public))
    sealed_timestamp = aead(k, 0, timestamp, h)
    h = hash_(h + sealed_timestamp)
    message = struct.pack("<B3xI", 1, sender) + e_public + sealed_static + sealed_timestamp
    return macs(message, peer_public), State(c, h)


def read_initiation(static: bytes, message: bytes) -> tuple[bytes, bytes, State]:
    """5.4.2, as responder: the initiator's static key and its timestamp."""
    c = hash_(CONSTRUCTION)
    h = hash_(c + IDENTIFIER)
    h = hash_(h + dh_public(static))
    e_public, sealed_static, sealed_timestamp = message[8:40], message[40:88], message[88:116]
    (c,) = kdf(1, c, e_public)
    h = hash_(h + e_public)
    c, k = kdf(2, c, dh(static, e_public))
    peer_public = aead_open(k, 0, sealed_static, h)
    h = hash_(h + sealed_static)
    c, k = kdf(2, c, dh(static, peer_public))
    timestamp = aead_open(k, 0, sealed_timestamp, h)
    h = hash_(h + sealed_timestamp)
    return peer_public, timestamp, State(c, h)


def make_response(
    state: State,
    initiation: bytes,
    peer_public: bytes,
    ephemeral: bytes,
    sender: int,
    psk: bytes = bytes(32),
) -> tuple[bytes, bytes, bytes]:
    """5.4.3 and 5.4.5, as responder: the 92 bytes, the key for sending, the one for receiving."""
    c, h = state.chain, state.hash
    e_public = dh_public(ephemeral)
    (c,) = kdf(1, c, e_public)
    h = hash_(h + e_public)
    (c,) = kdf(1, c, dh(ephemeral, initiation[8:40]))
    (c,) = kdf(1, c, dh(ephemeral, peer_public))
    c, tau, k = kdf(3, c, psk)
    h = hash_(h + tau)
    sealed_empty = aead(k, 0, b"", h)
    message = struct.pack("<B3xI", 2, sender) + initiation[4:8] + e_public + sealed_empty
    receive, send = kdf(2, c, b"")
    return macs(message, peer_public), send, receive


def read_response(
    state: State, static: bytes, ephemeral: bytes, message: bytes, psk: bytes = bytes(32)
) -> tuple[bytes, bytes]:
    """5.4.3 and 5.4.5, as initiator: the key to send with and the key to receive with."""
    c, h = state.chain, state.hash
    e_public, sealed_empty = message[12:44], message[44:60]
    (c,) = kdf(1, c, e_public)
    h = hash_(h + e_public)
    (c,) = kdf(1, c, dh(ephemeral, e_public))
    (c,) = kdf(1, c, dh(static, e_public))
    c, tau, k = kdf(3, c, psk)
    h = hash_(h + tau)
    aead_open(k, 0, sealed_empty, h)
    send, receive = kdf(2, c, b"")
    return send, receive
