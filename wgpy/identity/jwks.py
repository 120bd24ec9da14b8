"""The keys of token issuers: JSON Web Key Sets (RFC 7517) with what each key may sign for."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wgpy.identity.claims import CredentialError
from wgpy.identity.jose import JsonError, b64decode, b64encode, load_object
from wgpy.identity.settings import Limits, TokenIssuer
from wgpy.identity.x509der import hash_of_key
from wgpy.keys import StrPath

VerifyingKey = Ed25519PublicKey | EllipticCurvePublicKey

# The two algorithms there are (RFC 8037, RFC 7518): both sign in 64 bytes.
EDDSA: Final = "EdDSA"
ES256: Final = "ES256"

# A set with as many keys as MAX_KEYS takes a tenth of it.
MAX_FILE_LENGTH: Final = 64 * 1024
# A rotation needs two; identity providers publish a handful.
MAX_KEYS: Final = 32
# It travels in every token of its issuer; an RFC 7638 thumbprint has 43 characters.
MAX_KID_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """One key of an issuer. `fingerprint` is the SHA-256 of its SubjectPublicKeyInfo (32 bytes)."""

    kid: str
    algorithm: str
    key: VerifyingKey
    limits: Limits
    fingerprint: bytes


class Issuers:
    """Every key whose tokens are accepted, by its `kid`."""

    __slots__ = ("_by_fingerprint", "_by_kid")

    def __init__(self, keys: Iterable[IssuerKey] = ()) -> None:
        self._by_kid = {key.kid: key for key in keys}
        self._by_fingerprint = {key.fingerprint: key for key in self._by_kid.values()}

    @classmethod
    def load(cls, issuers: Iterable[TokenIssuer]) -> "Issuers":
        """Read the files. Raises CredentialError, also for a `kid` that two keys have."""
        found: dict[str, IssuerKey] = {}
        for issuer in issuers:
            for key in read_jwks(issuer.jwks, issuer.limits):
                if key.kid in found:
                    raise CredentialError(
                        "jwks",
                        f"{issuer.jwks}: another key has the kid {key.kid!r} already; "
                        "a kid must name one key",
                    )
                if any(key.fingerprint == other.fingerprint for other in found.values()):
                    raise CredentialError(
                        "jwks",
                        f"{issuer.jwks}: the key {key.kid!r} is there under another kid already; "
                        "it would be unclear what it may sign for",
                    )
                found[key.kid] = key
        return cls(found.values())

    def get(self, kid: str) -> IssuerKey | None:
        """The key that `kid` names."""
        return self._by_kid.get(kid)

    def by_fingerprint(self, fingerprint: bytes) -> IssuerKey | None:
        """The key with this SHA-256 of its SubjectPublicKeyInfo."""
        return self._by_fingerprint.get(fingerprint)

    def __len__(self) -> int:
        return len(self._by_kid)


def read_jwks(path: StrPath, limits: Limits) -> list[IssuerKey]:
    """The keys of one file that can sign a token of ours. Raises CredentialError, OSError.

    Keys of other kinds and uses are left out, for a provider's set may have them; there must be one
    of ours at least.
    """
    with open(path, "rb") as file:
        raw = file.read(MAX_FILE_LENGTH + 1)
    if len(raw) > MAX_FILE_LENGTH:
        raise CredentialError(
            "jwks", f"{path}: a JWKS has at most {MAX_FILE_LENGTH} bytes; this has more"
        )
    try:
        return parse_jwks(raw, limits)
    except JsonError as error:
        raise CredentialError("jwks", f"{path}: {error}") from None


def parse_jwks(raw: bytes, limits: Limits) -> list[IssuerKey]:
    """The keys of a JWKS as `read_jwks` has them. Raises JsonError."""
    keys = load_object(raw).get("keys")
    if not isinstance(keys, list) or not all(isinstance(x, dict) for x in keys):
        raise JsonError("this is no JWKS: it has no list of objects named `keys`")
    if len(keys) > MAX_KEYS:
        raise JsonError(f"a JWKS has at most {MAX_KEYS} keys; this has {len(keys)}")
    found = [key for jwk in keys if (key := _issuer_key(jwk, limits)) is not None]
    if not found:
        raise JsonError("none of its keys is for Ed25519 (EdDSA) or P-256 (ES256) signatures")
    if len({key.kid for key in found}) < len(found):
        raise JsonError("two of its keys have the same kid; a kid must name one key")
    return found


def _issuer_key(jwk: dict[str, Any], limits: Limits) -> IssuerKey | None:
    """The key of one JWK, or None for a key of another kind."""
    if {"d", "k", "p", "q"} & jwk.keys():
        raise JsonError("it holds a private key; publish the public part, by `wgpy token jwks`")
    if jwk.get("use", "sig") != "sig":
        return None
    kind = (jwk.get("kty"), jwk.get("crv"))
    algorithm = {("OKP", "Ed25519"): EDDSA, ("EC", "P-256"): ES256}.get(_hashable(kind))
    if algorithm is None:
        return None
    if jwk.get("alg", algorithm) != algorithm:
        raise JsonError(f"a key of {kind[1]} signs by {algorithm}, and its alg says otherwise")
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_LENGTH:
        raise JsonError(f"a key has no kid of 1 to {MAX_KID_LENGTH} characters")
    try:
        key = _public_key(algorithm, jwk)
    except (JsonError, ValueError):
        raise JsonError(f"the key {kid!r} is no point on its curve") from None
    return IssuerKey(kid, algorithm, key, limits, fingerprint(key))


def _hashable(kind: tuple[Any, Any]) -> tuple[str, str]:
    return str(kind[0]), str(kind[1])


def _public_key(algorithm: str, jwk: dict[str, Any]) -> VerifyingKey:
    if algorithm == EDDSA:
        return Ed25519PublicKey.from_public_bytes(b64decode(jwk.get("x")))
    x, y = b64decode(jwk.get("x")), b64decode(jwk.get("y"))
    if len(x) != 32 or len(y) != 32:
        raise JsonError("a coordinate of P-256 has 32 bytes")
    numbers = EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), SECP256R1()
    )
    return numbers.public_key()


def fingerprint(key: VerifyingKey) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo: what tells issuers apart (32 bytes)."""
    return hash_of_key(key)


def members(key: VerifyingKey) -> dict[str, str]:
    """The members of a JWK that say which key it is (RFC 7638 section 3.2)."""
    if isinstance(key, Ed25519PublicKey):
        return {"crv": "Ed25519", "kty": "OKP", "x": b64encode(key.public_bytes_raw())}
    numbers = key.public_numbers()
    x, y = (b64encode(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint(key: VerifyingKey) -> str:
    """The JWK thumbprint of RFC 7638 with SHA-256: 43 characters."""
    text = json.dumps(members(key), sort_keys=True, separators=(",", ":"))
    return b64encode(hashlib.sha256(text.encode()).digest())


def make_jwks(keys: Iterable[tuple[str, VerifyingKey]]) -> dict[str, Any]:
    """The JWKS of keys, each with its kid, for the file that verifiers read."""
    return {
        "keys": [
            {
                **members(key),
                "alg": EDDSA if isinstance(key, Ed25519PublicKey) else ES256,
                "kid": kid,
                "use": "sig",
            }
            for kid, key in keys
        ]
    }
