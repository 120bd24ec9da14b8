"""Tokens: what is accepted, and one row for each thing that is refused, with its reason."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tokens import (
    HEADER,
    ISSUERS,
    LIMITS,
    NETWORK,
    NOW,
    OTHER,
    P256,
    PEER,
    SIGNER,
    cnf,
    compact,
    enrol_payload,
    issuer_key,
    made,
    peer_payload,
)
from wgpy.identity import token
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.jose import b64encode
from wgpy.identity.jwks import fingerprint
from wgpy.ip import parse_prefix
from wgpy.keys import PublicKey


def verify(text: bytes, wall: float = NOW, key: PublicKey | None = PEER) -> Claims:
    return token.verify(text, ISSUERS, NETWORK, wall, key)


def enrol(text: bytes, key: PublicKey | None = PEER, wall: float = NOW) -> token.Enrolment:
    return token.verify_enrolment(text, ISSUERS, NETWORK, wall, key)


def test_a_token_for_a_peer() -> None:
    assert verify(made()) == Claims(
        kind=Kind.TOKEN,
        key=PEER,
        name="laptop.mesh",
        network=NETWORK,
        addresses=(parse_prefix("10.9.0.2"), parse_prefix("fd09::2")),
        groups=frozenset({"laptops"}),
        prefixes=(parse_prefix("192.168.7.0/24"),),
        generation=3,
        not_before=NOW,
        not_after=NOW + 3600,
        issuer=fingerprint(SIGNER.public),
        serial="",
    )


def test_what_is_absent_is_none() -> None:
    claims = verify(made(own={"groups": None, "routes": None, "net": None}, iat=None))
    assert (claims.groups, claims.prefixes, claims.not_before) == (frozenset(), (), 0)


def test_both_algorithms() -> None:
    text = compact({**HEADER, "alg": "ES256", "kid": "p256"}, peer_payload(), P256)
    assert verify(text).issuer == fingerprint(P256.public)


def test_without_a_key_the_token_says_whose_it_is() -> None:
    assert verify(made(), key=None).key == PEER
    assert verify(made(cnf=cnf(OTHER)), key=None).key == OTHER


def test_a_token_to_enrol() -> None:
    text = made(enrol_payload())
    found = enrol(text)
    assert (found.jti, found.key, found.name) == ("once", None, "laptop.mesh")
    assert (found.groups, found.addresses) == (frozenset({"laptops"}), ())
    assert (found.issuer, found.not_after) == (fingerprint(SIGNER.public), NOW + 900)
    assert enrol(made(enrol_payload(), sub=None)).name is None
    assert enrol(made(enrol_payload(), cnf=cnf())).key == PEER


# --- Clocks ---


@pytest.mark.parametrize(
    ("claims", "wall", "reason"),
    [
        ({"iat": NOW}, NOW - 300, None),
        ({"iat": NOW}, NOW - 301, "not-yet-valid"),
        ({"iat": NOW, "nbf": NOW + 100}, NOW - 200, None),
        ({"iat": NOW, "nbf": NOW + 100}, NOW - 201, "not-yet-valid"),
        # nbf decides where both stand.
        ({"iat": NOW, "nbf": NOW - 1000}, NOW - 1300, None),
        ({"exp": NOW + 10}, NOW + 9.9, None),
        ({"exp": NOW + 10}, NOW + 10, "expired"),
        ({"exp": NOW - 10}, NOW - 11, None),
        ({"exp": NOW + 10}, 0, "not-yet-valid"),
        ({"exp": NOW + 10, "iat": None}, 0, None),
    ],
)
def test_a_little_early_and_never_late(
    claims: dict[str, Any], wall: float, reason: str | None
) -> None:
    text = made(**claims)
    if reason is None:
        assert verify(text, wall).not_before <= wall + 300
        return
    with pytest.raises(CredentialError) as caught:
        verify(text, wall)
    assert caught.value.reason == reason


# --- Refusals ---

DER = bytes.fromhex("308201a0") + bytes(400)


def own(**changes: Any) -> bytes:
    return made(own=changes)


def header(**changes: Any) -> bytes:
    return compact(
        {k: v for k, v in {**HEADER, **changes}.items() if v is not None}, peer_payload()
    )


def forged(text: bytes) -> bytes:
    """With the last byte of the signature changed, in a spelling that is right."""
    return text[:-4] + (b"AAAA" if text[-4:] != b"AAAA" else b"BBBB")


def unsigned() -> bytes:
    first, second = (
        b64encode(json.dumps(x).encode()) for x in ({**HEADER, "alg": "none"}, peer_payload())
    )
    return f"{first}.{second}.".encode()


def twice(name: bytes, value: bytes) -> bytes:
    text = json.dumps(peer_payload(), separators=(",", ":")).encode()
    return compact(HEADER, text[:-1] + b',"' + name + b'":' + value + b"}")


def spare_bits(jwk: dict[str, str]) -> dict[str, str]:
    """The same 32 bytes: the last of 43 characters carries two bits that are no part of them."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = letters[letters.index(jwk["x"][-1]) | 1]
    return {**jwk, "x": jwk["x"][:-1] + last}


