"""What a certificate says, for a person to read; nothing is verified."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from wgpy.identity.anchors import CertificateAuthority, read_authority
from wgpy.identity.claims import CredentialError
from wgpy.identity.leaf import read_leaf
from wgpy.identity.profile import Rights, serial_text
from wgpy.identity.x509der import extension, load, parsing, rights, spki_hash
from wgpy.ip import address_text
from wgpy.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Description:
    """One certificate. Times are seconds of the wall clock since 1970."""

    is_authority: bool
    key: str  # base64 of an X25519 key; of others the SHA-256 of their SubjectPublicKeyInfo
    serial: str
    subject: str
    issuer: str
    issuer_key: str | None  # its authorityKeyIdentifier, hexadecimal
    names: tuple[str, ...]  # of a CA: the domains that it may sign for
    addresses: tuple[str, ...]  # of a CA: the networks
    network: str | None
    generation: int | None
    groups: tuple[str, ...]
    prefixes: tuple[str, ...]
    not_before: float
    not_after: float
    length: int  # bytes of DER
    # Why it does not fit the profile: reason and text. None where it does.
    fault: tuple[str, str] | None


def describe(der: bytes) -> Description:
    """What one certificate in DER says. Raises CredentialError only if it cannot be read at all."""
    certificate = load(der)
    with parsing():
        basic = extension(certificate, x509.BasicConstraints)
        is_authority = basic is not None and basic.value.ca
        fault = None
        found: CertificateAuthority | None = None
        try:
            if is_authority:
                found = read_authority(der)
            else:
                read_leaf(der)
        except CredentialError as error:
            fault = (error.reason, str(error))
        names, addresses = _names(certificate)
        if found is not None:
            names = found.constraints.names
            addresses = tuple(map(str, found.constraints.networks))
        granted = _rights(certificate)
        above = extension(certificate, x509.AuthorityKeyIdentifier)
        above_id = above.value.key_identifier if above is not None else None
        return Description(
            is_authority=is_authority,
            key=_key(certificate),
            serial=serial_text(certificate.serial_number),
            subject=_plain(certificate.subject.rfc4514_string()),
            issuer=_plain(certificate.issuer.rfc4514_string()),
            issuer_key=above_id.hex() if above_id is not None else None,
            names=tuple(map(_plain, names)),
            addresses=addresses,
            network=granted.network.hex() if granted is not None else None,
            generation=granted.generation if granted is not None and not is_authority else None,
            groups=granted.groups if granted is not None else (),
            prefixes=tuple(map(str, granted.prefixes)) if granted is not None else (),
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
            length=len(der),
            fault=fault,
        )


def _rights(certificate: x509.Certificate) -> Rights | None:
    try:
        return rights(certificate)
    except CredentialError:  # `fault` says so
        return None


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, X25519PublicKey):
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return PublicKey(raw).base64()
    return spki_hash(certificate).hex()


def _names(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = extension(certificate, x509.SubjectAlternativeName)
    if found is None:
        return (), ()
    names = tuple(x.value for x in found.value if isinstance(x, x509.DNSName))
    addresses = tuple(
        address_text(x.value.packed)
        for x in found.value
        if isinstance(x, x509.IPAddress) and hasattr(x.value, "packed")
    )
    return names, addresses


def _plain(text: str) -> str:
    """A stranger's text, unable to write to the terminal."""
    return "".join(x if x.isprintable() else "?" for x in text)
