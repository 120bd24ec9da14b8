"""A certification authority in a directory: make it, issue, renew, revoke, and sign CRLs.

    ca.key      its key: PKCS #8 in PEM, encrypted with a passphrase
    ca.pem      its certificate
    ca.csr      a request, where another's root signs the certificate
    parent.pem  the certificate of the root above an intermediate
    crl.pem     its last CRL
    ledger      what it issued, revoked and reserved (issued.py)

An intermediate works whoever signed it, if ca.pem is to the profile. Every leaf is verified as a
stranger's would be before it is given out.
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wgpy.identity import building, ca_files
from wgpy.identity.anchors import Anchors, CertificateAuthority, check_anchor, read_authority
from wgpy.identity.building import Signer, SigningKey, Validity
from wgpy.identity.ca_files import CaError
from wgpy.identity.certificate import EARLY_SECONDS, verify
from wgpy.identity.claims import CredentialError
from wgpy.identity.issued import Issued, IssuedKind, IssuedLedger, transaction
from wgpy.identity.leaf import read_leaf
from wgpy.identity.profile import (
    MAX_ADDRESSES,
    MAX_BOTH,
    MAX_LEAF,
    Rights,
    check_key,
    encode_rights,
    is_name,
    is_unicast,
    serial_text,
    within,
)
from wgpy.identity.settings import Limits
from wgpy.identity.x509der import hash_of_key
from wgpy.ip import Prefix
from wgpy.keys import PublicKey

DAY: Final = 86_400.0
# A root is used for as long as a network lives; what it signs is renewed.
ROOT_DAYS: Final = 3_650.0
INTERMEDIATE_DAYS: Final = 365.0
# Coordinators may be away for two days: leaves are renewed at two thirds.
PEER_DAYS: Final = 7.0
CRL_DAYS: Final = 7.0
# Clocks of verifiers may be late by so much, without a certificate being too new for them.
BACKDATE: Final = float(EARLY_SECONDS)


@dataclass(frozen=True, slots=True)
class AuthorityRequest:
    """What a new CA may sign for."""

    name: str
    network: bytes  # 16 bytes
    limits: Limits
    prefixes: tuple[Prefix, ...] = ()
    days: float = ROOT_DAYS


@dataclass(frozen=True, slots=True)
class PeerRequest:
    """What a peer's certificate shall say."""

    key: PublicKey
    name: str
    addresses: tuple[Prefix, ...]
    groups: tuple[str, ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    days: float = PEER_DAYS


def create(
    directory: Path,
    request: AuthorityRequest,
    passphrase: bytes,
    wall: float,
    parent: "Issuer | None" = None,
) -> CertificateAuthority:
    """Make a root, or an intermediate below `parent` (unlocked). Raises CaError, LedgerError."""
    rights, name = _checked_request(request)
    with ca_files.new_directory(directory):
        key = ec.generate_private_key(ec.SECP256R1())
        ca_files.write_key(directory, key, passphrase)
        if parent is None:
            validity = Validity(wall - BACKDATE, wall + request.days * DAY)
            made = building.authority(
                name, key, rights, request.limits, 1, validity, new_serial(), signer=None
            )
        else:
            made = parent.sign_authority(request, key, wall)
            ca_files.write_public(directory / ca_files.PARENT, parent.authority.der, "CERTIFICATE")
        der = made.public_bytes(serialization.Encoding.DER)
        found = read_authority(der)
        if parent is None:
            check_anchor(found, request.network)
        IssuedLedger(directory / ca_files.LEDGER).close()
        ca_files.write_public(directory / ca_files.CERTIFICATE, der, "CERTIFICATE")
    return found


def extend(
    directory: Path,
    passphrase: bytes,
    wall: float,
    parent: "Issuer",
    more: Rights | None = None,
    days: float = INTERMEDIATE_DAYS,
) -> CertificateAuthority:
    """Give an intermediate a new certificate for the key that it has. Raises CaError, LedgerError.

    It says what the one before says, with the groups and prefixes of `more` besides. Issuers are
    told apart by their keys, so what was issued stays valid, and names stay where they are.
    """
    with Issuer(directory) as child:
        child.unlock(passphrase)
        old, rights = child.authority, child.rights
        if old.issuer != parent.authority.subject or old.spki == parent.authority.spki:
            raise CaError(f"{directory}: it was not signed by {parent.directory}")
        added = more or Rights(rights.network, 0)
        limits = Limits(
            old.constraints.names,
            old.constraints.networks,
            tuple(dict.fromkeys((*rights.groups, *added.groups))),
        )
        name = str(old.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        prefixes = tuple(dict.fromkeys((*rights.prefixes, *added.prefixes)))
        request = AuthorityRequest(name, rights.network, limits, prefixes, days)
        # From when the old one began: a certificate may not be older than its CA's.
        made = parent.sign_authority(request, child.signer.key, wall, since=old.not_before)
    der = made.public_bytes(serialization.Encoding.DER)
    found = read_authority(der)
    ca_files.write_public(directory / ca_files.CERTIFICATE, der, "CERTIFICATE")
    return found


def create_request(directory: Path, request: AuthorityRequest, passphrase: bytes) -> Path:
    """Make a key and a request (PKCS #10) that asks another's root for an intermediate.

    What the root signs is put into the directory as ca.pem. Raises CaError.
    """
    rights, name = _checked_request(request)
    with ca_files.new_directory(directory):
        key = ec.generate_private_key(ec.SECP256R1())
        ca_files.write_key(directory, key, passphrase)
        made = building.authority_request(name, key, rights, request.limits, 0)
        path = directory / ca_files.REQUEST
        ca_files.write_public(
            path, made.public_bytes(serialization.Encoding.DER), "CERTIFICATE REQUEST"
        )
    return path


def _checked_request(request: AuthorityRequest) -> tuple[Rights, x509.Name]:
    limits = request.limits
    if not limits.names or not all(is_name(x) for x in limits.names):
        raise CaError("a CA must be limited to names: lower-case domains such as `mesh`")
    if not limits.networks:
        raise CaError("a CA must be limited to networks, such as 10.7.0.0/16")
    if not 0 < request.days <= 36_500:
        raise CaError("a CA lives for more than 0 and at most 36,500 days")
    rights = Rights(request.network, 0, limits.groups, request.prefixes)
    with _as_ca_error():
        encode_rights(rights)
    try:
        return rights, building.common_name(request.name)
    except ValueError:
        raise CaError("a CA's name has 1 to 64 characters") from None


@contextlib.contextmanager
def _as_ca_error() -> Iterator[None]:
    try:
        yield
    except CredentialError as error:
        raise CaError(str(error)) from None


def new_serial() -> int:
    """127 random bits, the first of them set: 16 bytes, and never twice."""
    return (1 << 126) | secrets.randbits(126)


class Issuer:
    """A CA's directory, opened. What signs needs `unlock` first. Raises CaError and LedgerError."""

    def __init__(self, directory: Path) -> None:
        """Read certificates and open the ledger; the key stays closed."""
        self.directory = directory
        self.authority = ca_files.read_certificate(directory / ca_files.CERTIFICATE)
        self.parent: CertificateAuthority | None = None
        if (directory / ca_files.PARENT).exists():
            self.parent = ca_files.read_certificate(directory / ca_files.PARENT)
        if self.authority.rights is None:
            raise CaError(
                f"{directory}: this CA lacks the extension with network and groups, so it can "
                "grant nothing"
            )
        self.rights = self.authority.rights
        self._signer: Signer | None = None
        self.ledger = IssuedLedger(directory / ca_files.LEDGER)

    def close(self) -> None:
        """Close the ledger, and forget the key."""
        self._signer = None
        self.ledger.close()

    def __enter__(self) -> "Issuer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def unlock(self, passphrase: bytes) -> None:
        """Open the key. Raises CaError where the passphrase or the key is another's."""
        key: SigningKey = ca_files.read_key(self.directory, passphrase)
        if hash_of_key(key.public_key()) != self.authority.spki:
            raise CaError(f"{self.directory}: {ca_files.KEY} and {ca_files.CERTIFICATE} differ")
        certificate = self.authority.certificate
        key_id = x509.SubjectKeyIdentifier(self.authority.key_id)
        self._signer = Signer(certificate.subject, key, key_id)

    @property
    def signer(self) -> Signer:
        """The opened key. Raises CaError where it is closed."""
        if self._signer is None:
            raise CaError(f"{self.directory}: the CA's key is locked")
        return self._signer

    # --- Issuing ---

    def issue(self, request: PeerRequest, wall: float) -> Issued:
        """A certificate for a peer, in the ledger when this returns."""
        self._check(request)
        validity = self._validity(request.days, wall)
        with _as_ca_error(), transaction(self.ledger.connection):
            self._check_key_is_free(request, wall)
            generation = self.ledger.next_generation(request.name)
            rights = Rights(self.rights.network, generation, request.groups, request.prefixes)
            number = new_serial()
            made = building.leaf(
                request.key, request.name, request.addresses, rights, validity, number, self.signer
            )
            der = made.public_bytes(serialization.Encoding.DER)
            if len(der) > MAX_LEAF:
                raise CaError(
                    f"this certificate would have {len(der)} bytes, and a handshake message has "
                    f"room for {MAX_LEAF}; shorten the name, or give fewer groups and prefixes"
                )
            self._check_verifies(der, request, wall)
            for address in request.addresses:
                self.ledger.reserve(address, request.name, validity.not_after, wall)
            issued = Issued(
                serial=serial_text(number),
                kind=IssuedKind.PEER,
                name=request.name,
                key=bytes(request.key),
                generation=generation,
                not_before=validity.not_before,
                not_after=validity.not_after,
                der=der,
            )
            self.ledger.add(issued, wall)
        return issued

    def renew(self, name: str, wall: float, days: float | None = None) -> Issued:
        """The next certificate of a name: same key, addresses, groups and prefixes."""
        last = next(iter(self.ledger.by_name(name)), None)
        if last is None:
            raise CaError(f"{name} has no certificate of this CA; `wgpy ca issue` makes one")
        if last.revoked is not None:
            raise CaError(f"the certificate of {name} is revoked; issue one for a new key")
        with _as_ca_error():
            leaf = read_leaf(last.der)
        return self.issue(
            PeerRequest(
                key=leaf.key,
                name=name,
                addresses=leaf.addresses,
                groups=leaf.rights.groups,
                prefixes=leaf.rights.prefixes,
                days=days or max(last.not_after - last.not_before - BACKDATE, 1) / DAY,
            ),
            wall,
        )

    def fits_beside(self, issued: Issued) -> bool:
        """Whether the peer could carry this intermediate's certificate beside its own."""
        return len(issued.der) + len(self.authority.der) <= MAX_BOTH

    def sign_authority(
        self, request: AuthorityRequest, key: SigningKey, wall: float, since: float | None = None
    ) -> x509.Certificate:
        """An intermediate's certificate below this CA, in the ledger when this returns.

        It is valid from now on, or from `since`, which is earlier.
        """
        if self.authority.path_length == 0:
            raise CaError(f"{self.directory}: this CA may sign for peers, and for no other CA")
        rights, name = _checked_request(request)
        own = self.authority.constraints
        if not all(own.permits_name(x) for x in request.limits.names):
            raise CaError("a name of the new CA is outside this one's")
        if not all(own.permits_address(x) for x in request.limits.networks):
            raise CaError("a network of the new CA is outside this one's")
        self._check_rights(rights)
        validity = self._validity(request.days, wall)
        if since is not None:
            begin = max(since, self.authority.not_before)
            validity = Validity(float(int(min(begin, validity.not_before))), validity.not_after)
        number = new_serial()
        made = building.authority(
            name, key, rights, request.limits, 0, validity, number, self.signer
        )
        der = made.public_bytes(serialization.Encoding.DER)
        issued = Issued(
            serial=serial_text(number),
            kind=IssuedKind.CA,
            name=request.name,
            key=hash_of_key(key.public_key()),
            generation=0,
            not_before=validity.not_before,
            not_after=validity.not_after,
            der=der,
        )
        with transaction(self.ledger.connection):
            self.ledger.add(issued, wall)
        return made

    def _validity(self, days: float, wall: float) -> Validity:
        """From five minutes ago on, and never beyond a CA that is above."""
        above = [self.authority, *([self.parent] if self.parent is not None else [])]
        if not all(x.not_before <= wall <= x.not_after for x in above):
            raise CaError(f"{self.directory}: the CA is expired, or not yet valid")
        if not 0 < days <= 36_500:
            raise CaError("a certificate lives for more than 0 and at most 36,500 days")
        begin = max([wall - BACKDATE, *(x.not_before for x in above)])
        end = min([wall + days * DAY, *(x.not_after for x in above)])
        return Validity(float(int(begin)), float(int(end)))

    def _check(self, request: PeerRequest) -> None:
        """Say in words what is not to the rules, before anything is taken."""
        with _as_ca_error():
            check_key(request.key)
        if not is_name(request.name):
            raise CaError(f"{request.name!r} is no name: lower-case letters, digits, - and dots")
        addresses = request.addresses
        if not 1 <= len(addresses) <= MAX_ADDRESSES or len(set(addresses)) != len(addresses):
            raise CaError("a peer has one address, or two that differ")
        for address in addresses:
            if address.length != 8 * len(address.address) or not is_unicast(address.address):
                raise CaError(f"{address} is not an address that one machine can have")
            if not self._permits_address(address):
                raise CaError(f"{address} is outside what this CA may give")
        if not self._permits_name(request.name):
            raise CaError(f"{request.name} is outside what this CA may give")
        self._check_rights(Rights(self.rights.network, 1, request.groups, request.prefixes))

    def _check_rights(self, wanted: Rights) -> None:
        with _as_ca_error():
            encode_rights(wanted)
        if wanted.network != self.rights.network:
            raise CaError("this is the CA of another network")
        for group in wanted.groups:
            if group not in self.rights.groups:
                raise CaError(f"this CA may not give the group {group}")
        for prefix in wanted.prefixes:
            if not within(prefix, self.rights.prefixes):
                raise CaError(f"this CA may not give the prefix {prefix}")

    def _permits_name(self, name: str) -> bool:
        above = [self.authority, *([self.parent] if self.parent is not None else [])]
        return all(x.constraints.permits_name(name) for x in above)

    def _permits_address(self, address: Prefix) -> bool:
        above = [self.authority, *([self.parent] if self.parent is not None else [])]
        return all(x.constraints.permits_address(address) for x in above)

    def _check_key_is_free(self, request: PeerRequest, wall: float) -> None:
        if self.ledger.is_denied(request.key):
            raise CaError("this key was revoked; make a new one with `wgpy genkey`")
        for other in self.ledger.by_key(request.key):
            if other.name != request.name and other.revoked is None and other.not_after >= wall:
                raise CaError(f"this key is that of {other.name}; one key is one peer")

    def _check_verifies(self, der: bytes, request: PeerRequest, wall: float) -> None:
        """Verify what was made as any peer will; an anchor that states no limits gets these."""
        root = self.parent or self.authority
        if root.certificate.issuer != root.certificate.subject:
            return  # the root is not here; what could be checked was
        limits = Limits((request.name,), request.addresses, request.groups)
        between = [self.authority] if self.parent is not None else []
        anchors = Anchors(self.rights.network, [replace(root, limits=limits)], between)
        verify(der, None, anchors, wall, request.key)

    # --- Revoking ---

    def revoke_serial(self, serial: str, wall: float) -> list[Issued]:
        """Revoke one certificate, a peer's or a CA's."""
        found = self.ledger.by_serial(serial)
        if found is None:
            raise CaError(f"this CA has issued nothing with the serial number {serial}")
        with transaction(self.ledger.connection):
            self.ledger.revoke(found.serial, wall)
        return [found]

    def revoke_key(self, key: PublicKey, wall: float) -> list[Issued]:
        """Revoke every certificate of a key, and deny the key: it never gets another."""
        with transaction(self.ledger.connection):
            found = self.ledger.by_key(key)
            for issued in found:
                self.ledger.revoke(issued.serial, wall)
            self.ledger.deny_key(key, wall)
        return found

    def revoke_name(self, name: str, wall: float) -> list[Issued]:
        """Revoke every certificate of a name, whoever asked for it, and deny the name up to now.

        The name itself may have a new certificate, whose generation is greater.
        """
        with transaction(self.ledger.connection):
            found = self.ledger.by_name(name)
            for issued in found:
                self.ledger.revoke(issued.serial, wall)
            self.ledger.deny_name(name)
        return found

    def crl(self, wall: float, days: float = CRL_DAYS) -> tuple[int, bytes]:
        """The next CRL: its number, and its DER. It is in crl.pem as well."""
        if not 0 < days <= 36_500:
            raise CaError("a CRL is good for more than 0 and at most 36,500 days")
        signer = self.signer
        with transaction(self.ledger.connection):
            number = self.ledger.next_crl_number()
            revoked = [(int(serial, 16), at) for serial, at in self.ledger.revoked(wall)]
            denied = self.ledger.denied()
        made = building.crl(revoked, denied, number, Validity(wall, wall + days * DAY), signer)
        der = made.public_bytes(serialization.Encoding.DER)
        ca_files.write_public(self.directory / ca_files.CRL, der, "X509 CRL")
        return number, der
