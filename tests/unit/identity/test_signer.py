"""Issuing tokens, the keys that sign them, and the JWKS by which others verify them."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tokens import LIMITS, NETWORK, NOW, P256, PEER, SIGNER, jwks_file
from wgpy.identity import token
from wgpy.identity.claims import CredentialError
from wgpy.identity.jose import JsonError
from wgpy.identity.jwks import (
    EDDSA,
    ES256,
    Issuers,
    fingerprint,
    make_jwks,
    members,
    parse_jwks,
    read_jwks,
    thumbprint,
)
from wgpy.identity.settings import TokenIssuer
from wgpy.identity.signer import Content, Signer, issue, make_signing_key, new_jti
from wgpy.ip import parse_prefix

CONTENT = Content(
    network=NETWORK,
    not_before=NOW - 300,
    not_after=NOW + 3600,
    name="laptop.mesh",
    key=PEER,
    addresses=(parse_prefix("10.9.0.2"), parse_prefix("fd09::2")),
    groups=("laptops", "servers"),
    prefixes=(parse_prefix("192.168.7.0/24"),),
    generation=3,
)
ENROL = replace(CONTENT, key=None, addresses=(), generation=None, jti="once")


@pytest.mark.parametrize("signer", [SIGNER, P256], ids=["EdDSA", "ES256"])
def test_what_is_issued_is_verified_from_the_files(tmp_path: Path, signer: Signer) -> None:
    issuers = Issuers.load([TokenIssuer(jwks_file(tmp_path / "jwks", SIGNER, P256), LIMITS)])
    text = issue(signer, CONTENT, NOW)
    assert len(text) <= 700
    claims = token.verify(text, issuers, NETWORK, NOW, PEER)
    assert (claims.name, claims.addresses, claims.generation) == (
        "laptop.mesh",
        CONTENT.addresses,
        3,
    )
    assert (claims.groups, claims.prefixes) == (frozenset(CONTENT.groups), CONTENT.prefixes)
    assert claims.issuer == fingerprint(signer.public)
    enrolment = token.verify_enrolment(issue(signer, ENROL, NOW), issuers, NETWORK, NOW, PEER)
    assert (enrolment.jti, enrolment.key, enrolment.groups) == ("once", None, claims.groups)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "Laptop.mesh"}, "bad-name"),
        ({"name": None}, "bad-name"),
        ({"key": None}, "no-cnf"),
        ({"addresses": ()}, "no-address"),
        ({"addresses": (parse_prefix("10.9.0.0/24"),)}, "bad-address"),
        ({"groups": ("Laptops",)}, "bad-group"),
        ({"generation": None}, "bad-generation"),
        ({"not_after": NOW}, "expired"),
        ({"network": b""}, "wrong-aud"),
        ({"groups": tuple(f"a-group-of-{i:021}" for i in range(16))}, "too-long"),
        ({"jti": "once"}, "bad-generation"),
    ],
)
def test_what_a_verifier_would_refuse_is_not_issued(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CredentialError) as caught:
        issue(SIGNER, replace(CONTENT, **changes), NOW)
    assert caught.value.reason == reason


def test_a_token_may_begin_later() -> None:
    text = issue(SIGNER, replace(CONTENT, not_before=NOW + 1000), NOW)
    assert token.unverified(text).not_before == NOW + 1000


def test_random_ids_differ_and_fit() -> None:
    made = {new_jti() for _ in range(50)}
    assert len(made) == 50
    assert {len(x) for x in made} == {22}


# --- Signing keys ---


@pytest.mark.parametrize("algorithm", [EDDSA, ES256])
@pytest.mark.parametrize("passphrase", [None, b"a passphrase"])
def test_a_key_is_made_once_and_read_again(
    tmp_path: Path, algorithm: str, passphrase: bytes | None
) -> None:
    path = tmp_path / "signing.key"
    made = make_signing_key(path, algorithm, passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in path.read_bytes()) == (passphrase is not None)
    read = Signer.load(path, passphrase)
    assert (read.algorithm, read.kid) == (algorithm, made.kid)
    assert read.kid == thumbprint(read.public)
    assert Signer.load(path, passphrase, kid="mine").kid == "mine"
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        make_signing_key(path, algorithm)
    assert path.read_bytes() == before
    assert "PRIVATE" not in repr(read)
    if passphrase is not None:
        for wrong in (None, b"another"):
            with pytest.raises(CredentialError) as caught:
                Signer.load(path, wrong)
            assert str(caught.value).startswith(f"{path}: ")
            assert "passphrase" not in str(caught.value) or "a passphrase" not in str(caught.value)
    else:
        with pytest.raises(CredentialError, match="give no passphrase"):
            Signer.load(path, b"one")


def pem(key: Any) -> bytes:
    encoded: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return encoded


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 20_000,
        pem(ed448.Ed448PrivateKey.generate()),
        pem(ec.derive_private_key(7, ec.SECP384R1())),
        pem(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["empty", "long", "Ed448", "P-384", "RSA"],
)
def test_another_key_does_not_sign(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    with pytest.raises(CredentialError) as caught:
        Signer.load(path)
    assert caught.value.reason == "signing-key"


# --- JWKS ---


def test_thumbprints_are_those_of_the_rfc() -> None:
    """RFC 8037 appendix A.3 has an Ed25519 key with its thumbprint."""
    (key,) = parse_jwks(
        b'{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a",'
        b'"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}',
        LIMITS,
    )
    assert thumbprint(key.key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def jwk(signer: Signer = SIGNER, **changes: Any) -> dict[str, Any]:
    (made,) = make_jwks([(signer.kid, signer.public)])["keys"]
    return {k: v for k, v in {**made, **changes}.items() if v is not None}


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def test_keys_of_other_kinds_are_left_out() -> None:
    others = (
        {"kty": "RSA", "n": "AQ", "e": "AQAB", "kid": "rsa"},
        {"kty": "OKP", "crv": "Ed448", "x": "AA", "kid": "448"},
        {"kty": ["OKP"], "crv": {}, "kid": "odd"},
        jwk(P256, use="enc", kid="enc"),
    )
    found = parse_jwks(jwks(*others, jwk(alg=None), jwk(P256, use=None)), LIMITS)
    assert [(x.kid, x.algorithm) for x in found] == [("ed", EDDSA), ("p256", ES256)]


BAD_SETS: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("no object", b"[]"),
    ("no keys", b"{}"),
    ("keys that are no list", b'{"keys":{}}'),
    ("a key that is a text", jwks("x")),
    ("none of ours", jwks({"kty": "RSA", "kid": "x"})),
    ("a private key", jwks(jwk(d="AA"))),
    ("a secret key", jwks({"kty": "oct", "k": "AA"})),
    ("another algorithm", jwks(jwk(alg="ES256"))),
    ("no kid", jwks(jwk(kid=None))),
    ("an empty kid", jwks(jwk(kid=""))),
    ("a long kid", jwks(jwk(kid="x" * 65))),
    ("the same kid twice", jwks(jwk(), jwk(P256, kid="ed"))),
    ("a short point", jwks(jwk(x="AA"))),
    ("no point", jwks(jwk(x=None))),
    ("not on the curve", jwks(jwk(P256, x=members(P256.public)["y"]))),
    ("33 keys", jwks(*[jwk(kid=str(i)) for i in range(33)])),
]


@pytest.mark.parametrize("raw", [x[1] for x in BAD_SETS], ids=[x[0] for x in BAD_SETS])
def test_a_bad_set_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(raw)
    with pytest.raises(CredentialError) as caught:
        read_jwks(path, LIMITS)
    assert str(caught.value).startswith(f"{path}: ")


def test_one_key_and_one_kid_have_one_meaning(tmp_path: Path) -> None:
    one, two = (
        TokenIssuer(jwks_file(tmp_path / name, SIGNER), limits)
        for name, limits in (("one", LIMITS), ("two", replace(LIMITS, groups=())))
    )
    with pytest.raises(CredentialError, match="a kid must name one key"):
        Issuers.load([one, two])
    jwks_file(tmp_path / "two", replace(SIGNER, kid="again"))
    with pytest.raises(CredentialError, match="under another kid"):
        Issuers.load([one, two])
    (tmp_path / "one").write_bytes(b" " * 70_000)
    with pytest.raises(CredentialError, match="at most 65536 bytes"):
        Issuers.load([one])


@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
def test_any_file_raises_one_exception(raw: bytes) -> None:
    with pytest.raises(JsonError):
        parse_jwks(raw, LIMITS)
