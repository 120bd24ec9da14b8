"""XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): cookies, path probes and signals.

HChaCha20 is the ChaCha20 block function without its last step, the addition of the input; what
went in is known for 8 of the 16 words, so they are subtracted from a block of keystream.
"""

import struct
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

NONCE_LENGTH: Final = 24

_FOUR_WORDS = struct.Struct("<4I")
_CONSTANTS: Final = _FOUR_WORDS.unpack(b"expand 32-byte k")


def _subtract(block: bytes, words: tuple[int, ...]) -> bytes:
    pairs = zip(_FOUR_WORDS.unpack(block), words, strict=True)
    return _FOUR_WORDS.pack(*((out - given) & 0xFFFFFFFF for out, given in pairs))


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The 32-byte subkey for a 32-byte key and a 16-byte nonce (draft section 2.2)."""
    block = Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64))
    head = _subtract(block[:16], _CONSTANTS)
    return head + _subtract(block[48:], _FOUR_WORDS.unpack(nonce))


def _prepare(key: bytes, nonce: bytes) -> tuple[ChaCha20Poly1305, bytes]:
    if len(nonce) != NONCE_LENGTH:
        raise ValueError(f"an XChaCha20 nonce is {NONCE_LENGTH} bytes; this has {len(nonce)}")
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])), bytes(4) + nonce[16:]


def seal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Ciphertext and 16-byte tag, under a 32-byte key and a 24-byte nonce."""
    cipher, short_nonce = _prepare(key, nonce)
    return cipher.encrypt(short_nonce, plaintext, associated)


def unseal(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """The plaintext of what `seal` made. Raises cryptography's InvalidTag."""
    cipher, short_nonce = _prepare(key, nonce)
    return cipher.decrypt(short_nonce, ciphertext, associated)
