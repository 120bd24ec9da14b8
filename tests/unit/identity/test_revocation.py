"""CRLs and deny lists: what they refuse, and which of them are refused themselves."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from tests.support.certificates import (
    DAY,
    KEY,
    NOW,
    ROOT,
    Authority,
    Peer,
    anchors,
    crl,
    key_usage,
    signing_key,
)
from wgpy.identity.certificate import Certificates, verify
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.crl import decode_denials, encode_denials, read_crl
from wgpy.identity.denylist import Denied, read_deny_list
from wgpy.identity.revocation import Revocations
from wgpy.keys import PublicKey

MIDDLE = Authority(
    name="an intermediate",
    key=signing_key(1),
    parent=ROOT,
    not_after=NOW + 90 * DAY,
    basic=x509.BasicConstraints(ca=True, path_length=0),
)
TRUST = anchors(ROOT, intermediates=(MIDDLE,))
KNOWN = tuple(TRUST.known())
CLAIMS = verify(Peer(serial=0x1234).der(), None, TRUST, NOW, KEY)
BELOW = verify(Peer(parent=MIDDLE).der(), None, TRUST, NOW, KEY)
OTHER = PublicKey(bytes([9]) + bytes(31))
ISSUER = CLAIMS.issuer.hex()


def load(
    path: Path, *files: bytes, numbers: dict[bytes, int] | None = None, strict: bool = False
) -> Revocations:
    for number, content in enumerate(files):
        (path / f"{number}.crl").write_bytes(content)
    kept = {} if numbers is None else numbers
    return Revocations.load([str(path)], KNOWN, kept, strict=strict)


def refusal(revocations: Revocations, claims: Claims = CLAIMS, wall: float = NOW) -> str | None:
    try:
        revocations.check(claims, wall)
    except CredentialError as error:
        return error.reason
    return None


def test_nothing_is_revoked_by_nothing() -> None:
    assert refusal(Revocations()) is None
    assert Revocations().stale(NOW) == ()
    assert Revocations().stale_at(NOW) is None


@pytest.mark.parametrize("pem", [True, False])
@pytest.mark.parametrize("names_key", [True, False])
def test_a_serial_number_is_revoked(tmp_path: Path, pem: bool, names_key: bool) -> None:
    found = load(tmp_path, crl(0x1234, pem=pem, names_key=names_key))
    assert refusal(found) == "revoked"
    assert refusal(found, replace(CLAIMS, serial="1235")) is None
    assert refusal(found, replace(CLAIMS, kind=Kind.TOKEN, serial="not hexadecimal")) is None


def test_a_ca_revokes_only_what_it_issued(tmp_path: Path) -> None:
    found = load(tmp_path, crl(0x1234, authority=MIDDLE))
    assert refusal(found) is None
    assert refusal(found, BELOW) == "revoked"
    denied = Denied(keys=frozenset({KEY}), names={("laptop.mesh", None): 5})
    found = load(tmp_path, crl(authority=MIDDLE, denied=denied, number=2))
    assert refusal(found) is None
    assert refusal(found, BELOW) == "denied-key"


def test_an_intermediate_is_revoked_with_all_below_it(tmp_path: Path) -> None:
    found = load(tmp_path, crl(1))
    assert refusal(found, BELOW) == "ca-revoked"
    assert refusal(found) is None


def test_a_crl_denies_keys_and_names_up_to_a_generation(tmp_path: Path) -> None:
    denied = Denied(keys=frozenset({OTHER}), names={("laptop.mesh", None): 5})
    found = load(tmp_path, crl(denied=denied))
    assert refusal(found) == "denied-name"
    assert refusal(found, replace(CLAIMS, generation=5)) == "denied-name"
    assert refusal(found, replace(CLAIMS, generation=6)) is None
    assert refusal(found, replace(CLAIMS, generation=6, key=OTHER)) == "denied-key"
    assert refusal(found, BELOW) == "denied-name", "the root denies what is below it as well"
    found.check_key(OTHER)  # a configured key is no business of a CA's


def test_a_stale_crl_warns_and_refuses_when_strict(tmp_path: Path) -> None:
    for strict in (False, True):
        found = load(tmp_path, crl(until=NOW + DAY), strict=strict)
        assert refusal(found) is None
        assert found.stale(NOW + DAY) == ()
        (line,) = found.stale(NOW + DAY + 1)
        assert "out of date" in line
        assert refusal(found, wall=NOW + DAY + 1) == ("crl-stale" if strict else None)
        assert found.stale_at(NOW) == (NOW + DAY if strict else None)
        assert found.stale_at(NOW + DAY + 1) is None
        assert refusal(found, BELOW) == ("crl-missing" if strict else None)


def test_a_number_never_goes_back(tmp_path: Path) -> None:
    numbers: dict[bytes, int] = {}
    load(tmp_path, crl(0x1234, number=7), numbers=numbers)
    assert numbers == {CLAIMS.issuer: 7}
    load(tmp_path, crl(number=7), numbers=numbers)
    with pytest.raises(CredentialError, match="number 6, and 7 was seen") as caught:
        load(tmp_path, crl(number=6), numbers=numbers)
    assert caught.value.reason == "crl-number"
    assert numbers == {CLAIMS.issuer: 7}
    # The newest of several files counts, wherever it stands.
    found = load(tmp_path, crl(number=9), crl(0x1234, number=10), crl(number=8), numbers=numbers)
    assert refusal(found) == "revoked"
    assert numbers == {CLAIMS.issuer: 10}


def test_two_cas_of_one_name_do_not_revoke_each_other(tmp_path: Path) -> None:
    twin = replace(ROOT, key=signing_key(8))
    trust = anchors(ROOT, twin)
    claims = verify(Peer(parent=twin).der(), None, trust, NOW, KEY)
    (tmp_path / "a.crl").write_bytes(crl(0x1234, names_key=False))
    found = Revocations.load([str(tmp_path)], trust.known(), {})
    assert refusal(found) == "revoked"
    assert refusal(found, claims) is None


BAD = {
    "no CRL": (b"what is this", "malformed"),
    "nothing": (b"", "malformed"),
    "half a CRL": (crl(pem=False)[:-30], "malformed"),
    "bytes behind it": (crl(pem=False) + b"\0", "malformed"),
    "no end": (crl().replace(b"END X509", b"END OF X509"), "malformed"),
    "a changed signature": (crl(pem=False)[:-1] + b"\x00", "crl-signature"),
    "a forged signature": (
        crl(authority=replace(ROOT, key=signing_key(9)), names_key=False),
        "crl-signature",
    ),
    "no number": (crl(number=None), "crl-number"),
    "a partial list": (crl(extra=x509.DeltaCRLIndicator(1)), "critical"),
    "an indirect list": (
        crl(
            extra=x509.IssuingDistributionPoint(None, None, False, False, None, True, False),
        ),
        "critical",
    ),
}


@pytest.mark.parametrize("row", BAD)
def test_a_bad_crl_is_refused_with_its_path(tmp_path: Path, row: str) -> None:
    content, reason = BAD[row]
    with pytest.raises(CredentialError, match=r"0\.crl: ") as caught:
        load(tmp_path, content)
    assert caught.value.reason == reason


def test_a_ca_without_the_right_to_sign_crls_revokes_nothing(tmp_path: Path) -> None:
    mute = replace(ROOT, usage=key_usage(key_cert_sign=True))
    (tmp_path / "a.crl").write_bytes(crl(authority=mute))
    with pytest.raises(CredentialError, match="lacks cRLSign"):
        Revocations.load([str(tmp_path)], anchors(mute).known(), {})


def test_a_crl_of_a_stranger_is_remarked_on_and_not_used(tmp_path: Path) -> None:
    stranger = replace(ROOT, name="a stranger", key=signing_key(9))
    found = load(tmp_path, crl(0x1234, authority=stranger))
    assert refusal(found) is None
    assert [x for x in found.remarks if "not known here" in x]


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="over 256 files"):
        load(tmp_path, *[crl()] * 257)


# --- Deny lists ---


def test_a_deny_list_is_read_from_a_directory(tmp_path: Path) -> None:
    (tmp_path / "lost.deny").write_text(
        f"# stolen\nkey {OTHER}\n\nname laptop.mesh 3 # and renewed\n"
    )
    (tmp_path / "README").write_text("no list")
    found = load(tmp_path)
    assert refusal(found) == "denied-name"
    assert refusal(found, replace(CLAIMS, generation=4)) is None
    with pytest.raises(CredentialError) as caught:
        found.check_key(OTHER)
    assert caught.value.reason == "denied-key"
    assert refusal(found, replace(CLAIMS, key=OTHER)) == "denied-key"


@pytest.mark.parametrize(
    ("line", "claims", "reason"),
    [
        (f"serial {ISSUER} 1234", CLAIMS, "denied-serial"),
        (f"serial {ISSUER.upper()} 00:12:34", CLAIMS, "denied-serial"),
        (f"serial {ISSUER} 1", BELOW, "ca-revoked"),
        (f"serial {'0' * 64} 1234", CLAIMS, None),
        (
            f"serial {ISSUER} aBc-jti",
            replace(CLAIMS, kind=Kind.TOKEN, serial="aBc-jti"),
            "denied-serial",
        ),
        (f"serial {ISSUER} ABC", replace(CLAIMS, kind=Kind.TOKEN, serial="ABC"), "denied-serial"),
        ("name laptop.mesh all", CLAIMS, "denied-name"),
        (f"name laptop.mesh 1 {ISSUER}", CLAIMS, "denied-name"),
        (f"name laptop.mesh 1 {'0' * 64}", CLAIMS, None),
        ("name laptop.mesh 0", CLAIMS, None),
        ("name other.mesh all", CLAIMS, None),
        (f"key {KEY}", CLAIMS, "denied-key"),
        (f"key {OTHER}", CLAIMS, None),
    ],
)
def test_what_a_line_denies(line: str, claims: Claims, reason: str | None) -> None:
    denied = read_deny_list(line.encode())
    assert refusal(Revocations(denied=denied), claims) == reason


@pytest.mark.parametrize(
    "line",
    [
        "key",
        "key short",
        "key " + "A" * 44,
        "name laptop.mesh",
        "name Laptop.mesh 1",
        "name laptop.mesh -1",
        "name laptop.mesh many",
        "name laptop.mesh 1 00",
        "serial 1234",
        "serial 00 1234",
        f"serial {ISSUER} \x07",
        "deny everybody",
    ],
)
def test_a_wrong_line_is_named(line: str) -> None:
    with pytest.raises(CredentialError, match="line 2: ") as caught:
        read_deny_list(f"# a comment\n{line}\n".encode())
    assert caught.value.reason == "malformed"
    assert str(caught.value).isprintable()


def test_the_size_of_a_deny_list_is_bounded() -> None:
    lines = "".join(f"name n{i}.mesh 1\n" for i in range(10_001))
    with pytest.raises(CredentialError, match="10,000"):
        read_deny_list(lines.encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_refused(data: bytes) -> None:
    for read in (read_deny_list, lambda data: list(read_crl(data, KNOWN)), decode_denials):
        try:
            read(data)
        except CredentialError as error:
            assert error.reason  # noqa: PT017


def test_denials_survive_their_encoding() -> None:
    denied = Denied(frozenset({KEY, OTHER}), frozenset(), {("a.mesh", None): 3, ("b", None): 0})
    assert decode_denials(encode_denials(denied)) == denied


# --- Whether what was verified once still holds ---


def test_an_old_answer_holds_while_its_anchor_and_its_limits_do() -> None:
    certificates = Certificates(TRUST)
    assert certificates.verify(Peer().der(), None, NOW, KEY) == CLAIMS
    assert certificates.trusts(CLAIMS)
    assert certificates.trusts(BELOW)
    assert not Certificates(anchors(replace(ROOT, key=signing_key(8)))).trusts(CLAIMS)
    assert not Certificates(anchors()).trusts(BELOW)
    assert not certificates.trusts(replace(CLAIMS, groups=frozenset({"root"})))
    assert not certificates.trusts(replace(CLAIMS, name="laptop.other"))
