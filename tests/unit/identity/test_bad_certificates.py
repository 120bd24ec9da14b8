"""Every kind of bad certificate: one row for each, refused with a reason of its own.

The rows change one thing in a chain that is accepted, and most of them the standard verifier takes.
"""

import ipaddress
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x448
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.certificates import (
    CONSTRAINTS,
    DAY,
    GROUPS,
    KEY,
    MINUTE,
    NETWORK,
    NOW,
    PREFIXES,
    ROOT,
    Authority,
    Peer,
    anchors,
    authority_key_id,
    key_usage,
    limits,
    names,
    raw_rights,
    signing_key,
)
from tests.support.requirements import ROOT as TOP
from wgpy.identity.anchors import Anchors, read_authority
from wgpy.identity.certificate import verify
from wgpy.identity.claims import CredentialError
from wgpy.identity.profile import PEER_PURPOSE, Rights, encode_rights
from wgpy.ip import parse_prefix
from wgpy.keys import PublicKey

PEER = Peer()
MIDDLE = Authority(
    name="an intermediate",
    key=signing_key(1),
    parent=ROOT,
    not_after=NOW + 90 * DAY,
    basic=x509.BasicConstraints(ca=True, path_length=0),
)
RIGHTS = Rights(NETWORK, 1, ("laptops",), (parse_prefix("192.168.4.0/24"),))
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
STRANGER = Authority(key=signing_key(9))
EDWARDS = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))

LOW_ORDER = json.loads((TOP / "keys" / "x25519.json").read_text())


def refused(
    leaf: bytes,
    *trusted: Authority,
    carried: Authority | None = None,
    known: tuple[Authority, ...] = (),
    wall: float = NOW,
    key: PublicKey = KEY,
    network: bytes = NETWORK,
) -> str:
    """The reason for which a certificate is refused; its text is one line without a secret."""
    trust = anchors(*(trusted or (ROOT,)), intermediates=known, network=network)
    with pytest.raises(CredentialError) as caught:
        verify(leaf, carried.der() if carried else None, trust, wall, key)
    assert str(caught.value).isprintable()
    return caught.value.reason


def with_names(*entries: x509.GeneralName | str) -> bytes:
    return replace(PEER, names=names(*entries)).der()


def with_rights(**changes: object) -> bytes:
    return replace(PEER, rights=replace(RIGHTS, **changes)).der()  # type: ignore[arg-type]


def with_der(der: bytes) -> bytes:
    return replace(PEER, rights=raw_rights(der)).der()


def with_key(raw: bytes) -> str:
    key = PublicKey(raw)
    return refused(replace(PEER, key=key).der(), key=key)


def constrained(*subtrees: str, excluded: tuple[str, ...] = ()) -> x509.NameConstraints:
    def parse(text: str) -> x509.GeneralName:
        if "/" in text:
            return x509.IPAddress(ipaddress.ip_network(text))
        return x509.DNSName(text)

    return x509.NameConstraints(
        [parse(x) for x in subtrees] or None, [parse(x) for x in excluded] or None
    )


GOOD_RIGHTS = encode_rights(RIGHTS)
FIRST_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
TWO_ABOVE = Authority(name="below", key=signing_key(2), parent=MIDDLE, not_after=NOW + 30 * DAY)
# The serial number 0x1234 as it stands in a certificate.
SERIAL = b"\x02\x02\x12\x34"

