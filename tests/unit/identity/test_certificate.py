"""Certificates that are accepted, and what they claim then."""

import ipaddress
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.certificates import (
    CONSTRAINTS,
    DAY,
    GROUPS,
    KEY,
    NETWORK,
    NOW,
    PREFIXES,
    ROOT,
    Authority,
    Peer,
    anchors,
    limits,
    names,
    signing_key,
)
from wgpy.identity.anchors import Anchors, read_authority
from wgpy.identity.certificate import verify
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.profile import Rights, decode_rights, encode_rights, is_name, under
from wgpy.identity.settings import Anchor, AuthoritySettings
from wgpy.ip import Prefix, mask, parse_prefix

PEER = Peer()
MIDDLE = Authority(
    name="an intermediate",
    key=signing_key(1),
    parent=ROOT,
    not_after=NOW + 90 * DAY,
    basic=x509.BasicConstraints(ca=True, path_length=0),
)


def test_a_good_certificate_claims_what_it_says() -> None:
    assert verify(PEER.der(), None, anchors(ROOT), NOW, KEY) == Claims(
        kind=Kind.CERTIFICATE,
        key=KEY,
        name="laptop.mesh",
        network=NETWORK,
        addresses=(parse_prefix("10.7.0.2"), parse_prefix("fd07::2")),
        groups=frozenset({"laptops"}),
        prefixes=(parse_prefix("192.168.4.0/24"),),
        generation=1,
        not_before=PEER.not_before,
        not_after=PEER.not_after,
        issuer=read_authority(ROOT.der()).spki,
        serial="1234",
    )


def test_the_intermediate_is_carried_or_known() -> None:
    leaf = Peer(parent=MIDDLE).der()
    carried = verify(leaf, MIDDLE.der(), anchors(ROOT), NOW, KEY)
    known = verify(leaf, None, anchors(ROOT, intermediates=(MIDDLE,)), NOW, KEY)
    both = verify(leaf, MIDDLE.der(), anchors(ROOT, intermediates=(MIDDLE,)), NOW, KEY)
    assert carried == known == both
    assert carried.issuer == read_authority(MIDDLE.der()).spki
    assert carried.chain == ((read_authority(ROOT.der()).spki, "01"),)


def test_a_subject_is_allowed_beside_names_that_are_not_critical() -> None:
    leaf = replace(PEER, subject="a laptop", names_critical=False)
    assert verify(leaf.der(), None, anchors(ROOT), NOW, KEY).name == "laptop.mesh"


def test_an_extension_of_others_is_no_matter_while_it_is_not_critical() -> None:
    other = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    leaf = replace(PEER, extra=((other, False), (x509.BasicConstraints(False, None), True)))
    assert verify(leaf.der(), None, anchors(ROOT), NOW, KEY).name == "laptop.mesh"


@pytest.mark.parametrize(
    ("wall", "good"),
    [
        (PEER.not_before - 301, False),
        (PEER.not_before - 300, True),
        (PEER.not_before, True),
        (PEER.not_after, True),
        (PEER.not_after + 1, False),
    ],
)
def test_early_by_five_minutes_is_forgiven_and_late_is_not(wall: float, good: bool) -> None:
    if good:
        assert verify(PEER.der(), None, anchors(ROOT), wall, KEY).not_before == PEER.not_before
    else:
        with pytest.raises(CredentialError):
            verify(PEER.der(), None, anchors(ROOT), wall, KEY)


@pytest.mark.parametrize("begins", [0, 1, 30, 59, 60])
@pytest.mark.parametrize("asked", [0, 0.5, 30, 59.9, 60, 61])
def test_a_certificate_and_its_ca_may_begin_within_the_minute(begins: float, asked: float) -> None:
    """The standard verifier is asked as of a minute's beginning, or of the leaf's."""
    root = replace(ROOT, not_before=NOW + begins)
    leaf = replace(PEER, parent=root, not_before=NOW + begins)
    claims = verify(leaf.der(), None, anchors(root), NOW + asked, KEY)
    assert claims.not_before == NOW + begins


