"""Every kind of bad credential in a 0x10: refused for a reason of its own, and with silence.

One row for each. A caller sends one initiation, whose handshake is right; the gate must log the
reason, count it, and put nothing on the wire. tests/unit/identity/ has the finer kinds of each.
"""

import ipaddress
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support import certificates, tokens
from tests.support.certificates import GROUPS, NETWORK, PREFIXES, Authority, key_usage, names
from tests.support.fake_network import World
from tests.support.office import DAY, ROOT, START, Caller, Office, counter, leaf
from tests.support.tokens import HEADER, P256, SIGNER, cnf, compact
from wgpy.device.uapi import DeviceChange, UapiError
from wgpy.identity.jose import b64encode
from wgpy.identity.profile import PEER_PURPOSE, Rights
from wgpy.identity.settings import Anchor, TokenIssuer
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey, PublicKey
from wgpy.protocol.credential_payload import Offer, OfferKind

MIDDLE = Authority(
    name="an intermediate",
    key=certificates.signing_key(1),
    parent=ROOT,
    not_before=ROOT.not_before,
    not_after=START + 90 * DAY,
    basic=x509.BasicConstraints(ca=True, path_length=0),
    # Short, so that it fits into a datagram beside a leaf.
    rights=Rights(NETWORK, 0, ("laptops",), ()),
)
BELOW = replace(MIDDLE, name="below it", key=certificates.signing_key(2), parent=MIDDLE)
OTHER_ROOT = replace(ROOT, key=certificates.signing_key(9))
UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


class Desk:
    """A gate that trusts a root and an issuer of tokens, and who calls it."""

    def __init__(self, directory: Path) -> None:
        self.office = Office(World(), directory)
        jwks = tokens.jwks_file(directory / "jwks.json", SIGNER, P256)
        limits = replace(tokens.LIMITS, networks=(parse_prefix("10.7.0.0/16"),))
        self.settings = self.office.authority(issuers=(TokenIssuer(jwks, limits),))
        self.trust()
        self.caller = Caller(self.office)

    def trust(self, **changes: object) -> None:
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        self.office.gate.device.apply(DeviceChange(authority=settings))

    def revoke(self, name: str, data: bytes) -> None:
        (self.office.directory / "crl" / name).write_bytes(data)
        self.office.gate.device.files_changed()

    # What is offered.

    def leaf(self, name: str = "laptop.mesh", **changes: object) -> Offer:
        return self.caller.certificate(name, **changes)

    def below(self, parent: Authority, carried: Authority | None = None) -> Offer:
        """A leaf of an intermediate, which is carried, or else another."""
        made = leaf(self.caller, "laptop.mesh", parent=parent)
        return Offer(OfferKind.CERTIFICATE, made.der(), (carried or parent).der())

    def token(self, *, own: dict[str, object] | None = None, **changes: object) -> Offer:
        return Offer(OfferKind.TOKEN, compact(HEADER, self.claims(own=own, **changes)))

    def claims(self, *, own: dict[str, object] | None = None, **changes: object) -> dict:
        """A good token's claims, with something changed; None takes one away."""
        claims = tokens.peer_payload()
        claims |= {"iat": int(START), "exp": int(START + 3600), "cnf": cnf(self.caller.key)}
        claims["wgpy"] |= {"addr": ["10.7.0.66"], "routes": []} | (own or {})
        claims["wgpy"] = {k: v for k, v in claims["wgpy"].items() if v is not None}
        return {k: v for k, v in (claims | changes).items() if v is not None}

    def headed(self, **changes: object) -> Offer:
        header = {k: v for k, v in (HEADER | changes).items() if v is not None}
        return Offer(OfferKind.TOKEN, compact(header, self.claims()))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def held(desk: Desk, number: int, name: str, inner: str, generation: int = 1) -> None:
    """Somebody else has been in by this name and address before."""
    other = Caller(desk.office, number)
    other.inner = inner
    other.enter(other.certificate(name, generation=generation))
    desk.office.world.run(1)


def wide(**changes: object) -> Rights:
    return replace(Rights(NETWORK, 1, ("laptops",), ()), **changes)  # type: ignore[arg-type]


def second_spelling(key: PublicKey) -> PublicKey:
    raw = bytearray(bytes(key))
    raw[31] |= 0x80
    return PublicKey(bytes(raw))


def ecdsa() -> object:
    return ec.derive_private_key(7, ec.SECP256R1()).public_key()


def edwards() -> object:
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()


Row = Callable[[Desk], Offer | bytes | None]