ROWS: dict[str, tuple[str, Callable[[], str]]] = {
    # Time.
    "expired": ("expired", lambda: refused(PEER.der(), wall=PEER.not_after + 1)),
    "not yet valid": (
        "not-yet-valid",
        lambda: refused(PEER.der(), wall=PEER.not_before - 301),
    ),
    "ends before it begins": (
        "validity",
        lambda: refused(_swapped_times(), wall=NOW),
    ),
    "outlives its CA": (
        "outlives-ca",
        lambda: refused(replace(PEER, not_after=ROOT.not_after + 1).der()),
    ),
    "begins before its CA": (
        "outlives-ca",
        lambda: refused(replace(PEER, not_before=ROOT.not_before - 1).der()),
    ),
    "outlives the root, and not the intermediate": (
        "outlives-ca",
        lambda: refused(
            Peer(
                parent=replace(MIDDLE, not_after=NOW + 900 * DAY), not_after=NOW + 800 * DAY
            ).der(),
            carried=replace(MIDDLE, not_after=NOW + 900 * DAY),
        ),
    ),
    "a CA that is expired": (
        "ca-expired",
        lambda: refused(
            replace(PEER, not_after=NOW + 900 * DAY).der(), wall=ROOT.not_after + MINUTE
        ),
    ),
    # The issuer.
    "a CA of the same name": ("unknown-issuer", lambda: refused(Peer(parent=STRANGER).der())),
    "a CA that says that it is ours": (
        "signature",
        lambda: refused(Peer(parent=STRANGER, authority=authority_key_id(ROOT)).der()),
    ),
    "our CA's key under another name": (
        "unknown-issuer",
        lambda: refused(Peer(parent=replace(ROOT, name="another")).der()),
    ),
    "a changed signature": ("signature", lambda: refused(_flipped(PEER.der(), -5))),
    "a changed name": (
        "signature",
        lambda: refused(PEER.der().replace(b"laptop.mesh", b"laptoq.mesh")),
    ),
    "no authority key id": ("no-key-id", lambda: refused(replace(PEER, has_authority=False).der())),
    "an authority by name and serial": (
        "no-key-id",
        lambda: refused(
            replace(
                PEER,
                authority=x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(x509.Name([]))], 1),
            ).der()
        ),
    ),
    "an intermediate that nobody carries": (
        "unknown-issuer",
        lambda: refused(Peer(parent=MIDDLE).der()),
    ),
    "an intermediate of a stranger": (
        "unknown-issuer",
        lambda: refused(
            Peer(parent=replace(MIDDLE, parent=STRANGER)).der(),
            carried=replace(MIDDLE, parent=STRANGER),
        ),
    ),
    "an intermediate that forged its signature": (
        "signature",
        lambda: refused(Peer(parent=MIDDLE).der(), carried=FORGED),
    ),
    "a chain of three": (
        "chain-length",
        lambda: refused(Peer(parent=TWO_ABOVE).der(), carried=TWO_ABOVE, known=(MIDDLE,)),
    ),
    "an intermediate below a root of path length 0": (
        "chain",
        lambda: refused(
            Peer(parent=SHORT_MIDDLE).der(), SHORT_MIDDLE.parent or ROOT, carried=SHORT_MIDDLE
        ),
    ),
    "a peer as intermediate": (
        "not-a-ca",
        lambda: refused(
            Peer(parent=MIDDLE).der(),
            carried=replace(MIDDLE, basic=x509.BasicConstraints(False, None)),
        ),
    ),
    "an intermediate that is no certificate": (
        "malformed",
        lambda: _refused_intermediate(b"\x30\x03\x02\x01\x01"),
    ),
    # The key.
    "another peer's key": (
        "key-mismatch",
        lambda: refused(PEER.der(), key=PublicKey(bytes([9]) + bytes(31))),
    ),
    "an ECDSA key": ("key-kind", lambda: refused(replace(PEER, key=_ecdsa()).der())),
    "an Ed25519 key": (
        "key-kind",
        lambda: refused(replace(PEER, key=EDWARDS.public_key()).der()),
    ),
    "an X448 key": (
        "key-kind",
        lambda: refused(
            replace(PEER, key=x448.X448PrivateKey.from_private_bytes(bytes(56)).public_key()).der()
        ),
    ),
    "a key of zeros": ("key-order", lambda: with_key(bytes(32))),
    "a key of ones, beyond p": ("key-encoding", lambda: with_key(b"\xff" * 32)),
    "the same key with bit 255 set": (
        "key-encoding",
        lambda: with_key(bytes(KEY)[:31] + bytes([bytes(KEY)[31] | 0x80])),
    ),
    "the key p": ("key-encoding", lambda: with_key((2**255 - 19).to_bytes(32, "little"))),
    # What it may be used for.
    "no key usage": ("usage", lambda: refused(replace(PEER, usage=None).der())),
    "a key usage that is not critical": (
        "usage",
        lambda: refused(replace(PEER, usage_critical=False).der()),
    ),
    "a key usage that says more": (
        "usage",
        lambda: refused(
            replace(PEER, usage=key_usage(key_agreement=True, digital_signature=True)).der()
        ),
    ),
    "no extended key usage": ("purpose", lambda: refused(replace(PEER, purposes=None).der())),
    "a web client": ("purpose", lambda: refused(replace(PEER, purposes=(FIRST_CLIENT,)).der())),
    "our purpose alone": (
        "purpose",
        lambda: refused(replace(PEER, purposes=(PEER_PURPOSE,)).der()),
    ),
    "any purpose": (
        "purpose",
        lambda: refused(
            replace(PEER, purposes=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, PEER_PURPOSE)).der()
        ),
    ),
    "a web server as well": (
        "purpose",
        lambda: refused(
            replace(
                PEER, purposes=(FIRST_CLIENT, PEER_PURPOSE, ExtendedKeyUsageOID.SERVER_AUTH)
            ).der()
        ),
    ),
    "a critical extended key usage": (
        "critical",
        lambda: refused(replace(PEER, purposes_critical=True).der()),
    ),
    "a CA as a peer": (
        "is-a-ca",
        lambda: refused(replace(PEER, extra=((x509.BasicConstraints(True, None), True),)).der()),
    ),
    "an unknown critical extension": (
        "critical",
        lambda: refused(replace(PEER, extra=((UNKNOWN, True),)).der()),
    ),
    "critical name constraints in a leaf": (
        "critical",
        lambda: refused(replace(PEER, extra=((CONSTRAINTS, True),)).der()),
    ),
    # Names and addresses.
    "no subject alternative name": ("name", lambda: refused(replace(PEER, names=None).der())),
    "no DNS name": ("name-count", lambda: refused(with_names("10.7.0.2"))),
    "two DNS names": ("name-count", lambda: refused(with_names("a.mesh", "b.mesh", "10.7.0.2"))),
    "a wildcard": ("name", lambda: refused(with_names("*.mesh", "10.7.0.2"))),
    "capital letters": ("name", lambda: refused(with_names("Laptop.mesh", "10.7.0.2"))),
    "a final dot": ("name", lambda: refused(with_names("laptop.mesh.", "10.7.0.2"))),
    "an empty label": ("name", lambda: refused(with_names("laptop..mesh", "10.7.0.2"))),
    "an underscore": ("name", lambda: refused(with_names("my_laptop.mesh", "10.7.0.2"))),
    "a hyphen in front": ("name", lambda: refused(with_names("-laptop.mesh", "10.7.0.2"))),
    "a label of 64": ("name", lambda: refused(with_names("a" * 64 + ".mesh", "10.7.0.2"))),
    "a name of 254": ("name", lambda: refused(with_names("ab." * 83 + ".mesh", "10.7.0.2"))),
    "a name that is an address": (
        "name",
        lambda: refused(with_names(x509.DNSName("10.7.0.2"), "10.7.0.2")),
    ),
    "an empty name": ("name", lambda: refused(with_names(x509.DNSName(""), "10.7.0.2"))),
    "a mail address": (
        "name-kind",
        lambda: refused(with_names("laptop.mesh", "10.7.0.2", x509.RFC822Name("a@b.mesh"))),
    ),
    "a URI": (
        "name-kind",
        lambda: refused(
            with_names(x509.UniformResourceIdentifier("https://a.mesh/"), "laptop.mesh", "10.7.0.2")
        ),
    ),
    "a directory name": (
        "name-kind",
        lambda: refused(
            with_names(
                x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])),
                "laptop.mesh",
                "10.7.0.2",
            )
        ),
    ),
    "another name": (
        "name-kind",
        lambda: refused(
            with_names(
                x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
                "laptop.mesh",
                "10.7.0.2",
            )
        ),
    ),
    "no address": ("address-count", lambda: refused(with_names("laptop.mesh"))),
    "three addresses": (
        "address-count",
        lambda: refused(with_names("laptop.mesh", "10.7.0.2", "10.7.0.3", "10.7.0.4")),
    ),
    "one address twice": (
        "address-count",
        lambda: refused(with_names("laptop.mesh", "10.7.0.2", "10.7.0.2")),
    ),
    "names that are critical beside a subject": (
        "name-critical",
        lambda: refused(replace(PEER, subject="laptop").der()),
    ),
    "names that are not critical beside no subject": (
        "name-critical",
        lambda: refused(replace(PEER, names_critical=False).der()),
    ),
    "a name outside the constraints": (
        "constraints",
        lambda: refused(with_names("laptop.other", "10.7.0.2")),
    ),
    "a name that only ends as the constraint does": (
        "constraints",
        lambda: refused(with_names("laptop.notmesh", "10.7.0.2")),
    ),
    "an IPv4 address outside the constraints": (
        "constraints",
        lambda: refused(with_names("laptop.mesh", "10.8.0.2")),
    ),
    "an IPv6 address outside the constraints": (
        "constraints",
        lambda: refused(with_names("laptop.mesh", "10.7.0.2", "fd08::2")),
    ),
    "a name outside the intermediate's constraints": (
        "constraints",
        lambda: refused(Peer(parent=NARROW).der(), carried=NARROW),
    ),
    "an address that is excluded": (
        "constraints",
        lambda: refused(Peer(parent=EXCLUDING).der(), EXCLUDING),
    ),
    # Network, generation, groups, prefixes.
    "no extension of ours": ("no-rights", lambda: refused(replace(PEER, rights=None).der())),
    "our extension as critical": (
        "critical",
        lambda: refused(replace(PEER, rights_critical=True).der()),
    ),
    "another network than its CA": ("network", lambda: refused(with_rights(network=bytes(16)))),
    "a CA of another network": (
        "network",
        lambda: refused(Peer(parent=ELSEWHERE).der(), carried=ELSEWHERE),
    ),
    "generation 0": ("generation", lambda: refused(with_rights(generation=0))),
    "a group that its CA has not": ("groups", lambda: refused(with_rights(groups=("root",)))),
    "a group that only the intermediate has": (
        "groups",
        lambda: refused(Peer(parent=GREEDY).der(), carried=GREEDY),
    ),
    "a group that the intermediate has not": (
        "groups",
        lambda: refused(Peer(parent=MODEST).der(), carried=MODEST),
    ),
    "an intermediate without our extension": (
        "ca-no-rights",
        lambda: refused(
            Peer(parent=replace(MIDDLE, rights=None)).der(), carried=replace(MIDDLE, rights=None)
        ),
    ),
    "a prefix that its CA has not": (
        "prefixes",
        lambda: refused(with_rights(prefixes=(parse_prefix("172.16.0.0/24"),))),
    ),
    "a prefix wider than its CA's": (
        "prefixes",
        lambda: refused(with_rights(prefixes=(parse_prefix("192.0.0.0/8"),))),
    ),
    "a default route": (
        "prefixes",
        lambda: refused(with_rights(prefixes=(parse_prefix("0.0.0.0/0"),))),
    ),
    "rights: bytes behind them": ("rights", lambda: refused(with_der(GOOD_RIGHTS + b"\0"))),
    "rights: cut off": ("rights", lambda: refused(with_der(GOOD_RIGHTS[:-1]))),
    "rights: nothing": ("rights", lambda: refused(with_der(b""))),
    "rights: a long form of a short length": (
        "rights",
        lambda: refused(with_der(b"\x30\x81" + GOOD_RIGHTS[1:])),
    ),
    "rights: a negative generation": (
        "rights",
        lambda: refused(with_der(GOOD_RIGHTS.replace(b"\x02\x01\x01", b"\x02\x01\xff"))),
    ),
    "rights: a group with a capital": (
        "rights",
        lambda: refused(with_der(GOOD_RIGHTS.replace(b"laptops", b"Laptops"))),
    ),
    "rights: a group that is no UTF-8": (
        "rights",
        lambda: refused(with_der(GOOD_RIGHTS.replace(b"laptops", b"lap\xffops"))),
    ),
    "rights: host bits in a prefix": (
        "rights",
        lambda: refused(with_der(GOOD_RIGHTS.replace(b"\xc0\xa8\x04\x00", b"\xc0\xa8\x04\x01"))),
    ),
    "rights: a prefix of 33 bits": (
        "rights",
        lambda: refused(with_der(GOOD_RIGHTS[:-1] + b"\x21")),
    ),
    "rights: a short network": (
        "rights",
        lambda: refused(with_der(bytes.fromhex("300a0403000000020101300030 00".replace(" ", "")))),
    ),
    # What is no certificate of ours at all.
    "nothing": ("malformed", lambda: refused(b"")),
    "half a certificate": ("malformed", lambda: refused(PEER.der()[:200])),
    "a byte behind it": ("malformed", lambda: refused(PEER.der() + b"\0")),
    "PEM in the place of DER": ("malformed", lambda: refused(PEER.pem())),
    "a token in the place of a certificate": (
        "malformed",
        lambda: refused(b"eyJ0eXAiOiJ3Z3B5K2p3dCJ9.eyJzdWIiOiJhIn0.c2ln"),
    ),
    "a negative serial number": (
        "malformed",
        lambda: refused(PEER.der().replace(SERIAL, b"\x02\x02\xf2\x34", 1)),
    ),
    "9,000 bytes": (
        "malformed",
        lambda: refused(
            replace(
                PEER,
                extra=(
                    (
                        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(9_000)),
                        False,
                    ),
                ),
            ).der()
        ),
    ),
}
for unsuitable in (
    "0.0.0.0",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.5",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "ff02::1",
    "::ffff:10.7.0.2",
):
    ROWS[f"the address {unsuitable}"] = (
        "address",
        lambda text=unsuitable: refused(with_names("laptop.mesh", text)),  # type: ignore[misc]
    )

