"""Certificates of every kind for tests, the bad ones too: made by the library's builder, no ca.py.

`Authority` and `Peer` say what goes in; a test changes one thing with `dataclasses.replace`.
"""

import datetime
import ipaddress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wgpy.identity.anchors import Anchors, read_authority
from wgpy.identity.crl import encode_denials
from wgpy.identity.denylist import Denied
from wgpy.identity.profile import DENIALS, PEER_PURPOSE, RIGHTS, Rights, encode_rights
from wgpy.identity.settings import Limits
from wgpy.ip import Prefix, parse_prefix
from wgpy.keys import PrivateKey, PublicKey

NETWORK = bytes(range(16))
NOW = 1_800_000_000.0
DAY = 86_400.0
MINUTE = 60.0

KEY = PrivateKey(bytes(range(1, 33))).public()
GROUPS = ("admins", "laptops")
PREFIXES = (parse_prefix("192.168.0.0/16"), parse_prefix("fd01::/32"))
CONSTRAINTS = x509.NameConstraints(
    [
        x509.DNSName("mesh"),
        x509.IPAddress(ipaddress.ip_network("10.7.0.0/16")),
        x509.IPAddress(ipaddress.ip_network("fd07::/64")),
    ],
    None,
)

Extra = tuple[x509.ExtensionType, bool]


@cache
def signing_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    """A P-256 key: the same for the same number."""
    return ec.derive_private_key(1_000_003 + number, ec.SECP256R1())


def names(*names: x509.GeneralName | str) -> x509.SubjectAlternativeName:
    """A subjectAltName: texts are addresses where they look like one, else DNS names."""
    return x509.SubjectAlternativeName([_name(x) for x in names])