# What is offered, by the reason for which it must be refused.
CERTIFICATES: dict[str, tuple[str, Row]] = {
    # What the issue of every day brings.
    "expired": ("expired", lambda d: d.leaf(not_after=START - 1)),
    "not yet valid": ("not-yet-valid", lambda d: d.leaf(not_before=START + 400)),
    "wrong CA": ("unknown-issuer", lambda d: d.leaf(parent=OTHER_ROOT)),
    "wrong CA that says it is ours": (
        "signature",
        lambda d: d.leaf(parent=OTHER_ROOT, authority=certificates.authority_key_id(ROOT)),
    ),
    "wrong key": ("key-mismatch", lambda d: d.leaf(key=PrivateKey(bytes([5]) * 32).public())),
    "wrong network": ("network", lambda d: d.leaf(rights=wide(network=bytes(16)))),
    "a name outside the constraints": ("constraints", lambda d: d.leaf("laptop.other")),
    "an address outside the constraints": (
        "constraints",
        lambda d: d.leaf(names=names("laptop.mesh", "10.8.0.1")),
    ),
    "unknown critical extension": ("critical", lambda d: d.leaf(extra=(UNKNOWN,))),
    "over-long chain": ("chain-length", lambda d: _known(d, MIDDLE, d.below(BELOW))),
    "groups that the CA has not": ("groups", lambda d: d.leaf(rights=wide(groups=("root",)))),
    "prefixes that the CA has not": (
        "prefixes",
        lambda d: d.leaf(rights=wide(prefixes=(parse_prefix("172.16.0.0/12"),))),
    ),
    "revoked": ("revoked", lambda d: _revoked(d, ROOT, 0x1001, d.leaf())),
    "revoked, its CA": (
        "ca-revoked",
        lambda d: _revoked(d, ROOT, 1, _known(d, MIDDLE, d.below(MIDDLE))),
    ),
    "denied, its key": (
        "denied-key",
        lambda d: _denied(d, f"key {d.caller.key.base64()}", d.leaf()),
    ),
    "denied, its name": ("denied-name", lambda d: _denied(d, "name laptop.mesh 1", d.leaf())),
    "no CRL, and strict": ("crl-missing", lambda d: d.trust(strict=True) or d.leaf()),
    "malformed DER": ("malformed", lambda d: Offer(OfferKind.CERTIFICATE, b"\x30\x03\x02\x01")),
    "bytes behind the DER": (
        "malformed",
        lambda d: Offer(OfferKind.CERTIFICATE, d.leaf().body + b"\0"),
    ),
    "a changed signature": ("signature", lambda d: _flipped(d.leaf())),
    # What the standard verifier takes.
    "a key of ECDSA": ("key-kind", lambda d: d.leaf(key=ecdsa())),
    "a key of Ed25519": ("key-kind", lambda d: d.leaf(key=edwards())),
    "a key of zeros": ("key-order", lambda d: d.leaf(key=PublicKey(bytes(32)))),
    "bit 255 of the key": ("key-encoding", lambda d: d.leaf(key=second_spelling(d.caller.key))),
    "no extended key usage": ("purpose", lambda d: d.leaf(purposes=None)),
    "any purpose": (
        "purpose",
        lambda d: d.leaf(purposes=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, PEER_PURPOSE)),
    ),
    "a server as well": (
        "purpose",
        lambda d: d.leaf(purposes=(CLIENT, PEER_PURPOSE, ExtendedKeyUsageOID.SERVER_AUTH)),
    ),
    "no key usage": ("usage", lambda d: d.leaf(usage=None)),
    "a key usage that says more": (
        "usage",
        lambda d: d.leaf(usage=key_usage(key_agreement=True, digital_signature=True)),
    ),
    "no name": ("name-count", lambda d: d.leaf(names=names("10.7.0.66"))),
    "no names at all": ("name", lambda d: d.leaf(names=None)),
    "a wildcard": ("name", lambda d: d.leaf("*.mesh")),
    "several names": (
        "name-count",
        lambda d: d.leaf(names=names("laptop.mesh", "tower.mesh", "10.7.0.66")),
    ),
    "a mail address": (
        "name-kind",
        lambda d: d.leaf(names=names("laptop.mesh", "10.7.0.66", x509.RFC822Name("a@b.mesh"))),
    ),
    "a multicast address": (
        "address",
        lambda d: d.leaf(names=names("laptop.mesh", x509.IPAddress(_ip("224.0.0.1")))),
    ),
    "a leaf that outlives its CA": (
        "outlives-ca",
        lambda d: d.leaf(not_after=ROOT.not_after + DAY),
    ),
    "a CA as a peer": (
        "is-a-ca",
        lambda d: d.leaf(extra=((x509.BasicConstraints(True, None), True),)),
    ),
    "no authority key identifier": ("no-key-id", lambda d: d.leaf(has_authority=False)),
    "no extension of ours": ("no-rights", lambda d: d.leaf(rights=None)),
    "generation 0": ("generation", lambda d: d.leaf(rights=wide(generation=0))),
    "a peer in the place of its CA": (
        "not-a-ca",
        lambda d: d.below(
            MIDDLE, replace(MIDDLE, basic=x509.BasicConstraints(ca=False, path_length=None))
        ),
    ),
    "an intermediate that carries nothing of ours": (
        "ca-no-rights",
        lambda d: d.below(replace(MIDDLE, rights=None)),
    ),
    # What this interface says.
    "not in a required group": (
        "group-required",
        lambda d: d.trust(require_groups=("admins",)) or d.leaf(),
    ),
    "an address that is not accepted": (
        "not-accepted",
        lambda d: d.trust(accept=(parse_prefix("10.7.1.0/24"),)) or d.leaf(),
    ),
    "an address of ours": (
        "own-address",
        lambda d: _ours(d, "10.7.0.66/32") or d.leaf(),
    ),
    # Who was here before.
    "another's address": (
        "address-reserved",
        lambda d: held(d, 61, "tower.mesh", "10.7.0.66") or d.leaf(),
    ),
    "an older generation": (
        "old-generation",
        lambda d: held(d, 61, "laptop.mesh", "10.7.0.66", 5) or d.leaf(generation=4),
    ),
    "the same generation of another key": (
        "key-conflict",
        lambda d: held(d, 61, "laptop.mesh", "10.7.0.66", 5) or d.leaf(generation=5),
    ),
    "another issuer's name": (
        "other-issuer",
        lambda d: held(d, 61, "laptop.mesh", "10.7.0.66") or d.token(own={"gen": 9}),
    ),
}

