"""The hash functions of WireGuard (whitepaper 5.4): BLAKE2s, plain, keyed, as HMAC and as HKDF.

HMAC is that of RFC 2104, HKDF that of the Noise specification, section 4.3. Keys of both are
exactly 32 bytes here.
"""

import hashlib
from typing import Final

from wgpy.protocol.constants import MAC_LENGTH

HASH_LENGTH: Final = 32
BLOCK_LENGTH: Final = 64


def hash_(data: bytes) -> bytes:
    """BLAKE2s, 32 bytes: HASH() of the whitepaper."""
    return hashlib.blake2s(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s of 16 bytes: MAC() of the whitepaper, which is not an HMAC."""
    return hashlib.blake2s(data, digest_size=MAC_LENGTH, key=key).digest()


def keyed_hash(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s of 32 bytes, which is not an HMAC: a key from a key (docs/protocol.md)."""
    return hashlib.blake2s(data, digest_size=HASH_LENGTH, key=key).digest()


# The two pads of HMAC, applied to a key of 32 bytes by table and to the rest of a block as it is.
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_INNER_REST: Final = b"\x36" * (BLOCK_LENGTH - HASH_LENGTH)
_OUTER_REST: Final = b"\x5c" * (BLOCK_LENGTH - HASH_LENGTH)


def hmac_blake2s(key: bytes, data: bytes) -> bytes:
    """HMAC-BLAKE2s under a key of 32 bytes, 32 bytes. Raises ValueError for another length.

    Written out because `hmac.digest` takes several times as long for inputs of this size.
    """
    if len(key) != HASH_LENGTH:
        raise ValueError(f"this HMAC takes keys of {HASH_LENGTH} bytes; this has {len(key)}")
    blake2s = hashlib.blake2s
    inner = blake2s(key.translate(_INNER) + _INNER_REST + data).digest()
    return blake2s(key.translate(_OUTER) + _OUTER_REST + inner).digest()


def hkdf(chaining_key: bytes, material: bytes, outputs: int) -> tuple[bytes, ...]:
    """Two or three keys of 32 bytes from a chaining key of 32 and any material."""
    key = hmac_blake2s(chaining_key, material)
    # One key serves two or three HMACs: both of its states are made once and copied.
    inner = hashlib.blake2s(key.translate(_INNER) + _INNER_REST)
    outer = hashlib.blake2s(key.translate(_OUTER) + _OUTER_REST)
    inside, outside = inner.copy(), outer.copy()
    inside.update(b"\x01")
    outside.update(inside.digest())
    first = outside.digest()
    inside, outside = inner.copy(), outer.copy()
    inside.update(first + b"\x02")
    outside.update(inside.digest())
    second = outside.digest()
    if outputs == 2:
        return first, second
    inner.update(second + b"\x03")
    outer.update(inner.digest())
    return first, second, outer.digest()
