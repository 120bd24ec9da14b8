"""Certificates, requests and CRLs as our issuer writes them. Pure but for the signature."""

import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wgpy.identity import constraints
from wgpy.identity.crl import encode_denials
from wgpy.identity.denylist import Denied
from wgpy.identity.profile import DENIALS, PEER_PURPOSE, RIGHTS, Rights, encode_rights
from wgpy.identity.settings import Limits
from wgpy.identity.x509der import hash_of_key
from wgpy.ip import Prefix
from wgpy.keys import PublicKey

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_USAGE: Final = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


@dataclass(frozen=True, slots=True)
class Validity:
    """Seconds of the wall clock since 1970; X.509 keeps whole seconds, and so do we."""

    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: a CA's name and key, and what its key is called."""

    name: x509.Name
    key: SigningKey
    key_id: x509.SubjectKeyIdentifier


def common_name(text: str) -> x509.Name:
    """A name that is a common name alone. Raises ValueError if it is empty or over 64 long."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def key_id(key: SigningKey) -> x509.SubjectKeyIdentifier:
    """SHA-256 of the whole SubjectPublicKeyInfo (RFC 7093 section 2, method 4).

    So a leaf names its CA by the same 32 bytes by which verifiers tell issuers apart.
    """
    return x509.SubjectKeyIdentifier(hash_of_key(key.public_key()))


def authority(
    name: x509.Name,
    key: SigningKey,
    rights: Rights,
    limits: Limits,
    path_length: int,
    validity: Validity,
    serial: int,
    signer: Signer | None,
) -> x509.Certificate:
    """A CA's certificate, signed by itself or by `signer`."""
    by = signer or Signer(name, key, key_id(key))
    builder = _builder(name, by.name, validity, serial).public_key(key.public_key())
    for extension, critical in _authority_extensions(key, rights, limits, path_length):
        builder = builder.add_extension(extension, critical)
    builder = builder.add_extension(_issuer_key_id(by), critical=False)
    return builder.sign(by.key, hashes.SHA256())


def authority_request(
    name: x509.Name, key: SigningKey, rights: Rights, limits: Limits, path_length: int
) -> x509.CertificateSigningRequest:
    """The same as a request, for a root of others: it asks for every extension of the profile."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension, critical in _authority_extensions(key, rights, limits, path_length):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())


def _authority_extensions(
    key: SigningKey, rights: Rights, limits: Limits, path_length: int
) -> Iterable[tuple[x509.ExtensionType, bool]]:
    yield x509.BasicConstraints(ca=True, path_length=path_length), True
    yield x509.KeyUsage(**{**_USAGE, "key_cert_sign": True, "crl_sign": True}), True
    yield constraints.write(limits), True
    yield x509.UnrecognizedExtension(RIGHTS, encode_rights(rights)), False
    yield key_id(key), False


def leaf(
    key: PublicKey,
    name: str,
    addresses: Sequence[Prefix],
    rights: Rights,
    validity: Validity,
    serial: int,
    signer: Signer,
) -> x509.Certificate:
    """A peer's certificate to the profile. Its subject is empty: the name is in one place only."""
    public = X25519PublicKey.from_public_bytes(bytes(key))
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    names += [x509.IPAddress(ipaddress.ip_address(x.address)) for x in addresses]
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, PEER_PURPOSE]
    return (
        _builder(x509.Name([]), signer.name, validity, serial)
        .public_key(public)
        .add_extension(x509.KeyUsage(**{**_USAGE, "key_agreement": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(_issuer_key_id(signer), critical=False)
        .add_extension(x509.UnrecognizedExtension(RIGHTS, encode_rights(rights)), critical=False)
        .sign(signer.key, hashes.SHA256())
    )


def crl(
    revoked: Iterable[tuple[int, float]],
    denied: Denied,
    number: int,
    validity: Validity,
    signer: Signer,
) -> x509.CertificateRevocationList:
    """A CRL: serial numbers with the time of their revocation, and what our extension denies."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.name)
        .last_update(_time(validity.not_before))
        .next_update(_time(validity.not_after))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_issuer_key_id(signer), critical=False)
    )
    if denied.keys or denied.names:
        value = x509.UnrecognizedExtension(DENIALS, encode_denials(denied))
        builder = builder.add_extension(value, critical=False)
    for serial, at in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_time(at))
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(signer.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, validity: Validity, serial: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(serial)
        .not_valid_before(_time(validity.not_before))
        .not_valid_after(_time(validity.not_after))
    )


def _issuer_key_id(signer: Signer) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer.key_id)


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