REFUSED: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "malformed"),
    ("a certificate, DER", DER, "not-a-token"),
    ("a long certificate, DER", DER * 4, "not-a-token"),
    ("a certificate, PEM", b"-----BEGIN CERTIFICATE-----\n", "not-a-token"),
    ("701 bytes", b"e" * 701, "too-long"),
    ("two parts", b"e30.e30", "malformed"),
    ("five parts, as an encrypted one", b"e30.e30.e30.e30.e30", "malformed"),
    ("padding", made() + b"==", "malformed"),
    ("white space after it", made() + b"\n", "malformed"),
    ("a spelling with spare bits", made()[:-1] + b"9", "malformed"),
    ("no signature", unsigned(), "malformed"),
    ("a header that is no object", compact(b"[]", peer_payload()), "malformed"),
    ("a payload that is no object", compact(HEADER, b"3"), "malformed"),
    ("a payload that is not JSON", compact(HEADER, b"{"), "malformed"),
    ("a payload that is not UTF-8", compact(HEADER, b'{"\xff":1}'), "malformed"),
    ("infinity", compact(HEADER, b'{"exp":Infinity}'), "malformed"),
    ("a claim that stands twice", twice(b"aud", b'"x"'), "malformed"),
    ("deep JSON", compact(HEADER, b"[" * 300), "malformed"),
    ("alg none", header(alg="none"), "alg-none"),
    ("alg None", header(alg="None"), "alg-none"),
    ("no alg", header(alg=None), "alg-none"),
    ("alg a number", header(alg=7), "alg-none"),
    ("HMAC", header(alg="HS256"), "wrong-alg"),
    ("RSA", header(alg="RS256"), "wrong-alg"),
    ("another algorithm than the key's", header(alg="ES256"), "wrong-alg"),
    ("another key's algorithm", header(kid="p256"), "wrong-alg"),
    ("typ JWT", header(typ="JWT"), "wrong-typ"),
    ("typ in capitals", header(typ="WGPY+JWT"), "wrong-typ"),
    ("no typ", header(typ=None), "wrong-typ"),
    ("critical extensions", header(crit=["exp"]), "wrong-header"),
    ("a payload that is not encoded", header(b64=False), "wrong-header"),
    ("a key of its own", header(jwk={"kty": "OKP"}), "wrong-header"),
    ("a kid that nobody has", header(kid="x"), "unknown-kid"),
    ("no kid", header(kid=None), "unknown-kid"),
    ("a kid that is no text", header(kid=["ed"]), "unknown-kid"),
    ("signed by another", compact(HEADER, peer_payload(), P256), "bad-signature"),
    ("a changed signature", forged(made()), "bad-signature"),
    ("another network", made(aud=bytes(16).hex()), "wrong-aud"),
    ("a network in capitals", made(aud=NETWORK.hex().upper()), "wrong-aud"),
    ("several audiences", made(aud=[NETWORK.hex()]), "wrong-aud"),
    ("no audience", made(aud=None), "wrong-aud"),
    ("no end", made(exp=None), "no-exp"),
    ("over", made(exp=NOW), "expired"),
    ("over long ago", made(exp=0), "expired"),
    ("not begun", made(iat=NOW + 301), "not-yet-valid"),
    ("an end that is a text", made(exp=str(NOW + 10)), "bad-time"),
    ("an end that is true", made(exp=True), "bad-time"),
    ("an end that is a fraction", made(exp=NOW + 0.5), "bad-time"),
    ("an end after year 9999", made(exp=253402300800), "bad-time"),
    ("a beginning below zero", made(nbf=-1), "bad-time"),
    ("no claims of ours", made(wgpy=None), "no-claims"),
    ("claims of ours that are a list", made(wgpy=[]), "no-claims"),
    ("a claim of ours that is new", own(only="10.9.0.0/16"), "unknown-claim"),
    ("another network within", own(net=bytes(16).hex()), "wrong-network"),
    ("use enrol", own(use="enrol"), "wrong-use"),
    ("no use", own(use=None), "wrong-use"),
    ("a jti", made(jti="x"), "unexpected-jti"),
    ("no cnf", made(cnf=None), "no-cnf"),
    ("another's key", made(cnf=cnf(OTHER)), "wrong-cnf"),
    ("a key of another curve", made(cnf={"jwk": {**cnf()["jwk"], "crv": "X448"}}), "wrong-cnf"),
    ("a private key", made(cnf={"jwk": {**cnf()["jwk"], "d": "AA"}}), "wrong-cnf"),
    ("a thumbprint", made(cnf={"jkt": "AA"}), "wrong-cnf"),
    ("two confirmations", made(cnf={**cnf(), "kid": "AA"}), "wrong-cnf"),
    ("a cnf that is a text", made(cnf="AA"), "wrong-cnf"),
    ("its key in another spelling", made(cnf={"jwk": spare_bits(cnf()["jwk"])}), "wrong-cnf"),
    ("31 bytes", made(cnf={"jwk": {**cnf()["jwk"], "x": "A" * 42}}), "wrong-cnf"),
    ("no name", made(sub=None), "bad-name"),
    ("a name with a capital", made(sub="Laptop.mesh"), "bad-name"),
    ("a wildcard", made(sub="*.mesh"), "bad-name"),
    ("an empty label", made(sub="laptop..mesh"), "bad-name"),
    ("a final dot", made(sub="laptop.mesh."), "bad-name"),
    ("an address as a name", made(sub="10.9.0.2"), "bad-name"),
    ("a name with a line in it", made(sub="a\nb.mesh"), "bad-name"),
    ("half a character", made(sub="\ud800.mesh"), "bad-name"),
    ("no address", own(addr=None), "no-address"),
    ("an empty list of addresses", own(addr=[]), "no-address"),
    ("a network as an address", own(addr=["10.9.0.0/24"]), "bad-address"),
    ("no address at all", own(addr=["here"]), "bad-address"),
    ("multicast", own(addr=["224.0.0.1"]), "bad-address"),
    ("loopback", own(addr=["::1"]), "bad-address"),
    ("IPv4 in IPv6", own(addr=["::ffff:10.9.0.2"]), "bad-address"),
    ("another spelling", own(addr=["fd09::0002"]), "bad-address"),
    ("the same twice", own(addr=["10.9.0.2", "10.9.0.2/32"]), "bad-address"),
    ("three addresses", own(addr=["10.9.0.2", "10.9.0.3", "10.9.0.4"]), "malformed"),
    ("addresses that are a text", own(addr="10.9.0.2"), "malformed"),
    ("a route with host bits", own(routes=["192.168.7.1/24"]), "bad-address"),
    ("17 groups", own(groups=[f"{i}" for i in range(17)], routes=None), "malformed"),
    ("a group twice", own(groups=["laptops", "laptops"]), "malformed"),
    ("a group that is a number", own(groups=[1]), "malformed"),
    ("a group with a capital", own(groups=["Laptops"]), "bad-group"),
    ("a group of 33 letters", own(groups=["a" * 33]), "bad-group"),
    ("no generation", own(gen=None), "bad-generation"),
    ("generation 0", own(gen=0), "bad-generation"),
    ("a generation that is true", own(gen=True), "bad-generation"),
    ("a generation of 64 bits", own(gen=2**63), "bad-generation"),
    ("a name that is not its issuer's", made(sub="laptop.other"), "name-not-permitted"),
    ("a name that ends alike", made(sub="laptop.armesh"), "name-not-permitted"),
    ("an address that is not its issuer's", own(addr=["10.8.0.2"]), "network-not-permitted"),
    ("a route that is not its issuer's", own(routes=["0.0.0.0/0"]), "network-not-permitted"),
    ("a group that is not its issuer's", own(groups=["admins"]), "group-not-permitted"),
]


