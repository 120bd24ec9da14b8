"""Credentials that are no good, shown to a real daemon: silence on the wire, a reason in log and
counters. A stranger plays the initiator, so that it can show anything."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.support import certificates, tokens
from tests.support.capture import Capture
from tests.support.certificates import (
    DAY,
    MINUTE,
    NETWORK,
    Authority,
    Peer,
    authority_key_id,
    names,
    signing_key,
)
from tests.support.mesh import GATE, IDENTITY, Bearer, Machine, Site, put
from tests.support.mesh import Authority as Ca
from tests.support.tunnel import PORT
from wgpy.identity.jose import b64encode
from wgpy.identity.profile import Rights
from wgpy.keys import PrivateKey, PublicKey
from wgpy.protocol.credential_payload import Offer, OfferKind
from wgpy.protocol.handshake import Local
from wgpy.protocol.peer import Peer as Shaking

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd", "wg", "ip")]

START = float(int(time.time()))
ROOT = Authority(not_before=START - DAY, not_after=START + 30 * DAY)
STRANGER = replace(ROOT, name="a stranger", key=signing_key(9))
FORGER = replace(ROOT, key=signing_key(8))
REVOKED = 0x666
# The daemon writes ten refusals a second to its log, at the most.
PACE = 0.11


@dataclass(frozen=True, slots=True)
class Shown:
    """What an initiator says of itself."""

    offer: Offer | None
    network: bytes = NETWORK
    wanted: str | None = "gate.mesh"


def leaf(holder: PublicKey, **changes: Any) -> Peer:
    """A good certificate, but for what is changed."""
    made = Peer(
        parent=ROOT,
        key=holder,
        names=names("laptop.mesh", "10.7.0.2"),
        rights=Rights(NETWORK, 1, ("laptops",), ()),
        not_before=START - 5 * MINUTE,
        not_after=START + DAY,
    )
    return replace(made, **changes)


def by(**changes: Any) -> Callable[[PublicKey], Shown]:
    """Shows such a certificate."""
    return lambda key: Shown(Offer(OfferKind.CERTIFICATE, leaf(key, **changes).der()))


def rights(network: bytes = NETWORK, groups: tuple[str, ...] = ("laptops",)) -> Rights:
    return Rights(network, 1, groups, ())


def token(key: PublicKey, **changes: Any) -> bytes:
    """A good token, but for what is changed."""
    own = {"addr": ["10.7.0.4"], "routes": None, **changes.pop("own", {})}
    bound = changes.pop("cnf", tokens.cnf(key))
    claims = {"iat": int(START) - 300, "exp": int(START) + 3600, **changes}
    return tokens.made(own=own, cnf=bound, **claims)


def bears(**changes: Any) -> Callable[[PublicKey], Shown]:
    """Shows such a token."""
    return lambda key: Shown(Offer(OfferKind.TOKEN, token(key, **changes)))


def with_header(**changes: Any) -> Callable[[PublicKey], Shown]:
    """Shows a token whose header is another, so that its signature fits no more."""

    def show(key: PublicKey) -> Shown:
        first, _, rest = token(key).partition(b".")
        head = b'{"alg":"%s", "kid":"%s","typ":"wgpy+jwt"}' % (
            changes.get("alg", "EdDSA").encode(),
            changes.get("kid", "ed").encode(),
        )
        assert first
        return Shown(Offer(OfferKind.TOKEN, b64encode(head).encode() + b"." + rest))

    return show


def offering(kind: OfferKind, body: bytes) -> Callable[[PublicKey], Shown]:
    return lambda key: Shown(Offer(kind, body))


OTHER = PrivateKey(bytes(range(2, 34))).public()
UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)

# (the counter without "credential_", words of the log, what is shown)
REFUSED: list[tuple[str, str, Callable[[PublicKey], Shown]]] = [
    ("expired", "it expired at", by(not_before=START - DAY / 2, not_after=START - MINUTE)),
    ("not-yet-valid", "it is not valid before", by(not_before=START + 3600)),
    ("unknown-issuer", "its CA is not known here", by(parent=STRANGER)),
    ("signature", "a signature in its chain", by(parent=FORGER, authority=authority_key_id(ROOT))),
    ("key-mismatch", "for another key", by(key=OTHER)),
    ("network", "its network is not that", by(rights=rights(bytes(16)))),
    ("constraints", "its name is not one", by(names=names("laptop.elsewhere", "10.7.0.2"))),
    ("not-accepted", "`accept`", by(names=names("laptop.mesh", "10.7.9.2"))),
    ("own-address", "our own", by(names=names("laptop.mesh", GATE))),
    ("groups", "it has a group", by(rights=rights(groups=("laptops", "root")))),
    ("group-required", "laptops", by(rights=rights(groups=("admins",)))),
    ("no-rights", "it lacks the extension", by(rights=None)),
    ("critical", "1.2.3.4 is unknown", by(extra=(UNKNOWN,))),
    ("outlives-ca", "when a CA above it is not", by(not_after=START + 60 * DAY)),
    ("name-count", "2 DNS names", by(names=names("laptop.mesh", "desk.mesh", "10.7.0.2"))),
    ("name", "its DNS name", by(names=names("*.mesh", "10.7.0.2"))),
    ("key-kind", "not an X25519 key", by(key=signing_key(3).public_key())),
    ("purpose", "its extendedKeyUsage", by(purposes=None)),
    ("revoked", "revoked", by(serial=REVOKED)),
    ("malformed", "cannot be read", offering(OfferKind.CERTIFICATE, b"\x30\x03\x02\x01\x01")),
    ("alg-none", "it is not signed", with_header(alg="none")),
    ("wrong-alg", "says otherwise", with_header(alg="ES256")),
    ("unknown-kid", "has its kid", with_header(kid="somebody")),
    ("bad-signature", "did not sign this", with_header()),
    ("wrong-aud", "another network", bears(aud="00" * 16)),
    ("wrong-cnf", "another key", bears(cnf=tokens.cnf(OTHER))),
    ("no-cnf", "cnf.jwk", bears(cnf=None)),
    ("wrong-use", "its use is not", bears(own={"use": "enrol", "gen": None}, jti="once")),
    ("network-not-permitted", "10.9.0.4/32", bears(own={"addr": ["10.9.0.4"]})),
    # Dropped before anybody looks at the credential, which is in order.
    ("wrong_network", "", lambda key: replace(by()(key), network=bytes(16))),
    ("wrong_name", "", lambda key: replace(by()(key), wanted="other.mesh")),
    ("wrong_name", "", lambda key: replace(by()(key), wanted=None)),
    ("no_credential", "", lambda key: Shown(None)),
]
# Reasons of the table that only the counters tell.
UNTOLD = {"wrong_network", "wrong_name", "no_credential"}


@pytest.fixture(scope="module")
def bearer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ca, Bearer]:
    ca = Ca(tmp_path_factory.mktemp("ca"))
    return ca, ca.issue("gate.mesh", GATE)


@pytest.fixture
def site(clean_machine: None, bearer: tuple[Ca, Bearer], tmp_path: Path) -> Iterator[Site]:
    with Site(bearer[0].certificate, tmp_path) as made:
        yield made


def open_gate(site: Site, bearer: Bearer, directory: Path) -> Machine:
    """A gate that trusts a CA and an issuer of tokens whose keys are ours."""
    (directory / "root.pem").write_bytes(ROOT.pem())
    jwks = tokens.jwks_file(directory / "issuer.jwks", tokens.SIGNER)
    gate = site.place(bearer)
    put(gate.directory / "crl" / "one.crl", certificates.crl(REVOKED, authority=ROOT))
    gate.start(
        f'[authority]\nnetwork = "{NETWORK.hex()}"\naccept = "10.7.0.0/24"\ncrl = "crl"\n'
        f'ca = ["ca.pem", "{directory / "root.pem"}"]\nrequire_groups = "laptops"\n'
        f'[[authority.token_issuer]]\njwks = "{jwks}"\nnames = "mesh"\n'
        'networks = "10.7.0.0/16"\ngroups = "laptops"\n',
        IDENTITY,
    )
    return gate


def initiation(gate: Bearer, private: PrivateKey, shown: Shown) -> bytes:
    """A 0x10 as the holder of a key makes it."""
    return Shaking(Local(private), gate.public, None, lambda: 0.0).credential_initiation(
        index=7,
        network=shown.network,
        wanted=shown.wanted,
        offer=shown.offer,
        random=os.urandom,
        wall_ns=time.time_ns(),
        now=0.0,
    )


def test_each_is_refused_in_silence(site: Site, bearer: tuple[Ca, Bearer], tmp_path: Path) -> None:
    gate = open_gate(site, bearer[1], tmp_path)
    space, at = site.wire("stranger")
    with (
        space.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        Capture(space, space.link) as capture,
    ):
        stranger.settimeout(10)
        stranger.connect((at, PORT))
        for reason, words, show in REFUSED:
            private = PrivateKey.generate()
            before = gate.counter(f"credential_{reason}")
            stranger.send(initiation(bearer[1], private, show(private.public())))
            gate.counted(f"credential_{reason}", before + 1)
            assert gate.counter(f"credential_{reason}") == before + 1
            line = f"{private.public().base64()} at 10.91.0.2 is not let in: "
            if reason not in UNTOLD:
                said = gate.log().partition(line)[2].partition("\n")[0]
                assert said, f"{reason} is not in the log"
                assert words in said
            time.sleep(PACE)
        assert gate.admitted() == set()
        assert gate.state().peers == []
        # The same stranger, with nothing wrong: now there is an answer, and it is the first.
        private = PrivateKey.generate()
        stranger.send(initiation(bearer[1], private, by()(private.public())))
        answer = stranger.recv(2000)
    assert (answer[0], len(answer)) == (0x11, 1200)
    from_gate = [
        frame
        for _, frame in capture.frames
        if frame[12:14] == b"\x08\x00" and frame[26:30] == bytes([10, 91, 0, 1])
    ]
    assert [frame[42:] for frame in from_gate] == [answer], "nothing else was ever sent"
    assert gate.admitted() == set(), "who only asks is nobody"