FORGED = replace(MIDDLE, parent=STRANGER, parent_id=authority_key_id(ROOT))
SHORT_MIDDLE = replace(
    MIDDLE, parent=replace(ROOT, name="short", basic=x509.BasicConstraints(True, 0))
)
NARROW = replace(MIDDLE, constraints=constrained("coordinator.mesh", "10.7.0.0/16", "fd07::/64"))
EXCLUDING = replace(
    ROOT,
    constraints=constrained("mesh", "10.7.0.0/16", "fd07::/64", excluded=("10.7.0.0/24",)),
)
ELSEWHERE = replace(MIDDLE, rights=Rights(bytes(16), 0, GROUPS, PREFIXES))
GREEDY = replace(MIDDLE, rights=Rights(NETWORK, 0, (*GROUPS, "root"), PREFIXES))
MODEST = replace(MIDDLE, rights=Rights(NETWORK, 0, ("admins",), PREFIXES))


def _flipped(der: bytes, place: int) -> bytes:
    changed = bytearray(der)
    changed[place] ^= 1
    return bytes(changed)


def _swapped_times() -> bytes:
    """The library's builder refuses to make one, so both times are swapped afterwards."""
    der = PEER.der()
    start = der.index(b"\x17\x0d")
    first, second = der[start : start + 15], der[start + 15 : start + 30]
    return der.replace(first + second, second + first)