TOKENS: dict[str, tuple[str, Row]] = {
    "alg none": (
        "alg-none",
        lambda d: Offer(OfferKind.TOKEN, _unsigned(d, {**HEADER, "alg": "none"})),
    ),
    "alg HS256 with the public key": ("wrong-alg", lambda d: d.headed(alg="HS256")),
    "alg of another key": ("wrong-alg", lambda d: d.headed(kid="p256")),
    "wrong kid": ("unknown-kid", lambda d: d.headed(kid="nobody")),
    "wrong typ": ("wrong-typ", lambda d: d.headed(typ="JWT")),
    "a key that it brings along": ("wrong-header", lambda d: d.headed(jwk={"kty": "OKP"})),
    "wrong aud": ("wrong-aud", lambda d: d.token(aud=bytes(16).hex(), own={"net": None})),
    "wrong net": ("wrong-network", lambda d: d.token(own={"net": bytes(16).hex()})),
    "wrong cnf": ("wrong-cnf", lambda d: d.token(cnf=cnf(tokens.OTHER))),
    "no cnf": ("no-cnf", lambda d: d.token(cnf=None)),
    "cnf with bit 255": ("key-encoding", lambda d: d.token(cnf=cnf(second_spelling(d.caller.key)))),
    "to enrol": (
        "wrong-use",
        lambda d: d.token(jti="once", own={"use": "enrol", "gen": None, "addr": None}),
    ),
    "a jti": ("unexpected-jti", lambda d: d.token(jti="once")),
    "expired": ("expired", lambda d: d.token(exp=int(START) - 1)),
    "not yet valid": ("not-yet-valid", lambda d: d.token(nbf=int(START) + 400)),
    "no end": ("no-exp", lambda d: d.token(exp=None)),
    "a time that is no number": ("bad-time", lambda d: d.token(exp="tomorrow")),
    "another's signature": (
        "bad-signature",
        lambda d: Offer(OfferKind.TOKEN, compact({**HEADER}, d.claims(), _stranger())),
    ),
    "no claims of ours": ("no-claims", lambda d: d.token(wgpy=None)),
    "a claim that is not understood": ("unknown-claim", lambda d: d.token(own={"only": "x"})),
    "no JSON": (
        "malformed",
        lambda d: Offer(OfferKind.TOKEN, compact(HEADER, b"{")),
    ),
    "a name in capitals": ("bad-name", lambda d: d.token(sub="Laptop.mesh")),
    "no address": ("no-address", lambda d: d.token(own={"addr": []})),
    "a network as address": ("bad-address", lambda d: d.token(own={"addr": ["10.7.0.0/24"]})),
    "no generation": ("bad-generation", lambda d: d.token(own={"gen": None})),
    "a group of no name": ("bad-group", lambda d: d.token(own={"groups": ["UP"]})),
    "a name that its issuer may not give": (
        "name-not-permitted",
        lambda d: d.token(sub="laptop.other"),
    ),
    "an address that its issuer may not give": (
        "network-not-permitted",
        lambda d: d.token(own={"addr": ["10.8.0.1"]}),
    ),
    "a group that its issuer may not give": (
        "group-not-permitted",
        lambda d: d.token(own={"groups": ["root"]}),
    ),
    "denied, its name": ("denied-name", lambda d: _denied(d, "name laptop.mesh 3", d.token())),
}


