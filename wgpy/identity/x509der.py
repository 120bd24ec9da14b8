"""X.509 as it comes from outside: DER or PEM in, one exception for everything that is wrong."""

import datetime
import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from wgpy.identity.claims import CredentialError
from wgpy.identity.profile import RIGHTS, Rights, decode_rights
from wgpy.keys import StrPath

# A certificate of ours is half a kilobyte, a file of a public CA two; a CRL with 100,000 entries
# is four megabytes.
MAX_CERTIFICATE_FILE: Final = 65_536
MAX_CRL_FILE: Final = 16 * 2**20
# Above this there is nothing that a CA in the place of a trust anchor would need to say.
MAX_CERTIFICATE: Final = 8_192
# Bytes (RFC 5280 section 4.1.2.2), of which the first bit is the sign.
MAX_SERIAL: Final = 20

# What the library raises while it looks into a certificate that others wrote.
FAILURES: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

Kind = TypeVar("Kind", bound=x509.ExtensionType)


@contextmanager
def parsing(what: str = "certificate") -> Iterator[None]:
    """Turn whatever the library raises into CredentialError with the reason "malformed"."""
    with warnings.catch_warnings():
        # The library warns of what it will refuse some day. To us that is malformed already.
        warnings.simplefilter("error")
        try:
            yield
        except (*FAILURES, Warning):
            raise CredentialError("malformed", f"the {what} cannot be read") from None


def load(der: bytes) -> x509.Certificate:
    """One certificate of version 3, and nothing behind it. Raises CredentialError."""
    if len(der) > MAX_CERTIFICATE:
        raise CredentialError("malformed", f"the certificate is over {MAX_CERTIFICATE} bytes")
    with parsing():
        certificate = x509.load_der_x509_certificate(der)
        if certificate.version is not x509.Version.v3:
            raise CredentialError("malformed", "the certificate is not of version 3")
        # The library reads each of these when it is asked for. Now is when to find out.
        _ = (
            certificate.issuer,
            certificate.subject,
            certificate.public_key(),
            certificate.extensions,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            certificate.signature_algorithm_oid,
        )
        if not 0 < certificate.serial_number < 1 << (8 * MAX_SERIAL - 1):
            raise CredentialError("serial", "its serial number is not of 1 to 20 bytes")
    return certificate


def certificates_in(data: bytes) -> list[bytes]:
    """The DER of every certificate in a PEM text, or of the one DER. Raises CredentialError."""
    with parsing():
        if data[:1] == b"\x30":
            return [data]
        return [
            x.public_bytes(serialization.Encoding.DER)
            for x in x509.load_pem_x509_certificates(data)
        ]


def read_file(path: StrPath, limit: int = MAX_CERTIFICATE_FILE) -> bytes:
    """A whole file of bounded length. Raises OSError, and CredentialError when it is longer."""
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise CredentialError("malformed", f"it is over {limit} bytes")
    return data


def extension(certificate: x509.Certificate, kind: type[Kind]) -> x509.Extension[Kind] | None:
    """An extension of this kind, or None where there is none."""
    # By identifier: to ask each extension for its class costs several times as much.
    for found in certificate.extensions:
        if found.oid == kind.oid:
            return cast("x509.Extension[Kind]", found)
    return None


def rights(certificate: x509.Certificate) -> Rights | None:
    """What our extension says; None where it is absent. Raises CredentialError."""
    try:
        found = certificate.extensions.get_extension_for_oid(RIGHTS)
    except x509.ExtensionNotFound:
        return None
    if found.critical:
        raise CredentialError("critical", "our extension is critical, which it must not be")
    assert isinstance(found.value, x509.UnrecognizedExtension)
    return decode_rights(found.value.value)


def check_critical(
    certificate: x509.Certificate, known: tuple[type[x509.ExtensionType], ...]
) -> None:
    """Refuse a critical extension that is none of `known`. Raises CredentialError: "critical"."""
    for found in certificate.extensions:
        if found.critical and all(found.oid != kind.oid for kind in known):
            raise CredentialError(
                "critical", f"its critical extension {found.oid.dotted_string} is unknown to us"
            )


def spki_hash(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo of the key inside, in its usual encoding: 32 bytes."""
    with parsing():
        return hash_of_key(certificate.public_key())


def hash_of_key(key: CertificatePublicKeyTypes) -> bytes:
    """The same of a key object. By this issuers are told apart, for their names may collide."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).digest()


def time_text(seconds: float) -> str:
    """A time in UTC as a person reads it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
