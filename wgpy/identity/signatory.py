"""A CA's key that signs what records elsewhere say: the store of a mesh, in the place of a ledger.

It grants what its own certificate permits and nothing else, for every leaf is verified as a
stranger's would be before it is given out. Who has which name, address and generation, and what is
revoked, is told to it.
"""

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from wgpy.identity import building, ca_files
from wgpy.identity.anchors import Anchors, CertificateAuthority, check_anchor
from wgpy.identity.building import Signer, Validity
from wgpy.identity.ca import BACKDATE, CRL_DAYS, DAY, new_serial
from wgpy.identity.ca_files import CaError
from wgpy.identity.certificate import verify
from wgpy.identity.claims import CredentialError
from wgpy.identity.denylist import Denied
from wgpy.identity.profile import MAX_LEAF, Rights, check_key
from wgpy.identity.x509der import hash_of_key
from wgpy.ip import Prefix
from wgpy.keys import PublicKey


class Signatory:
    """An intermediate in a CA's directory, unlocked. Every method raises CaError."""

    def __init__(self, directory: Path, passphrase: bytes) -> None:
        """Read its certificate, the root's and the key; the ledger is not touched."""
        self.directory = directory
        self.authority = ca_files.read_certificate(directory / ca_files.CERTIFICATE)
        self.root: CertificateAuthority = ca_files.read_certificate(directory / ca_files.PARENT)
        if self.authority.rights is None:
            raise CaError(f"{directory}: this CA lacks the extension with network and groups")
        self._rights = self.authority.rights
        key = ca_files.read_key(directory, passphrase)
        if hash_of_key(key.public_key()) != self.authority.spki:
            raise CaError(f"{directory}: {ca_files.KEY} and {ca_files.CERTIFICATE} differ")
        certificate = self.authority.certificate
        key_id = x509.SubjectKeyIdentifier(self.authority.key_id)
        self._signer = Signer(certificate.subject, key, key_id)
        try:
            check_anchor(self.root, self._rights.network)
            self._anchors = Anchors(self._rights.network, [self.root], [self.authority])
        except CredentialError as error:
            raise CaError(f"{directory}: {error}") from None

    @property
    def network(self) -> bytes:
        """The network that it issues for, 16 bytes."""
        return self._rights.network

    @property
    def key_id(self) -> bytes:
        """What its certificates and lists call its key."""
        return self.authority.key_id

    def leaf(
        self,
        key: PublicKey,
        name: str,
        addresses: tuple[Prefix, ...],
        rights: Rights,
        not_after: float,
        wall: float,
    ) -> bytes:
        """A peer's certificate (DER), until `not_after` or the end of a CA above it."""
        above = (self.authority, self.root)
        if not all(x.not_before <= wall <= x.not_after for x in above):
            raise CaError(f"{self.directory}: the CA is expired, or not yet valid")
        validity = Validity(
            max(wall - BACKDATE, *(x.not_before for x in above)),
            min(not_after, *(x.not_after for x in above)),
        )
        try:
            check_key(key)
            made = building.leaf(key, name, addresses, rights, validity, new_serial(), self._signer)
            der = made.public_bytes(serialization.Encoding.DER)
            if len(der) > MAX_LEAF:
                raise CaError(
                    f"the certificate of {name} would have {len(der)} bytes, and a handshake "
                    f"message has room for {MAX_LEAF}: shorten the name, or grant less"
                )
            verify(der, None, self._anchors, wall, key)
        except (CredentialError, ValueError) as error:
            raise CaError(f"the CA cannot issue this to {name}: {error}") from None
        return der

    def crl(
        self,
        number: int,
        revoked: Iterable[tuple[int, float]],
        denied: Denied,
        wall: float,
        days: float = CRL_DAYS,
    ) -> bytes:
        """A list (DER): serial numbers with the time of their revocation, keys and names."""
        validity = Validity(wall, wall + days * DAY)
        try:
            made = building.crl(revoked, denied, number, validity, self._signer)
        except (CredentialError, ValueError) as error:
            raise CaError(f"the CA cannot sign its list: {error}") from None
        return made.public_bytes(serialization.Encoding.DER)
