"""One certificate revocation list: read, verified with the key that it is about, and held.

Our extension of a CRL, not critical, adds what serial numbers cannot say:

    Denials ::= SEQUENCE {
      keys   SEQUENCE OF OCTET STRING (SIZE (32)),
      names  SEQUENCE OF SEQUENCE { name UTF8String, generation INTEGER } }

A key in it is refused whatever it shows, and a name up to and with the generation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from wgpy.identity.anchors import CertificateAuthority
from wgpy.identity.claims import CredentialError
from wgpy.identity.denylist import MAX_DENIED, Denied
from wgpy.identity.profile import DENIALS, MAX_GENERATION, is_name
from wgpy.identity.x509der import parsing
from wgpy.keys import KEY_LENGTH, PublicKey

# Entries of one list. With certificates of a week, it is those revoked within one.
MAX_ENTRIES: Final = 100_000

_PEM_BEGIN: Final = b"-----BEGIN X509 CRL-----"
_PEM_END: Final = b"-----END X509 CRL-----"


@dataclass(frozen=True, slots=True)
class RevocationList:
    """What a CA has revoked. Times are seconds of the wall clock since 1970."""

    issuer: bytes  # SHA-256 of the CA's key
    number: int
    this_update: float
    next_update: float
    serials: frozenset[int]
    denied: Denied


@asn1.sequence
class _Name:
    name: str
    generation: int


@asn1.sequence
class _Denials:
    keys: Annotated[list[bytes], asn1.Size(0, MAX_DENIED)]
    names: Annotated[list[_Name], asn1.Size(0, MAX_DENIED)]


def encode_denials(denied: Denied) -> bytes:
    """The extension's DER, in ascending order. Only `keys` and `names` of all issuers go in."""
    return asn1.encode_der(
        _Denials(
            keys=sorted(map(bytes, denied.keys)),
            names=[
                _Name(name=name, generation=generation)
                for (name, _), generation in sorted(denied.names.items())
            ],
        )
    )


def decode_denials(der: bytes) -> Denied:
    """Read the extension's DER. Raises CredentialError with the reason "malformed"."""
    with parsing("list of denied keys and names"):
        found = asn1.decode_der(_Denials, der)
        if asn1.encode_der(found) != der:
            raise ValueError("not canonical")
        if any(len(key) != KEY_LENGTH for key in found.keys):
            raise ValueError("no key")
        for entry in found.names:
            if not is_name(entry.name) or not 0 <= entry.generation <= MAX_GENERATION:
                raise ValueError("no name, or no generation")
    return Denied(
        keys=frozenset(PublicKey(key) for key in found.keys),
        names={(entry.name, None): entry.generation for entry in found.names},
    )


def read_crl(data: bytes, known: Sequence[CertificateAuthority]) -> Iterator[RevocationList | None]:
    """Each CRL of a PEM text, or the one of a DER; None for one of a CA that is not known.

    Raises CredentialError for everything that is wrong with one of a known CA.
    """
    for der in _split(data):
        with parsing("CRL"):
            crl = x509.load_der_x509_crl(der) if der[:1] == b"\x30" else x509.load_pem_x509_crl(der)
            key_id, issuer = _key_id(crl), crl.issuer
        named = [x for x in known if x.certificate.subject == issuer]
        if key_id is not None:
            named = [x for x in named if key_id in (x.key_id, x.spki)]
        yield _verified(crl, named) if named else None


def _split(data: bytes) -> list[bytes]:
    if data[:1] == b"\x30":
        return [data]
    parts = data.split(_PEM_BEGIN)[1:]
    if not parts or not all(_PEM_END in part for part in parts):
        raise CredentialError("malformed", "the CRL cannot be read")
    return [_PEM_BEGIN + part.split(_PEM_END)[0] + _PEM_END + b"\n" for part in parts]


def _key_id(crl: x509.CertificateRevocationList) -> bytes | None:
    try:
        found = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return found.value.key_identifier


def _verified(
    crl: x509.CertificateRevocationList, named: Sequence[CertificateAuthority]
) -> RevocationList:
    signer = next((x for x in named if _is_signed_by(crl, x)), None)
    if signer is None:
        raise CredentialError("crl-signature", "its signature is not of the CA that it names")
    if not signer.signs_crls:
        raise CredentialError("crl-signature", "its CA may not sign CRLs: keyUsage lacks cRLSign")
    number = None
    denied = Denied()
    with parsing("CRL"):
        for extension in crl.extensions:
            value = extension.value
            if extension.critical:
                # A partial or an indirect list says so here, and must not pass for a whole one.
                raise CredentialError("critical", "the CRL has a critical extension")
            if isinstance(value, x509.CRLNumber):
                number = value.crl_number
            elif extension.oid == DENIALS and isinstance(value, x509.UnrecognizedExtension):
                denied = decode_denials(value.value)
        until = crl.next_update_utc
        if number is None or until is None:
            raise CredentialError("crl-number", "the CRL lacks its number, or a nextUpdate")
        if len(crl) > MAX_ENTRIES:
            raise CredentialError("too-many", f"the CRL has over {MAX_ENTRIES:,} entries")
        serials = frozenset(entry.serial_number for entry in crl)
        since = crl.last_update_utc.timestamp()
    return RevocationList(signer.spki, number, since, until.timestamp(), serials, denied)


def _is_signed_by(crl: x509.CertificateRevocationList, authority: CertificateAuthority) -> bool:
    key = authority.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    try:
        with parsing("CRL"):
            return crl.is_signature_valid(key)
    except CredentialError:  # another kind of key than the signature's
        return False