NAME = b"\x81" + len(b"gate.mesh").to_bytes(2, "little") + b"gate.mesh"

# What the handshake itself says: none of it reaches the authority.
MESSAGES: dict[str, tuple[str, Row]] = {
    "a certificate in the place of a token": (
        "malformed",
        lambda d: d.caller.sealed(
            b"\x01" + NETWORK + NAME + _field(0x84, d.leaf().body[:700]),
        ),
    ),
    "another version": ("version", lambda d: d.caller.sealed(b"\x02" + NETWORK + NAME)),
    "a field that must be understood": (
        "malformed",
        lambda d: d.caller.sealed(b"\x01" + NETWORK + NAME + _field(0x90, b"?")),
    ),
    "fields in the wrong order": (
        "malformed",
        lambda d: d.caller.sealed(b"\x01" + NETWORK + _field(0x82, d.leaf().body) + NAME),
    ),
    "a field twice": ("malformed", lambda d: d.caller.sealed(b"\x01" + NETWORK + NAME + NAME)),
    "a field that breaks off": (
        "malformed",
        lambda d: d.caller.sealed(b"\x01" + NETWORK + b"\x82\xff\xff"),
    ),
    "padding that is not zeros": (
        "malformed",
        lambda d: d.caller.sealed(b"\x01" + NETWORK + NAME + b"\x00\x01"),
    ),
    "a certificate and a token": (
        "malformed",
        lambda d: d.caller.sealed(
            b"\x01" + NETWORK + NAME + _field(0x82, b"\x30\x00") + _field(0x84, b"a.b.c")
        ),
    ),
    "another network": (
        "wrong_network",
        lambda d: d.caller.initiation(d.leaf(), network=bytes(16)),
    ),
    "another name": ("wrong_name", lambda d: d.caller.initiation(d.leaf(), wanted="door.mesh")),
    "no name, of one who has a name": (
        "wrong_name",
        lambda d: d.caller.initiation(d.leaf(), wanted=None),
    ),
    "no credential": ("no_credential", lambda d: d.caller.initiation(None)),
    "a stamp ten minutes ahead": ("future_timestamp", lambda d: _ahead(d, 600.0)),
}


def _field(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "little") + value


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


def _ahead(desk: Desk, seconds: float) -> bytes:
    world = desk.office.world
    world.wall_step = seconds
    data = desk.caller.initiation(desk.leaf())
    world.wall_step = 0.0
    return data


def _stranger() -> tokens.Signer:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"another key, and it has 32 bytes")
    return tokens.Signer(key, "ed")


def _unsigned(desk: Desk, header: dict[str, object]) -> bytes:
    parts = (json.dumps(part).encode() for part in (header, desk.claims()))
    return ".".join([*map(b64encode, parts), b64encode(bytes(64))]).encode()


def _flipped(offer: Offer) -> Offer:
    body = bytearray(offer.body)
    body[-5] ^= 1
    return replace(offer, body=bytes(body))


def _known(desk: Desk, middle: Authority, offer: Offer) -> Offer:
    """The gate knows an intermediate by itself."""
    path = desk.office.directory / "middle.pem"
    path.write_bytes(middle.pem())
    desk.trust(intermediates=(str(path),))
    return offer


def _revoked(desk: Desk, authority: Authority, serial: int, offer: Offer) -> Offer:
    desk.revoke("one.pem", certificates.crl(serial, authority=authority, until=START + DAY))
    return offer


def _denied(desk: Desk, line: str, offer: Offer) -> Offer:
    desk.revoke("mine.deny", line.encode() + b"\n")
    return offer


def _ours(desk: Desk, prefix: str) -> None:
    desk.office.gate.device.set_addresses((parse_prefix(prefix),), ())


def rows() -> Iterator[object]:
    for kind, table in (
        ("certificate", CERTIFICATES),
        ("token", TOKENS),
        ("message", MESSAGES),
    ):
        for name, (reason, row) in table.items():
            yield pytest.param(reason, row, id=f"{kind}: {name}")