def _ecdsa() -> ec.EllipticCurvePublicKey:
    return signing_key(5).public_key()


def _refused_intermediate(der: bytes) -> str:
    with pytest.raises(CredentialError) as caught:
        verify(Peer(parent=MIDDLE).der(), der, anchors(ROOT), NOW, KEY)
    return caught.value.reason


@pytest.mark.parametrize("row", ROWS)
def test_a_bad_certificate_is_refused_for_its_own_reason(row: str) -> None:
    reason, refuse = ROWS[row]
    assert refuse() == reason


@pytest.mark.parametrize("point", LOW_ORDER["low_order"])
def test_every_spelling_of_a_weak_key_is_refused(point: str) -> None:
    assert with_key(bytes.fromhex(point)) in ("key-order", "key-encoding")


# --- What may not be a trust anchor ---

ANCHORS: dict[str, tuple[str, Authority]] = {
    "an intermediate": ("anchor-not-self-signed", MIDDLE),
    "a forged signature of its own": (
        "anchor-not-self-signed",
        replace(MIDDLE, parent=replace(STRANGER, name=MIDDLE.name)),
    ),
    "no constraints": ("anchor-unconstrained", replace(ROOT, constraints=None)),
    "constraints for names only": (
        "anchor-unconstrained",
        replace(ROOT, constraints=constrained("mesh")),
    ),
    "constraints for addresses only": (
        "anchor-unconstrained",
        replace(ROOT, constraints=constrained("10.7.0.0/16", "fd07::/64")),
    ),
    "constraints for IPv4 only": (
        "anchor-unconstrained",
        replace(ROOT, constraints=constrained("mesh", "10.7.0.0/16")),
    ),
    "constraints for IPv6 only": (
        "anchor-unconstrained",
        replace(ROOT, constraints=constrained("mesh", "fd07::/64")),
    ),
    "constraints that are not critical": (
        "constraints-not-critical",
        replace(ROOT, constraints_critical=False),
    ),
    "a constraint with a leading dot": (
        "malformed",
        replace(ROOT, constraints=constrained(".mesh", "10.7.0.0/16", "fd07::/64")),
    ),
    "no extension of ours": ("anchor-no-rights", replace(ROOT, rights=None)),
    "another network": ("network", replace(ROOT, rights=Rights(bytes(16), 0))),
    "no basic constraints": ("not-a-ca", replace(ROOT, basic=None)),
    "no CA": ("not-a-ca", replace(ROOT, basic=x509.BasicConstraints(False, None))),
    "no key usage": ("not-a-ca", replace(ROOT, usage=None)),
    "no right to sign": ("not-a-ca", replace(ROOT, usage=key_usage(crl_sign=True))),
    "no key id": ("no-key-id", replace(ROOT, has_key_id=False)),
    "an Ed25519 key": ("ca-key", replace(ROOT, key=EDWARDS)),
    "a key on another curve": (
        "ca-key",
        replace(ROOT, key=ec.derive_private_key(77, ec.SECP256K1())),
    ),
    "an unknown critical extension": ("critical", replace(ROOT, extra=((UNKNOWN, True),))),
}


