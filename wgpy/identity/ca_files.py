"""The files in a CA's directory: their names, and how they are read and written."""

import base64
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from wgpy.identity.anchors import CertificateAuthority, read_authority
from wgpy.identity.building import SigningKey
from wgpy.identity.claims import CredentialError
from wgpy.identity.sealed_key import seal
from wgpy.identity.x509der import certificates_in, read_file
from wgpy.keys import write_secret

KEY: Final = "ca.key"
CERTIFICATE: Final = "ca.pem"
REQUEST: Final = "ca.csr"
PARENT: Final = "parent.pem"
CRL: Final = "crl.pem"
LEDGER: Final = "ledger"

# Below this a passphrase is found by trying, whatever guards the key.
MIN_PASSPHRASE: Final = 8
# OpenSSL reads no longer one from a terminal.
MAX_PASSPHRASE: Final = 1_024


class CaError(Exception):
    """A CA cannot do what was asked; says in one line why, and what to do."""


@contextlib.contextmanager
def new_directory(directory: Path) -> Iterator[None]:
    """Make a directory that only its owner reads, or take one in which no CA is.

    What the block has written is removed where it fails, with the directory if that was new.
    """
    made = not directory.exists()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (KEY, CERTIFICATE, REQUEST, LEDGER):
        if (directory / name).exists():
            raise CaError(
                f"{directory} has a CA already: there is {name}; choose another directory, or "
                "remove what is left of one that was never finished"
            )
    try:
        yield
    except BaseException:
        for name in (KEY, CERTIFICATE, REQUEST, PARENT, LEDGER):
            (directory / name).unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):  # somebody else has put something there
                directory.rmdir()
        raise


def write_key(directory: Path, key: ec.EllipticCurvePrivateKey, passphrase: bytes) -> None:
    """Write a CA's key, encrypted. Raises CaError for a passphrase that protects nothing."""
    if not MIN_PASSPHRASE <= len(passphrase) <= MAX_PASSPHRASE:
        raise CaError(f"a passphrase has {MIN_PASSPHRASE} to {MAX_PASSPHRASE:,} bytes")
    write_secret(directory / KEY, pem(seal(key, passphrase), "ENCRYPTED PRIVATE KEY"))


def read_key(directory: Path, passphrase: bytes) -> SigningKey:
    """A CA's key, as we or openssl wrote it. Raises CaError."""
    path = directory / KEY
    try:
        text = read_file(path)
    except CredentialError as error:
        raise CaError(f"{path}: {error}") from None
    if b"ENCRYPTED" not in text:
        raise CaError(
            f"{path}: the key is not encrypted; `openssl pkcs8 -topk8 -in FILE` encrypts it"
        )
    try:
        key = serialization.load_pem_private_key(text, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CaError(f"{path}: the passphrase is wrong, or it is no key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CaError(f"{path}: the key of a CA is ECDSA (P-256, P-384) or RSA")
    return key


def read_certificate(path: Path) -> CertificateAuthority:
    """The one CA certificate in a file. Raises CaError."""
    try:
        ders = certificates_in(read_file(path))
        if len(ders) != 1:
            raise CaError(f"{path}: it must hold one certificate")
        return read_authority(ders[0])
    except FileNotFoundError:
        raise CaError(f"{path}: there is none; `wgpy ca init` makes a CA") from None
    except CredentialError as error:
        raise CaError(f"{path}: {error}") from None


def pem(der: bytes, label: str) -> bytes:
    """DER as PEM (RFC 7468)."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def write_public(path: Path, der: bytes, label: str) -> None:
    """Put PEM into a file whole or not at all, readable by everybody."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(pem(der, label))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # it has its final name already
            os.unlink(temporary)
        raise
