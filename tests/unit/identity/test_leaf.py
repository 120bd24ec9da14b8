"""What our own reader says of a peer's certificate, beside what the library says of the same."""

import ipaddress
import warnings
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.certificates import NETWORK, Peer, names
from wgpy.identity.claims import CredentialError
from wgpy.identity.der import SEQUENCE, contents_of
from wgpy.identity.leaf import Leaf, read_leaf
from wgpy.identity.profile import PEER_PURPOSE, RIGHTS, Rights, decode_rights, serial_text

PEER = Peer()
WHOLE = PEER.der()


def readable(certificate: x509.Certificate) -> bool:
    """Whether issuer and subject are names. To us the one is what it must be equal to, and the
    other nothing or something."""
    try:
        _ = certificate.issuer, certificate.subject
    except (ValueError, TypeError):
        return False
    return True


def check_against_the_library(leaf: Leaf, der: bytes) -> None:
    """Everything in `leaf` as the library's objects have it, and the profile as they see it."""
    certificate = x509.load_der_x509_certificate(der)
    extensions = certificate.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    above = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    rights = extensions.get_extension_for_oid(RIGHTS)
    assert leaf.certificate == certificate
    assert bytes(leaf.key) == certificate.public_key().public_bytes_raw()  # type: ignore[union-attr]
    assert [leaf.name] == names.value.get_values_for_type(x509.DNSName)
    assert [ipaddress.ip_address(x.address) for x in leaf.addresses] == (
        names.value.get_values_for_type(x509.IPAddress)
    )
    assert len(list(names.value)) == 1 + len(leaf.addresses)
    assert leaf.rights == decode_rights(rights.value.value)  # type: ignore[attr-defined]
    if readable(certificate):
        assert [leaf.issuer] == contents_of(certificate.issuer.public_bytes(), bytes((SEQUENCE,)))
        assert names.critical == (not list(certificate.subject))
    assert leaf.issuer_id == above.value.key_identifier
    assert leaf.serial == serial_text(certificate.serial_number)
    assert leaf.not_before == certificate.not_valid_before_utc.timestamp()
    assert leaf.not_after == certificate.not_valid_after_utc.timestamp()
    assert usage.critical
    assert usage.value == PEER.usage
    assert {x.dotted_string for x in purposes.value} == {
        "1.3.6.1.5.5.7.3.2",
        PEER_PURPOSE.dotted_string,
    }
    for extension in extensions:
        known = (ExtensionOID.BASIC_CONSTRAINTS, names.oid, usage.oid)
        assert extension.oid in known or not extension.critical


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


@settings(max_examples=1500, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), st.integers(0, 3)),
        min_size=1,
        max_size=3,
    )
)
def test_a_changed_certificate_is_refused_or_read_as_the_library_reads_it(
    changes: list[tuple[int, int, int]],
) -> None:
    changed = bytearray(WHOLE)
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