@pytest.mark.parametrize("row", ANCHORS)
def test_what_is_no_trust_anchor_is_refused(row: str) -> None:
    reason, authority = ANCHORS[row]
    with pytest.raises(CredentialError) as caught:
        anchors(authority)
    assert caught.value.reason == reason


def test_stated_limits_take_the_place_of_constraints_and_not_of_the_signature() -> None:
    bare = replace(ROOT, constraints=None, rights=None)
    leaf = replace(PEER, parent=bare, rights=Rights(NETWORK, 1, ("laptops",)))
    trust = anchors(bare, limits=limits())
    assert verify(leaf.der(), None, trust, NOW, KEY).name == "laptop.mesh"

    def reason(changed: Peer, trust: Anchors = trust) -> str:
        with pytest.raises(CredentialError) as caught:
            verify(changed.der(), None, trust, NOW, KEY)
        return caught.value.reason

    assert reason(replace(leaf, names=names("laptop.other", "10.7.0.2"))) == "constraints"
    assert reason(replace(leaf, names=names("laptop.mesh", "10.8.0.2"))) == "constraints"
    assert reason(replace(leaf, rights=Rights(NETWORK, 1, ("root",)))) == "groups"
    assert reason(replace(leaf, rights=Rights(bytes(16), 1))) == "network"
    assert reason(replace(leaf, rights=RIGHTS)) == "prefixes"
    assert reason(leaf, anchors(bare, limits=limits(names=()))) == "constraints"
    assert reason(leaf, anchors(bare, limits=limits(networks=()))) == "constraints"
    assert reason(leaf, anchors(bare, limits=limits(groups=()))) == "groups"
    # Where the CA says something itself, both hold.
    both = anchors(ROOT, limits=limits(groups=("admins",)))
    assert reason(PEER, both) == "groups"
    with pytest.raises(CredentialError, match="intermediate"):
        anchors(MIDDLE, limits=limits())


def test_an_intermediate_that_no_anchor_signed_is_not_known() -> None:
    for wrong, reason in ((STRANGER, "unknown-issuer"), (FORGED, "signature")):
        with pytest.raises(CredentialError) as caught:
            anchors(ROOT, intermediates=(wrong,))
        assert caught.value.reason == reason
    pretending = read_authority(_flipped(MIDDLE.der(), -5))
    with pytest.raises(CredentialError) as caught:
        Anchors(NETWORK, [read_authority(ROOT.der())], [pretending])
    assert caught.value.reason == "signature"
