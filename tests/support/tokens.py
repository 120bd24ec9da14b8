"""Tokens for tests: an issuer's keys, a good token, and the same with something changed."""

import json
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wgpy.identity.jose import b64encode
from wgpy.identity.jwks import EDDSA, ES256, IssuerKey, Issuers, fingerprint, make_jwks
from wgpy.identity.settings import Limits
from wgpy.identity.signer import Signer
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey, PublicKey

NETWORK = bytes(range(16))
NOW = 1_800_000_000
PEER = PrivateKey(bytes(range(32))).public()
OTHER = PrivateKey(bytes(range(32, 64))).public()
LIMITS = Limits(
    names=("mesh",),
    networks=(
        parse_prefix("10.9.0.0/16"),
        parse_prefix("fd09::/64"),
        parse_prefix("192.168.0.0/16"),
    ),
    groups=("laptops", "servers"),
)

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(b"a key of a test, and of nobody. "), "ed")
P256 = Signer(ec.derive_private_key(0x77677079, ec.SECP256R1()), "p256")


def issuer_key(signer: Signer, limits: Limits = LIMITS) -> IssuerKey:
    public = signer.public
    return IssuerKey(signer.kid, signer.algorithm, public, limits, fingerprint(public))


ISSUERS = Issuers([issuer_key(SIGNER), issuer_key(P256)])
HEADER: dict[str, Any] = {"alg": EDDSA, "kid": "ed", "typ": "wgpy+jwt"}


def cnf(key: PublicKey = PEER) -> dict[str, Any]:
    return {"jwk": {"kty": "OKP", "crv": "X25519", "x": b64encode(bytes(key))}}


def peer_payload() -> dict[str, Any]:
    return {
        "sub": "laptop.mesh",
        "aud": NETWORK.hex(),
        "iat": NOW,
        "exp": NOW + 3600,
        "cnf": cnf(),
        "wgpy": {
            "use": "peer",
            "addr": ["10.9.0.2", "fd09::2"],
            "groups": ["laptops"],
            "routes": ["192.168.7.0/24"],
            "net": NETWORK.hex(),
            "gen": 3,
        },
    }


def enrol_payload() -> dict[str, Any]:
    return {
        "sub": "laptop.mesh",
        "aud": NETWORK.hex(),
        "exp": NOW + 900,
        "jti": "once",
        "wgpy": {"use": "enrol", "groups": ["laptops"]},
    }


def compact(
    header: bytes | dict[str, Any], payload: bytes | dict[str, Any], signer: Signer = SIGNER
) -> bytes:
    """Sign whatever is given, right or wrong."""
    first, second = (
        b64encode(
            part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
        )
        for part in (header, payload)
    )
    signed = f"{first}.{second}".encode()
    algorithm = jwt.PyJWS().get_algorithm_by_name(EDDSA if signer.algorithm == EDDSA else ES256)
    return signed + b"." + b64encode(algorithm.sign(signed, signer.key)).encode()


def made(
    payload: dict[str, Any] | None = None, *, own: dict[str, Any] | None = None, **changes: Any
) -> bytes:
    """A token of SIGNER's; None as a value takes a claim away."""
    claims = {**(peer_payload() if payload is None else payload), **changes}
    if own is not None:
        claims["wgpy"] = {**claims["wgpy"], **own}
        claims["wgpy"] = {k: v for k, v in claims["wgpy"].items() if v is not None}
    return compact(HEADER, {k: v for k, v in claims.items() if v is not None})


def jwks_file(path: Path, *signers: Signer) -> str:
    """A JWKS of these signers' keys, in a new file of this name."""
    path.write_text(json.dumps(make_jwks((x.kid, x.public) for x in signers)))
    return str(path)
