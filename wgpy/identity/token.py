"""Tokens: JSON Web Tokens (RFC 7519) that say who a peer is, and those that let one enrol.

    header  {"alg": "EdDSA" | "ES256", "kid": KEY, "typ": "wgpy+jwt"}
    payload {"sub": NAME, "aud": NETWORK, "exp": T, "iat": T, "nbf": T, "jti": ID,
             "cnf": {"jwk": {"kty": "OKP", "crv": "X25519", "x": KEY}},
             "wgpy": {"use": "peer" | "enrol", "addr": [...], "groups": [...], "routes": [...],
                      "net": NETWORK, "gen": N}}

`kid` chooses a key of the issuers' sets, and the key says the algorithm: the header's `alg` can
only agree. PyJWT verifies the signature and nothing else. The claims are judged here, for the clock
is an argument, and each refusal has a reason of its own.

A token for a peer is bound to the peer's static key (`cnf`, RFC 7800) and may be shown any number
of times. A token to enrol is a bearer's and has a `jti`, spent by the first key that uses it.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import jwt

from wgpy.identity import checks, profile
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.jose import JsonError, b64decode, load_object
from wgpy.identity.jwks import EDDSA, ES256, IssuerKey, Issuers
from wgpy.identity.settings import Limits
from wgpy.ip import Prefix, parse_prefix
from wgpy.keys import KeyFormatError, PublicKey

TYPE: Final = "wgpy+jwt"
# What fits into the one datagram of a credential initiation, with room for what is beside it.
MAX_LENGTH: Final = 700
MAX_JTI_LENGTH: Final = 64
# 9999-12-31T23:59:59Z, the last second that certificates can say too (RFC 5280 section 4.1.2.5).
MAX_TIME: Final = 253402300799

# The same letters as the header and the base64 of any other length; three parts and no more.
_COMPACT: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_CLAIMS: Final = frozenset({"use", "addr", "groups", "routes", "net", "gen"})
_NETWORK: Final = re.compile(r"[0-9a-f]{32}")
_JWS: Final = jwt.PyJWS(algorithms=[EDDSA, ES256])


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a verified token to enrol permits: who shows it first may become this node.

    Times are seconds of the wall clock since 1970. `name` None leaves the name to the coordinator,
    and so do no addresses.
    """

    jti: str
    issuer: bytes  # SHA-256 of the SubjectPublicKeyInfo of the key that signed it
    network: bytes  # 16 bytes
    # None for a bearer's token; else the only key that may use it.
    key: PublicKey | None
    name: str | None
    addresses: tuple[Prefix, ...]
    groups: frozenset[str]
    prefixes: tuple[Prefix, ...]
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Parts:
    """A token's header and claims as they are written; nothing is verified."""

    header: dict[str, Any]
    payload: dict[str, Any]


def read(text: bytes) -> Parts:
    """A token's parts, without looking at what they say. Raises CredentialError."""
    if (text[:1] == b"0" and not text.isascii()) or text.startswith(b"-----BEGIN CERTIFICATE"):
        raise CredentialError("not-a-token", "this is a certificate in the place of a token")
    if len(text) > MAX_LENGTH:
        raise CredentialError(
            "too-long", f"a token has at most {MAX_LENGTH} bytes; this has {len(text)}"
        )
    match = _COMPACT.fullmatch(text)
    if match is None:
        raise CredentialError("malformed", "not three parts of base64url with dots between them")
    try:
        header, payload, signature = (b64decode(part.decode("ascii")) for part in match.groups())
        if len(signature) != 64:
            raise JsonError("a signature by EdDSA or ES256 has 64 bytes")
        return Parts(load_object(header), load_object(payload))
    except JsonError as error:
        raise CredentialError("malformed", f"not a token: {error}") from None


def verify(
    text: bytes, issuers: Issuers, network: bytes, wall: float, key: PublicKey | None
) -> Claims:
    """What a token for a peer says, verified at `wall` (seconds since 1970).

    `key` is the peer's static key; None only to look at a token, and then the token's own is taken.
    Raises CredentialError, and nothing else whatever `text` is.
    """
    issuer, payload = _verified(text, issuers)
    _check_network(payload, network)
    claims = _peer_claims(payload, key, issuer.fingerprint)
    checks.check_times(claims.not_before, claims.not_after, wall)
    checks.check_limits(
        issuer.limits, claims.name, claims.addresses, claims.prefixes, claims.groups
    )
    return claims


def unverified(text: bytes) -> Claims:
    """What a token for a peer says, whoever signed it: only for the bearer, and to look at.

    `issuer` is empty. Raises CredentialError for what no issuer's signature would make right.
    """
    parts = read(text)
    _check_header(parts.header)
    return _peer_claims(parts.payload, None, b"")


def asked_for(parts: Parts) -> Limits:
    """Limits that permit just what a token asks for: to verify one whose limits are elsewhere."""
    own = parts.payload.get("wgpy")
    if not isinstance(own, dict):
        raise CredentialError("no-claims", "it has no claims for wgpy")
    addresses, groups, prefixes = _rights(own)
    names = (_name(parts.payload),) if "sub" in parts.payload else ()
    return Limits(names, (*addresses, *prefixes), tuple(groups))


