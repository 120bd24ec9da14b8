"""Trust anchors and intermediates: loaded, checked before they are trusted, and found by key."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from wgpy.identity import constraints
from wgpy.identity.claims import CredentialError
from wgpy.identity.constraints import Constraints
from wgpy.identity.der import split
from wgpy.identity.profile import Rights, serial_text
from wgpy.identity.settings import AuthoritySettings, Limits
from wgpy.identity.x509der import (
    certificates_in,
    check_critical,
    extension,
    load,
    parsing,
    read_file,
    rights,
    spki_hash,
)
from wgpy.keys import StrPath

# Several roots for a rotation, and an intermediate for each coordinator: far above any real list.
MAX_ANCHORS: Final = 16
MAX_INTERMEDIATES: Final = 64
# Between a leaf and its trust anchor: one message carries one at most.
MAX_BETWEEN: Final = 1

MIN_RSA_BITS: Final = 2_048

_ENDINGS: Final = (".pem", ".crt", ".cer")
_CRITICAL_IN_CA: Final = (x509.BasicConstraints, x509.KeyUsage, x509.NameConstraints)


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A CA's certificate that was read and fits the profile, trusted or not."""

    certificate: x509.Certificate
    der: bytes
    spki: bytes  # SHA-256 of its key, 32 bytes
    key_id: bytes  # its SubjectKeyIdentifier
    parent_id: bytes | None  # the keyIdentifier of its AuthorityKeyIdentifier
    subject: bytes  # its name, the contents of its DER
    issuer: bytes  # that of who signed it
    rights: Rights | None
    constraints: Constraints
    signs_crls: bool
    path_length: int | None
    not_before: float
    not_after: float
    # What the operator states for an anchor, over and above what it says itself.
    limits: Limits | None = None

    @property
    def serial(self) -> str:
        """Its serial number in hexadecimal."""
        return serial_text(self.certificate.serial_number)


def read_authority(der: bytes, limits: Limits | None = None) -> CertificateAuthority:
    """Read a CA's certificate and check that it is one, to the profile. Raises CredentialError."""
    certificate = load(der)
    check_critical(certificate, _CRITICAL_IN_CA)
    basic = extension(certificate, x509.BasicConstraints)
    if basic is None or not basic.critical or not basic.value.ca:
        raise CredentialError("not-a-ca", "it is no CA: basicConstraints must be critical, CA:TRUE")
    usage = extension(certificate, x509.KeyUsage)
    if usage is None or not usage.value.key_cert_sign:
        raise CredentialError("not-a-ca", "its keyUsage does not let it sign certificates")
    if not _may_sign(certificate.public_key()):
        raise CredentialError("ca-key", "the key of a CA is ECDSA (P-256, P-384) or RSA (2,048)")
    own_id = extension(certificate, x509.SubjectKeyIdentifier)
    if own_id is None:
        raise CredentialError("no-key-id", "the CA has no subjectKeyIdentifier")
    parent = extension(certificate, x509.AuthorityKeyIdentifier)
    names = extension(certificate, x509.NameConstraints)
    with parsing():
        limited = constraints.read(names.value) if names is not None else Constraints()
    if names is not None and not names.critical:
        raise CredentialError("constraints-not-critical", "its name constraints are not critical")
    issuer, subject = _names(certificate)
    return CertificateAuthority(
        certificate=certificate,
        der=der,
        spki=spki_hash(certificate),
        key_id=own_id.value.digest,
        parent_id=parent.value.key_identifier if parent is not None else None,
        subject=subject,
        issuer=issuer,
        rights=rights(certificate),
        constraints=limited,
        signs_crls=usage.value.crl_sign,
        path_length=basic.value.path_length,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        limits=limits,
    )


