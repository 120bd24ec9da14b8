"""A peer's certificate read by the library's objects alone: slow, and written without our reader.

`wgpy.identity.leaf` may refuse more than this, and accept nothing that this refuses.
"""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.certificates import key_usage
from wgpy.identity.claims import CredentialError
from wgpy.identity.leaf import Leaf
from wgpy.identity.profile import PEER_PURPOSE, check_key, is_name, is_unicast, serial_text
from wgpy.identity.x509der import check_critical, extension, load, rights
from wgpy.ip import Prefix
from wgpy.keys import PublicKey

USAGE = key_usage(key_agreement=True)
MAY_BE_CRITICAL = (x509.BasicConstraints, x509.KeyUsage, x509.SubjectAlternativeName)


def read_by_library(der: bytes, issuer: bytes) -> Leaf:
    """What `read_leaf` should come to, but for `issuer`, which is taken as given. Raises
    CredentialError."""
    certificate = load(der)
    public = certificate.public_key()
    if not isinstance(public, X25519PublicKey):
        raise CredentialError("key-kind", "not X25519")
    key = PublicKey(public.public_bytes_raw())
    check_key(key)
    check_critical(certificate, MAY_BE_CRITICAL)
    basic = extension(certificate, x509.BasicConstraints)
    if basic is not None and basic.value.ca:
        raise CredentialError("is-a-ca", "a CA")
    usage = extension(certificate, x509.KeyUsage)
    if usage is None or not usage.critical or usage.value != USAGE:
        raise CredentialError("usage", "another keyUsage")
    purposes = extension(certificate, x509.ExtendedKeyUsage)
    if purposes is None or sorted(x.dotted_string for x in purposes.value) != sorted(
        (ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string, PEER_PURPOSE.dotted_string)
    ):
        raise CredentialError("purpose", "another extendedKeyUsage")
    name, addresses = _names(certificate)
    granted = rights(certificate)
    if granted is None or granted.generation == 0:
        raise CredentialError("no-rights", "no rights, or a CA's")
    above = extension(certificate, x509.AuthorityKeyIdentifier)
    if above is None or above.value.key_identifier is None:
        raise CredentialError("no-key-id", "no authorityKeyIdentifier")
    return Leaf(
        certificate=certificate,
        key=key,
        name=name,
        addresses=addresses,
        rights=granted,
        issuer=issuer,
        issuer_id=above.value.key_identifier,
        serial=serial_text(certificate.serial_number),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def _names(certificate: x509.Certificate) -> tuple[str, tuple[Prefix, ...]]:
    found = extension(certificate, x509.SubjectAlternativeName)
    if found is None or found.critical != (not list(certificate.subject)):
        raise CredentialError("name", "no names, or wrongly critical")
    names = [x.value for x in found.value if isinstance(x, x509.DNSName)]
    addresses = [
        # A network has no such bytes.
        getattr(x.value, "packed", b"")
        for x in found.value
        if isinstance(x, x509.IPAddress)
    ]
    if len(names) + len(addresses) != len(list(found.value)) or len(names) != 1:
        raise CredentialError("name-kind", "other names, or not one")
    if not is_name(names[0]) or len(addresses) != len(set(addresses)):
        raise CredentialError("name", "no name, or one address twice")
    if len(addresses) not in (1, 2) or not all(x and is_unicast(x) for x in addresses):
        raise CredentialError("address", "an address that is none")
    return names[0], tuple(Prefix(x, 8 * len(x)) for x in addresses)
