"""What an authority has read from its files: issuers of tokens and certificates, revocations."""

from dataclasses import dataclass

from wgpy.identity import checks, token
from wgpy.identity.admissions import Admissions
from wgpy.identity.anchors import Anchors
from wgpy.identity.certificate import Certificates
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.jwks import Issuers
from wgpy.identity.revocation import Revocations
from wgpy.identity.settings import AuthoritySettings
from wgpy.identity.token import Enrolment
from wgpy.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Material:
    """What was read, and stays as it is until all is read again."""

    issuers: Issuers
    certificates: Certificates
    revocations: Revocations

    def verify(
        self,
        key: PublicKey,
        kind: Kind,
        body: bytes,
        intermediate: bytes | None,
        network: bytes,
        wall: float,
    ) -> Claims:
        """Verify a credential of either kind. Raises CredentialError."""
        if kind is Kind.TOKEN:
            if intermediate is not None:
                raise CredentialError("malformed", "a token comes with no intermediate")
            return token.verify(body, self.issuers, network, wall, key)
        return self.certificates.verify(body, intermediate, wall, key)

    def check(self, claims: Claims, wall: float, *, just_verified: bool = False) -> None:
        """Raise CredentialError if who issued it is not trusted any more, or took it back.

        Claims that `verify` has just returned can only have been taken back.
        """
        if not just_verified:
            self._check_issuer(claims)
        self.revocations.check(claims, wall)

    def _check_issuer(self, claims: Claims) -> None:
        if claims.kind is Kind.TOKEN:
            self._check_token(claims)
        elif not self.certificates.trusts(claims):
            raise CredentialError("issuer-gone", "its authority is not trusted any more")

    def check_enrolment(self, enrolment: Enrolment) -> None:
        """Raise CredentialError if who issued it may not do so any more."""
        self._check_token(enrolment)

    def _check_token(self, claims: Claims | Enrolment) -> None:
        issuer = self.issuers.by_fingerprint(claims.issuer)
        if issuer is None:
            raise CredentialError("issuer-gone", "its issuer is not trusted any more")
        checks.check_limits(
            issuer.limits, claims.name, claims.addresses, claims.prefixes, claims.groups
        )

    def check_key(self, key: PublicKey) -> None:
        """Raise CredentialError for a key that is denied whatever it shows."""
        self.revocations.check_key(key)

    def stale_at(self, wall: float) -> float | None:
        """When a list that refuses by being stale will be so; None for never."""
        return self.revocations.stale_at(wall)


def load_material(settings: AuthoritySettings, ledger: Admissions) -> Material:
    """Read the files that the settings name. Raises CredentialError, OSError."""
    issuers, anchors = Issuers.load(settings.issuers), Anchors.load(settings)
    revocations = Revocations.load(
        settings.revocations, anchors.known(), ledger.crl_numbers, strict=settings.strict
    )
    return Material(issuers, Certificates(anchors), revocations)
