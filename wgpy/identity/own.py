"""The credential that this interface presents: read, held against our own key, and renewed in time.

Whether others accept it is for them to say. What is looked at here is what would surely be refused:
another key's, one that is over, a file that is no credential.
"""

from dataclasses import dataclass, field
from typing import Final, Self

from wgpy.identity import token
from wgpy.identity.anchors import read_authority
from wgpy.identity.claims import CredentialError, Kind
from wgpy.identity.derived import quarantine_address
from wgpy.identity.leaf import read_leaf
from wgpy.identity.settings import IdentitySettings
from wgpy.identity.watch import Stamp, stamp
from wgpy.identity.x509der import certificates_in, read_file
from wgpy.ip import Prefix
from wgpy.keys import PublicKey, StrPath

# A credential is to be renewed when this part of its life is over.
RENEW_AFTER: Final = 2 / 3
# A token's file holds a token and some white space.
_MAX_TOKEN_FILE: Final = 4096


@dataclass(frozen=True, slots=True)
class OwnCredential:
    """What goes into our handshakes, and what it says of us. Times are seconds since 1970."""

    kind: Kind
    body: bytes = field(repr=False)  # a certificate (DER), or a token
    intermediate: bytes | None = field(repr=False)  # DER
    key: PublicKey
    # Of a token to enrol, the one that it asks for; "" where that is the coordinator's to say.
    name: str
    network: bytes  # 16 bytes
    addresses: tuple[Prefix, ...]
    groups: frozenset[str]
    generation: int
    serial: str
    not_before: float
    not_after: float
    # The state of the files when they were read.
    stamp: Stamp = field(repr=False)

    @classmethod
    def load(cls, settings: IdentitySettings, key: PublicKey) -> Self:
        """Read the files that `[identity]` names, for our static key.

        Raises CredentialError, with the file's path, for what nobody would accept of this key.
        """
        seen = stamp(_files(settings))
        if (settings.certificate is None) == (settings.token is None):
            raise CredentialError("identity", "[identity] names a certificate, or else a token")
        path = settings.certificate or settings.token or ""
        try:
            if settings.certificate is None:
                return cls._from_token(_read(path, _MAX_TOKEN_FILE).strip(), key, seen)
            intermediate = _intermediate(settings.intermediate)
            (der, *more) = certificates_in(_read(path)) or [b""]
            if more:
                raise CredentialError(
                    "malformed", "it holds several certificates; name the CA's as `intermediate`"
                )
            return cls._from_certificate(der, intermediate, key, seen)
        except CredentialError as error:
            if str(error).startswith(f"{settings.intermediate}: "):
                raise
            raise CredentialError(error.reason, f"{path}: {error}") from None

    @classmethod
    def _from_certificate(
        cls, der: bytes, intermediate: bytes | None, key: PublicKey, seen: Stamp
    ) -> Self:
        leaf = read_leaf(der)
        _check_key(leaf.key, key)
        return cls(
            kind=Kind.CERTIFICATE,
            body=der,
            intermediate=intermediate,
            key=key,
            name=leaf.name,
            network=leaf.rights.network,
            addresses=leaf.addresses,
            groups=frozenset(leaf.rights.groups),
            generation=leaf.rights.generation,
            serial=leaf.serial,
            not_before=leaf.not_before,
            not_after=leaf.not_after,
            stamp=seen,
        )

    @classmethod
    def _from_token(cls, text: bytes, key: PublicKey, seen: Stamp) -> Self:
        if token.use_of(text) == "enrol":
            return cls._from_enrolment(text, key, seen)
        claims = token.unverified(text)
        _check_key(claims.key, key)
        return cls(
            kind=Kind.TOKEN,
            body=text,
            intermediate=None,
            key=key,
            name=claims.name,
            network=claims.network,
            addresses=claims.addresses,
            groups=claims.groups,
            generation=claims.generation,
            serial="",
            not_before=claims.not_before,
            not_after=claims.not_after,
            stamp=seen,
        )

    @classmethod
    def _from_enrolment(cls, text: bytes, key: PublicKey, seen: Stamp) -> Self:
        enrolment = token.unverified_enrolment(text)
        if enrolment.key is not None:
            _check_key(enrolment.key, key)
        return cls(
            kind=Kind.ENROLMENT,
            body=text,
            intermediate=None,
            key=key,
            name=enrolment.name or "",
            network=enrolment.network,
            # Whatever it permits, until it is enrolled it has this one.
            addresses=(quarantine_address(enrolment.network, key),),
            groups=enrolment.groups,
            generation=0,
            serial=enrolment.jti,
            not_before=enrolment.not_before,
            not_after=enrolment.not_after,
            stamp=seen,
        )

    @property
    def enrols(self) -> bool:
        """Whether it is a token to enrol: then we have no name yet."""
        return self.kind is Kind.ENROLMENT

    def __str__(self) -> str:
        return "the token to enrol" if self.enrols else self.name

    def changed(self, settings: IdentitySettings) -> bool:
        """Whether a file was written since it was read; costs a `stat` of each."""
        return stamp(_files(settings)) != self.stamp

    def is_over(self, wall: float) -> bool:
        """Whether nobody accepts it any more."""
        return wall >= self.not_after

    @property
    def renew_at(self) -> float:
        """When a new one is due: after two thirds of its life."""
        return self.not_before + (self.not_after - self.not_before) * RENEW_AFTER


def _files(settings: IdentitySettings) -> list[StrPath]:
    named = (settings.certificate, settings.intermediate, settings.token)
    return [path for path in named if path is not None]


def _read(path: StrPath, limit: int | None = None) -> bytes:
    try:
        return read_file(path) if limit is None else read_file(path, limit)
    except OSError as error:
        raise CredentialError("unreadable", error.strerror or str(error)) from None


def _intermediate(path: str | None) -> bytes | None:
    """The one certificate of a CA that goes with ours. Raises CredentialError with the path."""
    if path is None:
        return None
    try:
        found = certificates_in(_read(path))
        if len(found) != 1:
            raise CredentialError("malformed", "it must hold one certificate")
        read_authority(found[0])
    except CredentialError as error:
        raise CredentialError(error.reason, f"{path}: {error}") from None
    return found[0]


def _check_key(found: PublicKey, key: PublicKey) -> None:
    if found != key:
        raise CredentialError(
            "key-mismatch", f"it was issued for the key {found}, and this interface's is {key}"
        )