def test_two_roots_stand_side_by_side_in_a_rotation() -> None:
    new = replace(ROOT, key=signing_key(7))  # of the very same name
    trust = anchors(ROOT, new)
    old_claims = verify(PEER.der(), None, trust, NOW, KEY)
    new_claims = verify(Peer(parent=new).der(), None, trust, NOW, KEY)
    assert old_claims.issuer != new_claims.issuer
    assert replace(old_claims, issuer=b"") == replace(new_claims, issuer=b"")


def test_a_renewed_ca_with_the_same_key_stands_beside_the_old_one() -> None:
    renewed = replace(ROOT, not_before=NOW - 1, not_after=NOW + 3_650 * DAY)
    leaf = replace(PEER, not_before=NOW, not_after=NOW + 900 * DAY)
    for order in ((ROOT, renewed), (renewed, ROOT)):
        assert verify(leaf.der(), None, anchors(*order), NOW, KEY).not_after == leaf.not_after
        assert verify(PEER.der(), None, anchors(*order), NOW, KEY).not_after == PEER.not_after


def test_a_ca_for_one_version_of_ip_excludes_the_other() -> None:
    kept = [x for x in CONSTRAINTS.permitted_subtrees or () if ":" not in str(x.value)]
    every = x509.IPAddress(ipaddress.ip_network("::/0"))
    root = replace(ROOT, constraints=x509.NameConstraints(kept, [every]))
    four = replace(PEER, parent=root, names=names("laptop.mesh", "10.7.0.2"))
    assert verify(four.der(), None, anchors(root), NOW, KEY).addresses[0].version == 4
    with pytest.raises(CredentialError, match="an address"):
        verify(Peer(parent=root).der(), None, anchors(root), NOW, KEY)


# --- Loading ---


def settings_for(tmp_path: Path, *pems: bytes, between: tuple[str, ...] = ()) -> AuthoritySettings:
    paths = []
    for number, pem in enumerate(pems):
        path = tmp_path / f"root{number}.pem"
        path.write_bytes(pem)
        paths.append(Anchor(str(path)))
    return AuthoritySettings(NETWORK, (parse_prefix("10.7.0.0/16"),), tuple(paths), between)


def test_anchors_and_intermediates_come_from_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "between").mkdir()
    (tmp_path / "between" / "one.pem").write_bytes(MIDDLE.pem())
    (tmp_path / "between" / "README").write_text("no certificate")
    single = tmp_path / "two.der"
    single.write_bytes(replace(MIDDLE, key=signing_key(2)).der())
    trust = Anchors.load(
        settings_for(
            tmp_path, ROOT.pem(), ROOT.der(), between=(str(tmp_path / "between"), str(single))
        )
    )
    assert len(trust.anchors) == len(trust.intermediates) == 2
    assert verify(Peer(parent=MIDDLE).der(), None, trust, NOW, KEY).name == "laptop.mesh"


def test_what_is_wrong_with_a_file_is_told_with_its_path(tmp_path: Path) -> None:
    for content, text in (
        (b"no certificate", "root0.pem: the certificate cannot be read"),
        (ROOT.pem() * 2, "root0.pem: it must hold one certificate"),
        (MIDDLE.pem(), "root0.pem: it is an intermediate"),
        (b"\0" * 70_000, "root0.pem: it is over"),
    ):
        with pytest.raises(CredentialError, match=text):
            Anchors.load(settings_for(tmp_path, content))
    orphan = tmp_path / "orphan.pem"
    orphan.write_bytes(replace(MIDDLE, parent=replace(ROOT, key=signing_key(3))).pem())
    with pytest.raises(CredentialError, match=r"orphan\.pem: no trust anchor here has signed it"):
        Anchors.load(settings_for(tmp_path, ROOT.pem(), between=(str(orphan),)))
    with pytest.raises(FileNotFoundError):
        Anchors.load(settings_for(tmp_path, ROOT.pem(), between=(str(tmp_path / "none"),)))