def _name(text: x509.GeneralName | str) -> x509.GeneralName:
    if isinstance(text, x509.GeneralName):
        return text
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def key_usage(**on: bool) -> x509.KeyUsage:
    """A keyUsage with these bits and no others."""
    bits = dict.fromkeys(
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
    return x509.KeyUsage(**{**bits, **on})


def raw_rights(der: bytes) -> x509.UnrecognizedExtension:
    """Our extension with any content."""
    return x509.UnrecognizedExtension(RIGHTS, der)


def rights(rights: Rights) -> x509.UnrecognizedExtension:
    """Our extension."""
    return raw_rights(encode_rights(rights))


def subject(common_name: str) -> x509.Name:
    """A name with a common name, or with nothing."""
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    return x509.Name(parts)


@dataclass(frozen=True)
class Authority:
    """What goes into a CA. `parent` None signs itself."""

    name: str = "a root"
    key: Any = field(default_factory=signing_key)
    parent: "Authority | None" = None
    not_before: float = NOW - DAY
    not_after: float = NOW + 365 * DAY
    basic: x509.BasicConstraints | None = field(
        default_factory=lambda: x509.BasicConstraints(ca=True, path_length=1)
    )
    usage: x509.KeyUsage | None = field(
        default_factory=lambda: key_usage(key_cert_sign=True, crl_sign=True)
    )
    constraints: x509.NameConstraints | None = CONSTRAINTS
    constraints_critical: bool = True
    rights: Rights | None = field(default_factory=lambda: Rights(NETWORK, 0, GROUPS, PREFIXES))
    has_key_id: bool = True
    parent_id: x509.AuthorityKeyIdentifier | None = None
    extra: tuple[Extra, ...] = ()

    def key_id(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())

    def certificate(self) -> x509.Certificate:
        parent = self.parent or self
        extensions: list[Extra] = []
        if self.basic is not None:
            extensions.append((self.basic, True))
        if self.usage is not None:
            extensions.append((self.usage, True))
        if self.constraints is not None:
            extensions.append((self.constraints, self.constraints_critical))
        if self.rights is not None:
            extensions.append((rights(self.rights), False))
        if self.has_key_id:
            extensions.append((self.key_id(), False))
        if self.parent is not None:
            extensions.append((self.parent_id or authority_key_id(parent), False))
        return _sign(
            subject(self.name), parent, self.key.public_key(), self, [*extensions, *self.extra], 1
        )

    def der(self) -> bytes:
        return self.certificate().public_bytes(serialization.Encoding.DER)

    def pem(self) -> bytes:
        return self.certificate().public_bytes(serialization.Encoding.PEM)


def authority_key_id(parent: Authority) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier(parent.key_id().digest, None, None)


@dataclass(frozen=True)
class Peer:
    """What goes into a peer's certificate."""

    parent: Authority = field(default_factory=Authority)
    key: Any = KEY
    subject: str = ""
    not_before: float = NOW - 5 * MINUTE
    not_after: float = NOW + 7 * DAY
    usage: x509.KeyUsage | None = field(default_factory=lambda: key_usage(key_agreement=True))
    usage_critical: bool = True
    purposes: tuple[x509.ObjectIdentifier, ...] | None = (
        ExtendedKeyUsageOID.CLIENT_AUTH,
        PEER_PURPOSE,
    )
    purposes_critical: bool = False
    names: x509.SubjectAlternativeName | None = field(
        default_factory=lambda: names("laptop.mesh", "10.7.0.2", "fd07::2")
    )
    names_critical: bool = True
    rights: Rights | x509.UnrecognizedExtension | None = field(
        default_factory=lambda: Rights(NETWORK, 1, ("laptops",), (parse_prefix("192.168.4.0/24"),))
    )
    rights_critical: bool = False
    authority: x509.AuthorityKeyIdentifier | None = None
    has_authority: bool = True
    extra: tuple[Extra, ...] = ()
    serial: int = 0x1234

    def certificate(self) -> x509.Certificate:
        extensions: list[Extra] = []
        if self.usage is not None:
            extensions.append((self.usage, self.usage_critical))
        if self.purposes is not None:
            extensions.append((x509.ExtendedKeyUsage(self.purposes), self.purposes_critical))
        if self.names is not None:
            extensions.append((self.names, self.names_critical))
        if self.rights is not None:
            value = rights(self.rights) if isinstance(self.rights, Rights) else self.rights
            extensions.append((value, self.rights_critical))
        if self.has_authority:
            extensions.append((self.authority or authority_key_id(self.parent), False))
        key = self.key
        if isinstance(key, PublicKey):
            key = x25519.X25519PublicKey.from_public_bytes(bytes(key))
        return _sign(
            subject(self.subject), self.parent, key, self, [*extensions, *self.extra], self.serial
        )

    def der(self) -> bytes:
        return self.certificate().public_bytes(serialization.Encoding.DER)

    def pem(self) -> bytes:
        return self.certificate().public_bytes(serialization.Encoding.PEM)


def _sign(
    subject_name: x509.Name,
    parent: Authority,
    public_key: Any,
    times: Authority | Peer,
    extensions: list[Extra],
    serial: int,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(subject(parent.name))
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(_time(times.not_before))
        .not_valid_after(_time(times.not_after))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    edwards = not isinstance(parent.key, ec.EllipticCurvePrivateKey)
    return builder.sign(parent.key, None if edwards else hashes.SHA256())


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


ROOT = Authority()


def crl(
    *serials: int,
    authority: Authority = ROOT,
    number: int | None = 1,
    until: float = NOW + DAY,
    denied: Denied | None = None,
    extra: x509.ExtensionType | None = None,
    names_key: bool = True,
    pem: bool = True,
) -> bytes:
    """A CRL of `authority` with these serial numbers, two days long. `extra` is a critical
    extension."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(subject(authority.name))
        .last_update(_time(until - 2 * DAY))
        .next_update(_time(until))
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_time(NOW))
        builder = builder.add_revoked_certificate(entry.build())
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), False)
    if names_key:
        builder = builder.add_extension(authority_key_id(authority), False)
    if denied is not None:
        value = x509.UnrecognizedExtension(DENIALS, encode_denials(denied))
        builder = builder.add_extension(value, False)
    if extra is not None:
        builder = builder.add_extension(extra, True)
    encoding = serialization.Encoding.PEM if pem else serialization.Encoding.DER
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(encoding)


def anchors(
    *authorities: Authority,
    intermediates: tuple[Authority, ...] = (),
    limits: Limits | None = None,
    network: bytes = NETWORK,
) -> Anchors:
    """These CAs as trust anchors."""
    return Anchors(
        network,
        [read_authority(x.der(), limits) for x in authorities],
        [read_authority(x.der()) for x in intermediates],
    )


def limits(
    names: tuple[str, ...] = ("mesh",),
    networks: tuple[str, ...] = ("10.7.0.0/16", "fd07::/64"),
    groups: tuple[str, ...] = GROUPS,
) -> Limits:
    """Limits that a configuration could state."""
    parsed: tuple[Prefix, ...] = tuple(parse_prefix(x) for x in networks)
    return Limits(names, parsed, groups)
