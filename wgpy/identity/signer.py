"""Issuing tokens: the key that signs them, and what goes into one."""

import secrets
from dataclasses import dataclass, field, replace
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wgpy.identity import token
from wgpy.identity.claims import Claims, CredentialError
from wgpy.identity.issued import IssuedLedger
from wgpy.identity.jose import b64encode
from wgpy.identity.jwks import (
    EDDSA,
    ES256,
    IssuerKey,
    Issuers,
    VerifyingKey,
    fingerprint,
    thumbprint,
)
from wgpy.identity.ledger import transaction
from wgpy.identity.settings import Limits
from wgpy.ip import Prefix
from wgpy.keys import PublicKey, StrPath, write_secret

SigningKey = Ed25519PrivateKey | EllipticCurvePrivateKey

# A PKCS #8 file of either kind has under 500 bytes, encrypted too.
MAX_FILE_LENGTH: Final = 16 * 1024
# Tokens begin this many seconds before they are made, for clocks that are behind the issuer's.
BACKDATE_SECONDS: Final = 300
# 128 bits: two tokens to enrol never share one.
_JTI_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs tokens, and the `kid` by which verifiers find its public part."""

    key: SigningKey = field(repr=False)
    kid: str

    @classmethod
    def load(
        cls, path: StrPath, passphrase: bytes | None = None, kid: str | None = None
    ) -> "Signer":
        """Read a PKCS #8 PEM file of an Ed25519 or P-256 key. Raises CredentialError, OSError.

        Without `kid` it is the key's thumbprint (RFC 7638).
        """
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE_LENGTH + 1)
        try:
            key = serialization.load_pem_private_key(raw[:MAX_FILE_LENGTH], passphrase)
        except TypeError:
            # The library's two words for it: a passphrase for a plain key, or none for the other.
            hint = (
                "is not encrypted; give no passphrase"
                if passphrase
                else "is encrypted; give its passphrase by --passphrase-file"
            )
            raise CredentialError("signing-key", f"{path}: the key {hint}") from None
        except (ValueError, UnsupportedAlgorithm):
            wrong = (
                "no private key in PEM, or another passphrase"
                if passphrase
                else ("no private key in PEM; `wgpy token genkey` makes one")
            )
            raise CredentialError("signing-key", f"{path}: {wrong}") from None
        if not isinstance(key, Ed25519PrivateKey) and not (
            isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
        ):
            raise CredentialError("signing-key", f"{path}: the key is neither Ed25519 nor P-256")
        return cls(key, kid or thumbprint(key.public_key()))

    @property
    def public(self) -> VerifyingKey:
        """The key that verifies what it signs."""
        return self.key.public_key()

    @property
    def algorithm(self) -> str:
        """EdDSA or ES256."""
        return EDDSA if isinstance(self.key, Ed25519PrivateKey) else ES256


@dataclass(frozen=True, slots=True)
class Content:
    """What a token is to say. Times are seconds since 1970; None for `key` binds it to none.

    `generation` is of tokens for peers, `jti` of tokens to enrol.
    """

    network: bytes
    not_before: int
    not_after: int
    name: str | None = None
    key: PublicKey | None = None
    addresses: tuple[Prefix, ...] = ()
    groups: tuple[str, ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    generation: int | None = None
    jti: str | None = None


def new_jti() -> str:
    """A random jti: 22 characters of base64url."""
    return b64encode(secrets.token_bytes(_JTI_BYTES))


def issue(signer: Signer, content: Content, now: float) -> bytes:
    """A token for a peer, or, where `content` has a jti, one to enrol: at most 700 bytes.

    Raises CredentialError for what a verifier would refuse for its form: nothing of the kind is
    signed and given away.
    """
    peer = content.jti is None
    own: dict[str, Any] = {"use": "peer" if peer else "enrol"}
    # The shortest spelling: what is absent is none.
    if content.addresses:
        own["addr"] = [
            str(x).rpartition("/")[0] if _whole(x) else str(x) for x in content.addresses
        ]
    if content.groups:
        own["groups"] = list(content.groups)
    if content.prefixes:
        own["routes"] = [str(x) for x in content.prefixes]
    if content.generation is not None:
        own["gen"] = content.generation
    payload: dict[str, Any] = {
        "aud": content.network.hex(),
        "nbf": content.not_before,
        "exp": content.not_after,
        "wgpy": own,
    }
    if content.name is not None:
        payload["sub"] = content.name
    if content.jti is not None:
        payload["jti"] = content.jti
    if content.key is not None:
        jwk = {"kty": "OKP", "crv": "X25519", "x": b64encode(bytes(content.key))}
        payload["cnf"] = {"jwk": jwk}
    headers = {"kid": signer.kid, "typ": token.TYPE}
    text = jwt.encode(payload, signer.key, algorithm=signer.algorithm, headers=headers).encode()
    _try(signer, content, text, now)
    return text


def issue_recorded(signer: Signer, content: Content, ledger: StrPath, now: float) -> bytes:
    """A token for a peer, with the next generation of its name by the ledger at this path.

    All in one transaction: no generation is given twice, and no address to a second name before
    the first one's token is over. Raises CredentialError, and LedgerError.
    """
    if content.name is None:
        raise CredentialError("bad-name", "a token for a peer has a name")
    issued = IssuedLedger(ledger)
    try:
        with transaction(issued.connection):
            generation = issued.next_generation(content.name)
            for address in content.addresses:
                issued.reserve(address, content.name, content.not_after, now)
            return issue(signer, replace(content, generation=generation), now)
    finally:
        issued.close()


def _whole(prefix: Prefix) -> bool:
    return prefix.length == len(prefix.address) * 8


def _try(signer: Signer, content: Content, text: bytes, now: float) -> Claims | token.Enrolment:
    """Verify a token of ours as somebody would who lets us sign just this."""
    limits = Limits(
        names=() if content.name is None else (content.name,),
        networks=(*content.addresses, *content.prefixes),
        groups=content.groups,
    )
    public = signer.public
    issuers = Issuers(
        [IssuerKey(signer.kid, signer.algorithm, public, limits, fingerprint(public))]
    )
    verify = token.verify if content.jti is None else token.verify_enrolment
    # A token that begins later is none too few: it is tried at its beginning.
    return verify(text, issuers, content.network, max(now, content.not_before), content.key)


def make_signing_key(path: StrPath, algorithm: str, passphrase: bytes | None = None) -> Signer:
    """Make a key for EdDSA or ES256 and write it to a new file (PKCS #8 PEM, mode 0600).

    With a passphrase the file is encrypted. Raises OSError, FileExistsError for one that is there:
    a signing key is never written over.
    """
    # Nobody gets in between: whoever made it first has the name.
    open(path, "xb").close()
    key: SigningKey = (
        Ed25519PrivateKey.generate() if algorithm == EDDSA else generate_private_key(SECP256R1())
    )
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )
    write_secret(path, pem)
    return Signer(key, thumbprint(key.public_key()))