def _peer_claims(payload: dict[str, Any], key: PublicKey | None, issuer: bytes) -> Claims:
    network = _network(payload)
    not_before, not_after = _times(payload)
    own = _own(payload, "peer")
    if "jti" in payload:
        raise CredentialError("unexpected-jti", "a token for a peer has no jti")
    bound = _bound_key(payload, key)
    if bound is None:
        raise CredentialError("no-cnf", "a token for a peer names its static key in cnf.jwk")
    addresses, groups, prefixes = _rights(own)
    if not addresses:
        raise CredentialError("no-address", "a token for a peer gives it one address or two")
    return Claims(
        kind=Kind.TOKEN,
        key=bound,
        name=_name(payload),
        network=network,
        addresses=addresses,
        groups=groups,
        prefixes=prefixes,
        generation=_generation(own),
        not_before=not_before,
        not_after=not_after,
        issuer=issuer,
        serial="",
    )


def verify_enrolment(
    text: bytes, issuers: Issuers, network: bytes, wall: float, key: PublicKey | None
) -> Enrolment:
    """What a token to enrol permits, verified at `wall`. Whether its jti is spent is the ledger's.

    Raises CredentialError, and nothing else whatever `text` is.
    """
    issuer, payload = _verified(text, issuers)
    _check_network(payload, network)
    found = _enrolment(payload, key, issuer.fingerprint)
    checks.check_times(found.not_before, found.not_after, wall)
    checks.check_limits(issuer.limits, found.name, found.addresses, found.prefixes, found.groups)
    return found


def _enrolment(payload: dict[str, Any], key: PublicKey | None, issuer: bytes) -> Enrolment:
    network = _network(payload)
    not_before, not_after = _times(payload)
    own = _own(payload, "enrol")
    jti = payload.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI_LENGTH or not jti.isascii():
        raise CredentialError(
            "no-jti", f"a token to enrol has a jti of 1 to {MAX_JTI_LENGTH} characters"
        )
    if "gen" in own:
        raise CredentialError("bad-generation", "a token to enrol has no generation")
    bound = _bound_key(payload, key)
    name = _name(payload) if "sub" in payload else None
    addresses, groups, prefixes = _rights(own)
    return Enrolment(
        jti,
        issuer,
        network,
        bound,
        name,
        addresses,
        groups,
        prefixes,
        not_before,
        not_after,
    )


def unverified_enrolment(text: bytes) -> Enrolment:
    """What a token to enrol says, whoever signed it: only for the bearer, and to look at.

    `issuer` is empty. Raises CredentialError for what no issuer's signature would make right.
    """
    parts = read(text)
    _check_header(parts.header)
    return _enrolment(parts.payload, None, b"")


def use_of(text: bytes) -> str | None:
    """The use that a token says it is for, unverified. Raises CredentialError for no token."""
    own = read(text).payload.get("wgpy")
    use = own.get("use") if isinstance(own, dict) else None
    return use if isinstance(use, str) else None


def _verified(text: bytes, issuers: Issuers) -> tuple[IssuerKey, dict[str, Any]]:
    """Who signed it, and its claims, which that key did sign."""
    parts = read(text)
    issuer = _issuer(parts.header, issuers)
    try:
        _JWS.decode(text, issuer.key, algorithms=[issuer.algorithm])
    except jwt.InvalidSignatureError:
        raise CredentialError("bad-signature", "its issuer's key did not sign this") from None
    except jwt.PyJWTError as error:
        raise CredentialError("malformed", f"not a token: {error}") from None
    return issuer, parts.payload


def _check_header(header: dict[str, Any]) -> None:
    """Whether a header is what it has to be, whoever signed."""
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm.lower() == "none":
        raise CredentialError("alg-none", "it is not signed")
    if algorithm not in (EDDSA, ES256):
        raise CredentialError(
            "wrong-alg", f"it is signed by {algorithm!r}; EdDSA or ES256 is taken"
        )
    if header.get("typ") != TYPE:
        raise CredentialError("wrong-typ", f"its typ is not {TYPE}: it was made for something else")
    if unknown := header.keys() - {"alg", "kid", "typ"}:
        # crit, b64, and keys that a token brings along (jwk, jku, x5c).
        raise CredentialError("wrong-header", f"its header has {min(unknown)!r}")


def _issuer(header: dict[str, Any], issuers: Issuers) -> IssuerKey:
    """The key that the header names, if the header is what it has to be."""
    _check_header(header)
    kid = header.get("kid")
    issuer = issuers.get(kid) if isinstance(kid, str) else None
    if issuer is None:
        raise CredentialError("unknown-kid", "no issuer that is trusted here has its kid")
    if issuer.algorithm != header["alg"]:
        raise CredentialError(
            "wrong-alg", f"its key signs by {issuer.algorithm}, and it says otherwise"
        )
    return issuer


def _check_network(payload: dict[str, Any], network: bytes) -> None:
    if payload.get("aud") != network.hex():
        raise CredentialError("wrong-aud", "it is for another network")