@pytest.mark.parametrize(("text", "reason"), [x[1:] for x in REFUSED], ids=[x[0] for x in REFUSED])
def test_refused_with_its_own_reason(text: bytes, reason: str) -> None:
    with pytest.raises(CredentialError) as caught:
        verify(text)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


# K, and K with bit 255 set; then what X25519 makes zeros of.
UNSOUND = [
    bytes(PEER)[:31] + bytes([bytes(PEER)[31] | 0x80]),
    bytes(32),
    bytes([1]) + bytes(31),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    b"\xff" * 32,
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


@pytest.mark.parametrize("raw", UNSOUND, ids=lambda raw: raw[:2].hex() + raw[-1:].hex())
def test_a_key_that_is_not_sound_is_refused_even_as_its_own(raw: bytes) -> None:
    key = PublicKey(raw)
    with pytest.raises(CredentialError) as caught:
        verify(made(cnf=cnf(key)), key=key)
    assert caught.value.reason in ("key-encoding", "key-order")


ENROL_REFUSED: list[tuple[str, bytes, str]] = [
    ("a token for a peer", made(), "wrong-use"),
    ("no jti", made(enrol_payload(), jti=None), "no-jti"),
    ("an empty jti", made(enrol_payload(), jti=""), "no-jti"),
    ("a long jti", made(enrol_payload(), jti="x" * 65), "no-jti"),
    ("a jti that is a number", made(enrol_payload(), jti=1), "no-jti"),
    ("a generation", made(enrol_payload(), own={"gen": 1}), "bad-generation"),
    ("another's key", made(enrol_payload(), cnf=cnf(OTHER)), "wrong-cnf"),
    ("over", made(enrol_payload(), exp=NOW), "expired"),
    ("a name that is not its issuer's", made(enrol_payload(), sub="x.other"), "name-not-permitted"),
    ("another network", made(enrol_payload(), aud=bytes(16).hex()), "wrong-aud"),
    ("a changed signature", forged(made(enrol_payload())), "bad-signature"),
]


@pytest.mark.parametrize(
    ("text", "reason"), [x[1:] for x in ENROL_REFUSED], ids=[x[0] for x in ENROL_REFUSED]
)
def test_an_enrolment_refused(text: bytes, reason: str) -> None:
    with pytest.raises(CredentialError) as caught:
        enrol(text)
    assert caught.value.reason == reason


def test_an_issuer_with_no_limits_may_sign_for_nothing() -> None:
    from wgpy.identity.jwks import Issuers
    from wgpy.identity.settings import Limits

    issuers = Issuers([issuer_key(SIGNER, Limits())])
    with pytest.raises(CredentialError) as caught:
        token.verify(made(), issuers, NETWORK, NOW, PEER)
    assert caught.value.reason == "name-not-permitted"
    assert len(LIMITS.names) == 1


# --- Whatever comes ---

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def only_refuses(text: bytes) -> None:
    for judge in (verify, enrol):
        with contextlib.suppress(CredentialError):
            judge(text)


@given(st.binary(max_size=720))
def test_any_bytes_are_refused_by_one_exception(data: bytes) -> None:
    only_refuses(data)


@given(
    st.sampled_from(sorted(peer_payload())) | st.text(max_size=5),
    json_values,
    st.sampled_from(["use", "addr", "groups", "routes", "net", "gen"]),
    json_values,
)
def test_any_signed_claims_raise_one_exception(
    name: str, value: object, inner: str, inside: object
) -> None:
    payload = peer_payload()
    payload["wgpy"][inner] = inside
    only_refuses(compact(HEADER, payload))
    payload[name] = value
    only_refuses(compact(HEADER, payload))


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "x"]), json_values))
def test_any_header_raises_one_exception(changes: dict[str, Any]) -> None:
    only_refuses(compact({**HEADER, **changes}, peer_payload()))


@given(st.integers(0, 699), st.integers(1, 255))
def test_no_changed_byte_is_accepted(place: int, value: int) -> None:
    text = bytearray(made())
    text[place % len(text)] ^= value
    with pytest.raises(CredentialError):
        verify(bytes(text))
