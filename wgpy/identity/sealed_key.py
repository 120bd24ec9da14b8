"""A private key encrypted with a passphrase: PKCS #8 (RFC 5958) with PBES2 (RFC 8018), in DER.

The library writes the same, with OpenSSL's 2,048 rounds of PBKDF2, which a guesser laughs at. Every
program that reads one reads the other.
"""

import os
from typing import Final

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.x509 import ObjectIdentifier

# PBKDF2 with HMAC-SHA-256: what OWASP's password storage cheat sheet asks for; a quarter of a
# second here, and as much for each guess of somebody with the file.
ROUNDS: Final = 600_000
_SALT_LENGTH: Final = 16
_KEY_LENGTH: Final = 32  # AES-256
_BLOCK_LENGTH: Final = 16

_PBES2: Final = ObjectIdentifier("1.2.840.113549.1.5.13")
_PBKDF2: Final = ObjectIdentifier("1.2.840.113549.1.5.12")
_HMAC_SHA256: Final = ObjectIdentifier("1.2.840.113549.2.9")
_AES256_CBC: Final = ObjectIdentifier("2.16.840.1.101.3.4.1.42")


@asn1.sequence
class _Prf:
    algorithm: ObjectIdentifier
    parameters: asn1.Null


@asn1.sequence
class _Pbkdf2:
    salt: bytes
    rounds: int
    prf: _Prf


@asn1.sequence
class _Derivation:
    algorithm: ObjectIdentifier
    parameters: _Pbkdf2


@asn1.sequence
class _Encryption:
    algorithm: ObjectIdentifier
    iv: bytes


@asn1.sequence
class _Pbes2:
    derivation: _Derivation
    encryption: _Encryption


@asn1.sequence
class _Algorithm:
    algorithm: ObjectIdentifier
    parameters: _Pbes2


@asn1.sequence
class _EncryptedPrivateKeyInfo:
    algorithm: _Algorithm
    data: bytes


def seal(key: ec.EllipticCurvePrivateKey, passphrase: bytes, rounds: int = ROUNDS) -> bytes:
    """The key's EncryptedPrivateKeyInfo in DER."""
    plain = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    salt, iv = os.urandom(_SALT_LENGTH), os.urandom(_BLOCK_LENGTH)
    derived = PBKDF2HMAC(hashes.SHA256(), _KEY_LENGTH, salt, rounds).derive(passphrase)
    padder = padding.PKCS7(8 * _BLOCK_LENGTH).padder()
    encryptor = Cipher(algorithms.AES(derived), modes.CBC(iv)).encryptor()
    data = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    prf = _Prf(algorithm=_HMAC_SHA256, parameters=asn1.Null())
    kdf = _Derivation(algorithm=_PBKDF2, parameters=_Pbkdf2(salt=salt, rounds=rounds, prf=prf))
    cipher = _Encryption(algorithm=_AES256_CBC, iv=iv)
    algorithm = _Algorithm(algorithm=_PBES2, parameters=_Pbes2(derivation=kdf, encryption=cipher))
    return asn1.encode_der(_EncryptedPrivateKeyInfo(algorithm=algorithm, data=data))