@pytest.mark.parametrize(("reason", "row"), list(rows()))
def test_it_is_refused_for_its_reason_and_in_silence(
    desk: Desk, caplog: pytest.LogCaptureFixture, reason: str, row: Row
) -> None:
    offered = row(desk)
    data = offered if isinstance(offered, bytes) else desk.caller.initiation(offered)
    before = counter(desk.office.gate, f"credential_{reason}")
    peers = len(desk.office.gate.device._peers)
    caplog.clear()
    caplog.set_level(logging.INFO)
    desk.caller.send(data)
    desk.office.world.run(7)
    told = [record.getMessage() for record in caplog.records if "not let in" in record.message]
    who = f"{desk.caller.key.base64()} at {desk.caller.address} is not let in: "
    assert len(told) == 1
    assert told[0].startswith(who)
    assert told[0].endswith(f" ({reason})")
    assert counter(desk.office.gate, f"credential_{reason}") == before + 1
    assert desk.caller.answers() == []
    assert len(desk.office.gate.device._peers) == peers


def test_every_row_is_right_but_for_one_thing(desk: Desk) -> None:
    """The same caller with nothing changed comes in, by a certificate and by a token."""
    for offer in (desk.leaf(), desk.token(sub="tower.mesh", own={"addr": ["10.7.0.67"]})):
        desk.caller.enter(offer)
        (peer,) = desk.office.gate.device.state().peers
        assert peer.admitted
        desk.office.gate.device._remove(desk.office.gate.device._peers.by_key[peer.public_key])
        desk.office.world.run(1)
    desk.caller.inner = "10.7.0.68"
    desk.caller.enter(_known(desk, MIDDLE, desk.caller.certificate("third.mesh", parent=MIDDLE)))
    assert len(desk.office.gate.device.state().peers) == 1


@pytest.mark.parametrize(
    ("reason", "anchor"),
    [
        ("no critical name constraints", replace(ROOT, constraints=None)),
        ("are not critical", replace(ROOT, constraints_critical=False)),
        ("lacks the extension", replace(ROOT, rights=None)),
        (
            "it is the CA of another network",
            replace(ROOT, rights=Rights(bytes(16), 0, GROUPS, PREFIXES)),
        ),
        ("it is an intermediate", MIDDLE),
        ("it is no CA", replace(ROOT, basic=x509.BasicConstraints(False, None))),
    ],
    ids=["unconstrained", "not critical", "no rights", "network", "intermediate", "no CA"],
)
def test_what_is_no_anchor_is_never_put_into_force(
    desk: Desk, reason: str, anchor: Authority
) -> None:
    path = desk.office.directory / "anchor.pem"
    path.write_bytes(anchor.pem())
    with pytest.raises(UapiError, match=reason):
        desk.trust(anchors=(Anchor(str(path)),))
    desk.caller.enter()
    assert len(desk.office.gate.device.state().peers) == 1, "the former anchor still counts"


# --- What does not even prove a key: counters alone, for anybody could fill a log with it ---


def test_a_static_key_in_a_second_spelling_is_dropped(desk: Desk) -> None:
    """K and K with bit 255 set share every secret, and would be two peers."""
    desk.caller.peer.remote.local.key_pair.public_bytes = bytes(second_spelling(desk.caller.key))
    desk.caller.call(desk.leaf())
    assert counter(desk.office.gate, "credential_second_spelling") == 1
    assert desk.caller.answers() == []


def test_a_spent_token_and_one_to_enrol_are_no_peer_s(desk: Desk) -> None:
    """A token to enrol is a bearer's, and opens nothing here, spent or not."""
    offer = desk.token(jti="once", own={"use": "enrol", "gen": None, "addr": None})
    authority = desk.office.gate.device._admissions._trust.authority  # type: ignore[union-attr]
    assert authority is not None
    found = authority.examine_enrolment(desk.caller.key, offer.body, START)
    assert authority.spend(found, desk.caller.key, START)
    desk.caller.call(offer)
    desk.caller.call(offer, wanted=None)
    assert desk.caller.answers() == []
    assert desk.office.gate.device.state().peers == []


def test_a_replay_is_not_answered_from_anywhere(desk: Desk) -> None:
    data = desk.caller.initiation(desk.leaf())
    desk.caller.send(data)
    desk.office.world.run(0.1)
    desk.caller.confirm()
    answers = len(desk.caller.answers())
    for address in (desk.caller.address, "192.0.2.99"):
        desk.office.world.transmit(address, desk.office.gate.address, data)
        desk.office.world.run(1)
    assert len(desk.caller.answers()) == answers
    assert counter(desk.office.gate, "credential_replayed_timestamp") == 2
    assert len(desk.office.gate.device.state().peers) == 1
