"""A peer's certificate, read and held against the profile; nobody's signature is looked at here.

The profile leaves so little open that most parts are compared with the bytes that they must be.
To have the library make an object of each takes several times as long. What is read in another
way, or left unread, the library reads as well: nothing that it refuses is accepted here.
"""

import functools
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from wgpy.identity import der
from wgpy.identity.claims import CredentialError
from wgpy.identity.profile import (
    MAX_ADDRESSES,
    PEER_PURPOSE,
    RIGHTS,
    Rights,
    check_key,
    decode_rights,
    is_name,
    is_unicast,
)
from wgpy.identity.x509der import FAILURES, MAX_CERTIFICATE, MAX_SERIAL, parsing
from wgpy.ip import Prefix
from wgpy.keys import PublicKey


def _contents(oid: x509.ObjectIdentifier) -> bytes:
    """The contents of an identifier's DER, which has a tag and a length before them."""
    return asn1.encode_der(oid)[2:]


_BASIC_CONSTRAINTS: Final = _contents(ExtensionOID.BASIC_CONSTRAINTS)
_KEY_USAGE: Final = _contents(ExtensionOID.KEY_USAGE)
_EXTENDED_KEY_USAGE: Final = _contents(ExtensionOID.EXTENDED_KEY_USAGE)
_ALTERNATIVE_NAME: Final = _contents(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
_AUTHORITY_KEY_ID: Final = _contents(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
_RIGHTS: Final = _contents(RIGHTS)
_NAMED: Final = asn1.encode_der(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
_MAY_BE_CRITICAL: Final = frozenset((_BASIC_CONSTRAINTS, _KEY_USAGE, _ALTERNATIVE_NAME))
# Those of which every byte is looked at, the identifier of the issuer's key if it stands alone.
_READ_WHOLE: Final = frozenset(
    (_BASIC_CONSTRAINTS, _KEY_USAGE, _EXTENDED_KEY_USAGE, _AUTHORITY_KEY_ID, _RIGHTS)
)

# RFC 5280 section 4.1: what is signed, the algorithm, the signature.
_CERTIFICATE: Final = bytes((der.SEQUENCE, der.SEQUENCE, der.BIT_STRING))
# Version, serial number, algorithm, issuer, validity, subject, key, extensions. Unique identifiers
# of issuer and subject must not be there (section 4.1.2.8).
_SIGNED: Final = bytes((0xA0, der.INTEGER, *[der.SEQUENCE] * 5, 0xA3))
_VERSION_3: Final = bytes((der.INTEGER, 1, 2))
_SEQUENCE: Final = bytes((der.SEQUENCE,))
# An extension that is not critical, and one that is: DER leaves out what is the default.
_PLAIN: Final = bytes((der.OBJECT_IDENTIFIER, der.OCTET_STRING))
_CRITICAL: Final = bytes((der.OBJECT_IDENTIFIER, der.BOOLEAN, der.OCTET_STRING))
# RFC 8410: 1.3.101.110 without parameters, and before the key's 32 bytes that all their bits count.
_X25519: Final = bytes.fromhex("3005 0603 2b656e 0321 00")
_X25519_LENGTH: Final = len(_X25519) + 32
# The bit keyAgreement alone (RFC 5280 section 4.2.1.3).
_KEY_AGREEMENT: Final = bytes((der.BIT_STRING, 2, 3, 0x08))
_NO_CA: Final = bytes((der.SEQUENCE, 0))
_CLIENT_AUTH: Final = asn1.encode_der(ExtendedKeyUsageOID.CLIENT_AUTH)
_PEER: Final = asn1.encode_der(PEER_PURPOSE)
# In either order.
_PURPOSES: Final = frozenset(
    bytes((der.SEQUENCE, len(both))) + both for both in (_CLIENT_AUTH + _PEER, _PEER + _CLIENT_AUTH)
)
# RFC 5280 sections 4.2.1.6 and 4.2.1.1.
_DNS_NAME: Final = 0x82
_IP_ADDRESS: Final = 0x87
_NAMES: Final = bytes((_DNS_NAME, _IP_ADDRESS))
_KEY_IDENTIFIER: Final = 0x80
# What CAs sign with: ecdsa-with-SHA256, 384 and 512 without parameters (RFC 5758 section 3.2), and
# what stands below pkcs-1 (RFC 8017), where the standard verifier chooses.
_ECDSA: Final = tuple(bytes.fromhex(f"0608 2a8648ce3d0403{last}") for last in ("02", "03", "04"))
_PKCS_1: Final = bytes.fromhex("0609 2a864886f70d0101")

# Most peers of a network have all extensions alike but their names.
_KNOWN: Final = 256

# By the contents of its identifier: whether it is critical, and its value.
_Extensions = dict[bytes, tuple[bool, bytes]]


class Leaf(NamedTuple):
    """A peer's certificate that fits the profile by itself; nobody's signature was looked at."""

    certificate: x509.Certificate
    key: PublicKey
    name: str
    addresses: tuple[Prefix, ...]
    rights: Rights
    issuer: bytes  # the contents of the issuer's name, DER
    issuer_id: bytes  # the keyIdentifier of its authorityKeyIdentifier
    serial: str  # hexadecimal, as Claims have it
    not_before: float
    not_after: float


def read_leaf(data: bytes) -> Leaf:
    """Read a peer's certificate and hold it against the profile. Raises CredentialError."""
    if len(data) > MAX_CERTIFICATE:
        raise CredentialError("malformed", f"the certificate is over {MAX_CERTIFICATE} bytes")
    try:
        return _read(data)
    except (der.DerError, *FAILURES):
        raise CredentialError("malformed", "the certificate cannot be read") from None


def _read(data: bytes) -> Leaf:
    (whole,) = der.contents_of(data, _SEQUENCE)
    signed, outer_algorithm, _ = der.contents_of(whole, _CERTIFICATE)
    fields = der.contents_of(signed, _SIGNED)
    version, serial, algorithm, issuer, _, subject, public_key, last = fields
    if version != _VERSION_3:
        raise CredentialError("malformed", "the certificate is not of version 3")
    # The library writes warnings of negative numbers, and of ECDSA and DSA with parameters, to the
    # standard error: it must not get to see them.
    number = _serial(serial)
    if algorithm != outer_algorithm or not _is_known(algorithm):
        raise CredentialError("signature", "it is signed in a way in which no CA of ours signs")
    certificate = x509.load_der_x509_certificate(data)
    key = _key(public_key)
    shared, named = _extensions(last)
    rights, issuer_id, read_whole = _shared(shared)
    name, addresses = _subject(named, has_subject=subject != b"")
    if subject or not read_whole:
        with parsing():
            _ = certificate.subject, certificate.extensions
    return Leaf(
        certificate=certificate,
        key=key,
        name=name,
        addresses=addresses,
        rights=rights,
        issuer=issuer,
        issuer_id=issuer_id,
        serial=number,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def _serial(contents: bytes) -> str:
    if contents >= b"\x80":
        raise CredentialError("malformed", "the certificate has a negative serial number")
    # DER puts a byte of zeros before what would be negative without it.
    number = contents.lstrip(b"\0")
    if not number or len(contents) > MAX_SERIAL:
        raise CredentialError("serial", "its serial number is not of 1 to 20 bytes")
    return number.hex()


def _extensions(contents: bytes) -> tuple[tuple[bytes, ...], bytes | None]:
    """Those that peers can have alike, and the one with the names; None without it."""
    (listed,) = der.contents_of(contents, _SEQUENCE)
    tags, entries = der.split(listed)
    if tags.strip(_SEQUENCE):
        raise der.DerError("there is something that is no extension")
    shared, named = [], None
    for entry in entries:
        if not entry.startswith(_NAMED):
            shared.append(entry)
        elif named is None:
            named = entry
        else:
            raise der.DerError("an extension stands there twice")
    return tuple(shared), named


@functools.lru_cache(_KNOWN)
def _shared(entries: tuple[bytes, ...]) -> tuple[Rights, bytes, bool]:
    """What all extensions but the names say: rights, and the key identifier of the issuer; and
    whether there is nothing in them that was not looked at."""
    found: _Extensions = {}
    for entry in entries:
        oid, critical, value = _extension(entry)
        found[oid] = critical, value
    if len(found) != len(entries):
        raise der.DerError("an extension stands there twice")
    if found.get(_BASIC_CONSTRAINTS, (True, _NO_CA))[1] != _NO_CA:
        raise CredentialError("is-a-ca", "it is a CA's and not a peer's")
    _check_usage(found)
    rights = _rights(found)
    issuer_id, alone = _issuer_id(found)
    return rights, issuer_id, alone and found.keys() <= _READ_WHOLE


def _extension(entry: bytes) -> tuple[bytes, bool, bytes]:
    """The contents of its identifier, whether it is critical, and its value."""
    shape, parts = der.split(entry)
    if shape == _PLAIN:
        return parts[0], False, parts[1]
    if shape != _CRITICAL or parts[1] != der.TRUE:
        raise der.DerError("an extension is made in another way")
    oid, _, value = parts
    if oid not in _MAY_BE_CRITICAL:
        raise CredentialError("critical", f"its critical extension {_dotted(oid)} is unknown to us")
    return oid, True, value


def _key(contents: bytes) -> PublicKey:
    if len(contents) != _X25519_LENGTH or not contents.startswith(_X25519):
        raise CredentialError("key-kind", "its key is not an X25519 key")
    key = PublicKey(contents[-32:])
    check_key(key)
    return key


def _dotted(oid: bytes) -> str:
    """As people write it. Raises ValueError for what is no identifier."""
    encoded = bytes((der.OBJECT_IDENTIFIER, len(oid))) + oid
    return asn1.decode_der(x509.ObjectIdentifier, encoded).dotted_string


def _check_usage(extensions: _Extensions) -> None:
    if extensions.get(_KEY_USAGE) != (True, _KEY_AGREEMENT):
        raise CredentialError("usage", "its keyUsage is not critical, keyAgreement and no more")
    if extensions.get(_EXTENDED_KEY_USAGE, (False, b""))[1] not in _PURPOSES:
        raise CredentialError(
            "purpose", "its extendedKeyUsage is not clientAuth and wgpy's, and no more"
        )


def _subject(named: bytes | None, *, has_subject: bool) -> tuple[str, tuple[Prefix, ...]]:
    """The one name and the addresses of its subjectAltName."""
    if named is None:
        raise CredentialError("name", "it has no subjectAltName")
    _, critical, value = _extension(named)
    (listed,) = der.contents_of(value, _SEQUENCE)
    tags, addresses = der.split(listed)
    if tags.strip(_NAMES):
        raise CredentialError("name-kind", "it has a name that is no DNS name and no address")
    count = tags.count(_DNS_NAME)
    if count != 1:
        raise CredentialError("name-count", f"it has {count} DNS names, and must have one")
    # Bytes that are not ASCII become what is no name either.
    name = addresses.pop(tags.index(_DNS_NAME)).decode("ascii", "replace")
    if not is_name(name):
        raise CredentialError("name", "its DNS name is not lower-case labels of a-z, 0-9 and -")
    if not 1 <= len(addresses) <= MAX_ADDRESSES or len(set(addresses)) != len(addresses):
        raise CredentialError("address-count", "it must have one address, or two that differ")
    for address in addresses:
        if len(address) not in (4, 16) or not is_unicast(address):
            raise CredentialError("address", "one of its addresses cannot be one machine's")
    if critical == has_subject:
        raise CredentialError(
            "name-critical", "its subjectAltName must be critical if its subject is empty, else not"
        )
    return name, tuple([Prefix(x, 8 * len(x)) for x in addresses])


def _rights(extensions: _Extensions) -> Rights:
    found = extensions.get(_RIGHTS)
    if found is None:
        raise CredentialError("no-rights", "it lacks the extension with network and groups")
    rights = decode_rights(found[1])
    if rights.generation == 0:
        raise CredentialError("generation", "its generation is 0; a peer's is 1 or more")
    return rights


def _issuer_id(extensions: _Extensions) -> tuple[bytes, bool]:
    """The keyIdentifier, and whether it stands alone; it may have the issuer's name and number
    beside it, which are of no use to us."""
    found = extensions.get(_AUTHORITY_KEY_ID)
    if found is not None:
        (listed,) = der.contents_of(found[1], _SEQUENCE)
        tags, parts = der.split(listed)
        if tags and tags[0] == _KEY_IDENTIFIER:
            return parts[0], len(parts) == 1
    raise CredentialError("no-key-id", "it has no authorityKeyIdentifier with a key's id")


def _is_known(algorithm: bytes) -> bool:
    return algorithm in _ECDSA or algorithm.startswith(_PKCS_1)