def test_there_is_a_bound_on_what_is_trusted() -> None:
    root = read_authority(ROOT.der(), limits())
    with pytest.raises(CredentialError, match="more than 16"):
        Anchors(NETWORK, [root] * 17)


# --- Our extension ---

ADDRESSES = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    address = draw(ADDRESSES)
    length = draw(st.integers(0, 8 * len(address)))
    return Prefix(mask(address, length), length)


RIGHTS = st.builds(
    Rights,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**63 - 1),
    st.lists(st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True), max_size=16, unique=True).map(
        tuple
    ),
    st.lists(prefixes(), max_size=16, unique=True).map(tuple),
)


def read_rights(der: bytes) -> Rights | None:
    """The rights, or None where they are refused."""
    try:
        return decode_rights(der)
    except CredentialError:
        return None


@given(RIGHTS)
def test_rights_survive_their_encoding(rights: Rights) -> None:
    assert decode_rights(encode_rights(rights)) == rights


@given(st.binary(max_size=120))
def test_rights_have_one_encoding(der: bytes) -> None:
    rights = read_rights(der)
    assert rights is None or encode_rights(rights) == der


@given(RIGHTS, st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_changes_the_rights_or_is_refused(
    rights: Rights, place: int, change: int
) -> None:
    der = bytearray(encode_rights(rights))
    der[place % len(der)] ^= change
    assert read_rights(bytes(der)) != rights


@pytest.mark.parametrize(
    "wrong",
    [
        Rights(bytes(15), 1),
        Rights(NETWORK, -1),
        Rights(NETWORK, 2**63),
        Rights(NETWORK, 1, ("a", "a")),
        Rights(NETWORK, 1, ("",)),
        Rights(NETWORK, 1, tuple(map(str, range(17)))),
        Rights(NETWORK, 1, (), (Prefix(bytes(4), 33),)),
        Rights(NETWORK, 1, (), tuple(Prefix(bytes([i, 0, 0, 0]), 8) for i in range(17))),
    ],
)
def test_wrong_rights_are_not_written_either(wrong: Rights) -> None:
    with pytest.raises(CredentialError):
        encode_rights(wrong)


@given(st.text(max_size=80))
def test_a_name_is_plain(text: str) -> None:
    if is_name(text):
        assert text.isascii()
        assert text == text.lower().strip(".")
        assert "*" not in text
        assert under(f"a.{text}", (text,))
        assert not under(f"a{text}", (text,))


# --- Whatever the bytes ---

WHOLE = PEER.der()
TRUST = anchors(ROOT)


@settings(max_examples=300)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255), st.integers(0, 2))
def test_a_changed_certificate_is_refused_and_nothing_else_is_raised(
    place: int, change: int, kind: int
) -> None:
    changed = bytearray(WHOLE)
    if kind == 0:
        changed[place] ^= change
    elif kind == 1:
        del changed[place : place + change]
    else:
        changed[place:place] = bytes(change)
    with pytest.raises(CredentialError) as caught:
        verify(bytes(changed), None, TRUST, NOW, KEY)
    assert caught.value.reason


@given(st.binary(max_size=300), st.one_of(st.none(), st.binary(max_size=300)))
def test_any_bytes_are_refused(leaf: bytes, intermediate: bytes | None) -> None:
    with pytest.raises(CredentialError):
        verify(leaf, intermediate, TRUST, NOW, KEY)
    if intermediate is not None:
        with pytest.raises(CredentialError):
            verify(WHOLE, intermediate, TRUST, NOW, KEY)


def test_every_subset_of_the_rights_above_is_good() -> None:
    for count in range(len(GROUPS) + 1):
        for groups in itertools.combinations(GROUPS, count):
            leaf = replace(PEER, rights=Rights(NETWORK, 1, groups, PREFIXES))
            assert verify(leaf.der(), None, TRUST, NOW, KEY).groups == frozenset(groups)
