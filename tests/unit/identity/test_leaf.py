"""What our own reader says of a peer's certificate, beside what the library says of the same."""

import ipaddress
import warnings
from dataclasses import replace

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import certificates
from tests.support.certificates import NETWORK, ROOT, Peer, anchors, names
from tests.support.leaf_by_library import read_by_library
from wgpy.identity.certificate import verify
from wgpy.identity.claims import CredentialError
from wgpy.identity.der import SEQUENCE, contents_of
from wgpy.identity.leaf import Leaf, read_leaf
from wgpy.identity.profile import Rights
from wgpy.identity.x509der import parsing

TRUST = anchors(ROOT)
PEER = Peer()
WHOLE = PEER.der()
# One with everything beside the profile that others may write: a subject, the issuer's name and
# number, a key identifier of its own, where to find lists of what is revoked.
WORDY = replace(
    PEER,
    subject="laptop",
    names_critical=False,
    authority=x509.AuthorityKeyIdentifier(
        ROOT.key_id().digest, [x509.DirectoryName(certificates.subject(ROOT.name))], 1
    ),
    extra=(
        (x509.SubjectKeyIdentifier(bytes(20)), False),
        (
            x509.CRLDistributionPoints(
                [
                    x509.DistributionPoint(
                        [x509.UniformResourceIdentifier("http://ca.mesh/crl")], None, None, None
                    )
                ]
            ),
            False,
        ),
    ),
)


def check_against_the_library(leaf: Leaf, der: bytes) -> None:
    """Nothing is accepted that the library refuses, and all is read as it reads it."""
    try:
        with parsing():
            issuer = x509.load_der_x509_certificate(der).issuer.public_bytes()
    except CredentialError:
        # Not looked at until it has to be that of a CA, byte by byte.
        with pytest.raises(CredentialError):
            verify(der, None, TRUST, leaf.not_before, leaf.key)
        return
    assert [leaf.issuer] == contents_of(issuer, bytes((SEQUENCE,)))
    assert leaf == read_by_library(der, leaf.issuer)


LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
V4 = st.integers(1, 223).filter(lambda x: x not in (127, 169)).map(lambda x: f"{x}.1.2.3")
V6 = st.integers(0x2000, 0x3FFF).map(lambda x: f"{x:x}::1")
PEERS = st.builds(
    replace,
    st.just(PEER),
    names=st.builds(names, LABELS.map(lambda x: f"{x}.mesh"), V4, V6),
    subject=st.just(""),
    serial=st.integers(1, 2**159 - 1),
    not_before=st.integers(0, 4_000_000_000),
    not_after=st.integers(4_000_000_001, 6_000_000_000),
    rights=st.builds(Rights, st.just(NETWORK), st.integers(1, 2**63 - 1)),
    purposes=st.permutations(PEER.purposes or ()).map(tuple),
    extra=st.sampled_from(
        [
            (),
            ((x509.BasicConstraints(False, None), True),),
            ((x509.BasicConstraints(False, None), False),),
            ((x509.SubjectKeyIdentifier(bytes(20)), False),),
            ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(300)), False),),
        ]
    ),
)


@settings(max_examples=60, deadline=None)
@given(PEERS)
def test_a_good_certificate_is_read_as_the_library_reads_it(peer: Peer) -> None:
    der = peer.der()
    check_against_the_library(read_leaf(der), der)


@pytest.mark.parametrize("peer", [PEER, WORDY])
def test_what_is_changed_is_read_at_first(peer: Peer) -> None:
    der = peer.der()
    check_against_the_library(read_leaf(der), der)


@settings(max_examples=2500, deadline=None)
@given(
    st.sampled_from([WHOLE, WORDY.der()]),
    st.lists(
        st.tuples(st.integers(0, 999), st.integers(0, 255), st.integers(0, 3)),
        min_size=1,
        max_size=3,
    ),
)
def test_a_changed_certificate_is_refused_or_read_as_the_library_reads_it(
    whole: bytes, changes: list[tuple[int, int, int]]
) -> None:
    changed = bytearray(whole)
    for place, value, kind in changes:
        if kind == 0:
            del changed[place : place + value % 4]
        elif kind == 1:
            changed[place:place] = bytes((value,))
        elif place < len(changed):
            changed[place] = value
    try:
        leaf = read_leaf(bytes(changed))
    except CredentialError as error:
        if not error.reason or not str(error).isprintable():
            raise AssertionError("a refusal is not one printable line with a reason") from error
        return
    check_against_the_library(leaf, bytes(changed))


def refused(der: bytes) -> str:
    with pytest.raises(CredentialError) as caught:
        read_leaf(der)
    return caught.value.reason


def replaced(old: str, new: str) -> bytes:
    """PEER's certificate, with bytes in the place of as many others."""
    before, after = bytes.fromhex(old), bytes.fromhex(new)
    assert WHOLE.count(before) == 1
    assert len(before) == len(after)
    return WHOLE.replace(before, after)


def test_what_the_library_would_warn_of_is_refused_before_it_sees_it() -> None:
    """Nothing goes to the standard error, whatever is sent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(replaced("02021234", "0202f234")) == "malformed"
        # ecdsa-with-SHA224, which warns where it has parameters, and one that nobody knows.
        for last in ("01", "09"):
            assert refused(WHOLE.replace(_ecdsa("02"), _ecdsa(last))) == "signature"
        # The two that must be equal (RFC 5280 section 4.1.1.2).
        before, _, behind = WHOLE.rpartition(_ecdsa("02"))
        assert refused(before + _ecdsa("03") + behind) == "signature"


def _ecdsa(last: str) -> bytes:
    return bytes.fromhex(f"2a8648ce3d0403{last}")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("a003020102", "a003020101", "malformed"),  # version 2
        ("0603551d0f0101ff", "0603551d0f010100", "malformed"),  # a default that is written
        ("0603551d0f0101ff", "0603551d0f010101", "malformed"),  # true is ff in DER
        ("0603551d23", "0603551d25", "malformed"),  # the same extension twice
        ("040403020308", "040403020300", "usage"),  # no bit
        ("040403020308", "040403020008", "usage"),  # bits that do not count
    ],
)
def test_der_has_one_way_to_write_it(old: str, new: str, reason: str) -> None:
    assert refused(replaced(old, new)) == reason


def test_an_address_with_a_mask_is_none() -> None:
    network = x509.IPAddress(ipaddress.ip_network("10.7.0.0/24"))
    assert refused(replace(PEER, names=names("laptop.mesh", network)).der()) == "address"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0603550403 0c066c6170746f70", "0603550483 0c066c6170746f70"),  # an arc that does not end
        ("301d0603551d0e04160414", "301d0603551d0e04160415"),  # longer than what is left
        ("8612687474703a2f2f", "8b12687474703a2f2f"),  # no kind of name
        ("820101", "830101"),  # no part of an authorityKeyIdentifier
    ],
)
def test_what_is_of_no_use_to_us_is_read_all_the_same(old: str, new: str) -> None:
    """As the library reads it: what it refuses is refused."""
    whole, before = WORDY.der(), bytes.fromhex(old)
    assert whole.count(before) == 1
    assert refused(whole.replace(before, bytes.fromhex(new))) == "malformed"