def _network(payload: dict[str, Any]) -> bytes:
    """The 16 bytes of its network."""
    text = payload.get("aud")
    if not isinstance(text, str) or not _NETWORK.fullmatch(text):
        raise CredentialError("wrong-aud", "its aud is no network: 32 hexadecimal digits")
    return bytes.fromhex(text)


def _times(payload: dict[str, Any]) -> tuple[float, float]:
    """Its first and last second. Without nbf it begins when it was issued (iat)."""
    not_after = _time(payload, "exp")
    if not_after is None:
        raise CredentialError("no-exp", "it has no end (exp)")
    issued, not_before = _time(payload, "iat"), _time(payload, "nbf")
    return (issued if not_before is None else not_before) or 0.0, not_after


def _own(payload: dict[str, Any], use: str) -> dict[str, Any]:
    """The claims that are wgpy's, of a token for this use."""
    own = payload.get("wgpy")
    if not isinstance(own, dict):
        raise CredentialError("no-claims", "it has no claims for wgpy")
    if unknown := own.keys() - _CLAIMS:
        # What we do not know may be a restriction.
        raise CredentialError("unknown-claim", f"its claims for wgpy have {min(unknown)!r}")
    if "net" in own and own["net"] != payload["aud"]:
        raise CredentialError("wrong-network", "its net is another network than its aud")
    if own.get("use") != use:
        raise CredentialError("wrong-use", f"its use is not {use!r}")
    return own


def _time(payload: dict[str, Any], name: str) -> float | None:
    if name not in payload:
        return None
    value = payload[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TIME:
        raise CredentialError("bad-time", f"its {name} is no whole number of seconds since 1970")
    return float(value)


def _bound_key(payload: dict[str, Any], key: PublicKey | None) -> PublicKey | None:
    """The static key that it is bound to, None if to none. It is `key` wherever that is given."""
    if "cnf" not in payload:
        return None
    cnf = payload["cnf"]
    jwk = cnf.get("jwk") if isinstance(cnf, dict) and len(cnf) == 1 else None
    if not isinstance(jwk, dict) or jwk.keys() != {"kty", "crv", "x"}:
        raise CredentialError("wrong-cnf", "its cnf is not one jwk with kty, crv and x")
    if (jwk["kty"], jwk["crv"]) != ("OKP", "X25519"):
        raise CredentialError("wrong-cnf", "its cnf is no X25519 key")
    try:
        bound = PublicKey(b64decode(jwk["x"]))
    except (JsonError, KeyFormatError):
        raise CredentialError("wrong-cnf", "its cnf is no X25519 key of 32 bytes") from None
    profile.check_key(bound)
    if key is not None and bound != key:
        raise CredentialError("wrong-cnf", "it is bound to another key")
    return bound


def _name(payload: dict[str, Any]) -> str:
    name = payload.get("sub")
    if not isinstance(name, str) or not profile.is_name(name):
        raise CredentialError("bad-name", "its sub is no host name in lower case")
    return name


def _generation(own: dict[str, Any]) -> int:
    value = own.get("gen")
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not 1 <= value <= profile.MAX_GENERATION
    ):
        raise CredentialError("bad-generation", "its gen is no number of 1 to 2^63 - 1")
    return value


def _rights(
    own: dict[str, Any],
) -> tuple[tuple[Prefix, ...], frozenset[str], tuple[Prefix, ...]]:
    """Addresses, groups and routed prefixes. What is absent is none."""
    addresses = tuple(_prefix(x, "addr") for x in _texts(own, "addr", profile.MAX_ADDRESSES))
    if not all(map(checks.is_host, addresses)):
        raise CredentialError("bad-address", "its addr is not whole unicast addresses")
    groups = _texts(own, "groups", profile.MAX_GROUPS)
    if not all(map(profile.is_group, groups)):
        raise CredentialError("bad-group", "a group is not 1 to 32 of a-z, 0-9 and hyphen")
    prefixes = tuple(_prefix(x, "routes") for x in _texts(own, "routes", profile.MAX_PREFIXES))
    if len(set(addresses)) < len(addresses) or len(set(prefixes)) < len(prefixes):
        raise CredentialError("bad-address", "an address or a prefix stands twice")
    return addresses, frozenset(groups), prefixes


def _texts(own: dict[str, Any], name: str, most: int) -> list[str]:
    values = own.get(name, [])
    if not isinstance(values, list) or not all(isinstance(x, str) for x in values):
        raise CredentialError("malformed", f"its {name} is no list of texts")
    if len(values) > most or len(set(values)) < len(values):
        raise CredentialError("malformed", f"its {name} has more than {most}, or one twice")
    return values


def _prefix(text: str, name: str) -> Prefix:
    try:
        prefix = parse_prefix(text)
    except ValueError:
        raise CredentialError("bad-address", f"its {name} is no list of addresses") from None
    # Host bits that are set, or another spelling of the same.
    whole = prefix.length == len(prefix.address) * 8
    if text not in (
        (str(prefix), str(prefix)[: str(prefix).rindex("/")]) if whole else (str(prefix),)
    ):
        raise CredentialError("bad-address", f"a prefix in its {name} is not in its one spelling")
    return prefix