def _names(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    """Its issuer's name and its own, as they are written: names are the same if their bytes are.

    They are the fourth and the sixth field of a certificate of version 3 (RFC 5280 section 4.1).
    """
    with parsing():
        _, (signed,) = split(certificate.tbs_certificate_bytes)
        _, fields = split(signed)
    return fields[3], fields[5]


def _may_sign(key: CertificatePublicKeyTypes) -> bool:
    """Whether it is of a kind that the standard verifier takes in a CA as well."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    return isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS


def check_signed_by(child: x509.Certificate, parent: x509.Certificate) -> None:
    """Whether `parent`'s name and key are those that `child` was signed with.

    Raises CredentialError: "signature".
    """
    try:
        with parsing():
            child.verify_directly_issued_by(parent)
    except CredentialError:
        raise CredentialError("signature", "its signature is not of the CA that it names") from None


def check_anchor(found: CertificateAuthority, network: bytes) -> None:
    """Whether a CA may be trusted by itself: self-signed, and limited in what it may sign for.

    Raises CredentialError.
    """
    if found.issuer != found.subject:
        raise CredentialError(
            "anchor-not-self-signed",
            "it is an intermediate, and a trust anchor signs itself; name the root instead",
        )
    try:
        check_signed_by(found.certificate, found.certificate)
    except CredentialError:
        raise CredentialError(
            "anchor-not-self-signed", "a trust anchor signs itself, and its signature is wrong"
        ) from None
    if found.limits is not None:
        return
    if not (found.constraints.bounds_names() and found.constraints.bounds_addresses()):
        raise CredentialError(
            "anchor-unconstrained",
            "it has no critical name constraints for DNS names, IPv4 and IPv6; "
            "state limits for it in the configuration",
        )
    if found.rights is None:
        raise CredentialError(
            "anchor-no-rights",
            "it lacks the extension with network and groups, so it grants nothing; "
            "state limits for it in the configuration",
        )
    if found.rights.network != network:
        raise CredentialError("network", "it is the CA of another network")


class Anchors:
    """What an interface trusts: anchors, the intermediates that it knows, and its network's id.

    Several anchors may stand beside each other, as they do while one takes another's place.
    """

    def __init__(
        self,
        network: bytes,
        anchors: Iterable[CertificateAuthority],
        intermediates: Iterable[CertificateAuthority] = (),
    ) -> None:
        """Raises CredentialError for an anchor that may not be one, or an unsigned intermediate."""
        self.network = network
        self.anchors = tuple(anchors)
        self.intermediates = tuple(intermediates)
        if len(self.anchors) > MAX_ANCHORS or len(self.intermediates) > MAX_INTERMEDIATES:
            raise CredentialError(
                "too-many",
                f"there are more than {MAX_ANCHORS} trust anchors "
                f"or {MAX_INTERMEDIATES} intermediates",
            )
        for anchor in self.anchors:
            check_anchor(anchor, network)
        for found in self.intermediates:
            self._check_intermediate(found)

    @classmethod
    def load(cls, settings: AuthoritySettings) -> Self:
        """From the files that the settings name. Raises OSError, and CredentialError with the path.

        A file of an anchor holds one certificate. An intermediate is a file, or a directory
        whose .pem, .crt and .cer files are read; a file may hold several.
        """
        anchors = []
        for stated in settings.anchors:
            with _in_file(stated.path):
                ders = certificates_in(read_file(stated.path))
                if len(ders) != 1:
                    raise CredentialError("malformed", "it must hold one certificate")
                anchors.append(read_authority(ders[0], stated.limits))
                check_anchor(anchors[-1], settings.network)
        known = cls(settings.network, anchors)
        intermediates = []
        for path in _files(settings.intermediates):
            with _in_file(path):
                for der in certificates_in(read_file(path)):
                    intermediates.append(read_authority(der))
                    known._check_intermediate(intermediates[-1])
        return cls(settings.network, anchors, intermediates)

    def _check_intermediate(self, found: CertificateAuthority) -> None:
        parents = list(self.parents(found))
        if not parents:
            raise CredentialError("unknown-issuer", "no trust anchor here has signed it")
        for parent in parents:
            check_signed_by(found.certificate, parent.certificate)

    def parents(self, found: CertificateAuthority) -> Iterator[CertificateAuthority]:
        """The anchors that say that they signed this intermediate."""
        for anchor in self.anchors:
            if _named(anchor, found.parent_id, found.issuer):
                yield anchor

    def chains(
        self,
        issuer_id: bytes,
        issuer: bytes,
        carried: CertificateAuthority | None,
    ) -> Iterator[tuple[CertificateAuthority, ...]]:
        """Each way from a leaf's issuer up to an anchor: the issuer first, the anchor last.

        `issuer_id` is the leaf's authority key identifier: the subjectKeyIdentifier of its CA, or
        the SHA-256 of that CA's key. Nothing is verified here.
        """
        for anchor in self.anchors:
            if _named(anchor, issuer_id, issuer):
                yield (anchor,)
        between = [*self.intermediates, *([carried] if carried is not None else [])]
        for intermediate in between:
            if _named(intermediate, issuer_id, issuer):
                for anchor in self.parents(intermediate):
                    yield (intermediate, anchor)

    def known(self) -> Iterator[CertificateAuthority]:
        """Every CA here: whose CRLs are of interest."""
        yield from self.anchors
        yield from self.intermediates


def _named(found: CertificateAuthority, key_id: bytes | None, name: bytes) -> bool:
    return key_id in (found.key_id, found.spki) and found.subject == name


@contextmanager
def _in_file(path: StrPath) -> Iterator[None]:
    """Put the path before whatever is wrong with the file."""
    try:
        yield
    except CredentialError as error:
        raise CredentialError(error.reason, f"{os.fspath(path)}: {error}") from None


def _files(paths: Iterable[str]) -> Iterator[Path]:
    """Each file, and the certificates in each directory, in the order of their names."""
    for text in paths:
        path = Path(text)
        if path.is_dir():
            yield from sorted(x for x in path.iterdir() if x.suffix in _ENDINGS and x.is_file())
        else:
            yield path
