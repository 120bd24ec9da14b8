"""Any bytes as a 0x10 or a 0x11, sealed or not: a device with an authority raises nothing, admits
nobody by them, and lets in who is honest afterwards."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import tokens
from tests.support.certificates import NETWORK
from tests.support.fake_network import Machine, World
from tests.support.office import START, Caller, Office, admitted
from tests.support.tokens import HEADER, LIMITS, SIGNER, cnf, compact, peer_payload
from wgpy.device.uapi import DeviceChange
from wgpy.identity.settings import TokenIssuer
from wgpy.keys import PrivateKey
from wgpy.protocol.constants import TYPE_CREDENTIAL_INITIATION, TYPE_CREDENTIAL_RESPONSE
from wgpy.protocol.cookie import CookieGenerator
from wgpy.protocol.credential import parse_credential_initiation
from wgpy.protocol.credential_handshake import read
from wgpy.protocol.credential_payload import Offer, OfferKind
from wgpy.protocol.handshake import Local, Remote

# Each example lives on one office, which must bear them all.
hostile = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Where bytes are changed, and by what.
changes = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=6, unique=True
)
body = st.binary(max_size=1052)


class Siege:
    """An office with an issuer of tokens as well, and callers who are each a key of their own."""

    def __init__(self, directory: Path) -> None:
        self.office = Office(World(), directory)
        jwks = tokens.jwks_file(directory / "jwks.json", SIGNER)
        settings = self.office.authority(issuers=(TokenIssuer(jwks, LIMITS),))
        self.office.gate.device.apply(DeviceChange(authority=settings))
        self.number = itertools.count(1)

    def caller(self) -> Caller:
        """A new key, at another address each time: nobody pays for who came before."""
        number = next(self.number)
        private = PrivateKey(number.to_bytes(32, "big"))
        return Caller(self.office, 20 + number % 200, private)

    def holds(self) -> None:
        """Nobody is in, nothing waits, and an honest caller comes in."""
        self.office.world.run(6)
        gate = self.office.gate
        assert admitted(gate) == {}
        assert len(gate.device._peers) == 0
        honest = self.caller()
        honest.enter(honest.certificate(f"honest{next(self.number)}.mesh"))
        (peer,) = admitted(gate)
        gate.device._remove(gate.device._peers.by_key[peer])


@pytest.fixture
def siege(tmp_path: Path) -> Siege:
    return Siege(tmp_path)


def changed(data: bytes, where: list[tuple[int, int]]) -> bytes:
    result = bytearray(data)
    for place, mask in where:
        result[place % len(result)] ^= mask
    return bytes(result)


@hostile
@given(kind=st.sampled_from([0x10, 0x11]), data=st.binary(max_size=1300))
def test_raw_bytes(siege: Siege, kind: int, data: bytes) -> None:
    caller = siege.caller()
    for raw in (bytes([kind, 0, 0, 0]) + data, data, data.ljust(1200, b"\0")[:1200]):
        caller.send(raw)
        with_macs = caller.peer.cookie.add_macs(bytes([kind, 0, 0, 0]) + data, 0.0)
        caller.send(with_macs)
    siege.office.world.run(0.2)
    assert admitted(siege.office.gate) == {}


@hostile
@given(where=changes)
def test_an_initiation_with_bytes_changed(siege: Siege, where: list[tuple[int, int]]) -> None:
    caller = siege.caller()
    honest = caller.initiation(caller.certificate())
    caller.send(changed(honest, where))
    # With both its macs right, behind the type.
    caller.send(caller.peer.cookie.add_macs(honest[:4] + changed(honest[4:-32], where), 0.0))
    siege.office.world.run(0.2)
    assert admitted(siege.office.gate) == {}


@hostile
@given(payload=body, version=st.booleans())
def test_any_payload_that_is_sealed(siege: Siege, payload: bytes, version: bool) -> None:
    caller = siege.caller()
    head = b"\x01" + NETWORK + b"\x81\x09\x00gate.mesh" if version else b""
    caller.send(caller.sealed((head + payload)[:1052]))
    siege.office.world.run(0.2)
    assert caller.answers() == []


@hostile
@given(where=changes, intermediate=st.none() | st.binary(min_size=1, max_size=300))
def test_a_certificate_with_bytes_changed(
    siege: Siege, where: list[tuple[int, int]], intermediate: bytes | None
) -> None:
    caller = siege.caller()
    good = caller.certificate().body
    offer = Offer(OfferKind.CERTIFICATE, changed(good, where), intermediate)
    caller.call(offer)
    assert caller.answers() == []


@hostile
@given(
    text=st.one_of(
        st.from_regex(rb"\A[A-Za-z0-9_-]{1,200}\.[A-Za-z0-9_-]{1,200}\.[A-Za-z0-9_-]{86}\Z"),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=4), part),
            max_leaves=8,
        ),
    ),
    place=st.sampled_from(["sub", "aud", "exp", "nbf", "cnf", "wgpy", "jti", "kid", "alg"]),
)
def test_a_token_of_any_text_or_with_any_claim(siege: Siege, text: object, place: str) -> None:
    caller = siege.caller()
    if isinstance(text, bytes):
        data = text
    else:
        good = peer_payload() | {"iat": int(START), "exp": int(START) + 60, "cnf": cnf(caller.key)}
        header = {**HEADER, **({place: text} if place in HEADER else {})}
        data = compact(header, {**good, **({} if place in HEADER else {place: text})})
    if 0 < len(data) <= 700:
        caller.call(Offer(OfferKind.TOKEN, data))
    assert caller.answers() == [], "its address lies in no `accept` network, if all else is right"


def test_the_gate_stands_after_all_of_it(siege: Siege) -> None:
    """What the tests above send, sent to one gate, from keys that it has refused before."""
    attempts: list[Callable[[Caller], bytes]] = [
        lambda c: c.sealed(b""),
        lambda c: c.sealed(b"\x01" + NETWORK),
        lambda c: c.sealed(b"\x01" + NETWORK + b"\x82\x00\x00"),
        lambda c: c.initiation(None),
        lambda c: c.initiation(c.certificate(serial=1), wanted="x.mesh"),
        lambda c: c.initiation(Offer(OfferKind.CERTIFICATE, b"\x30")),
        lambda c: c.initiation(Offer(OfferKind.TOKEN, b"a.b.c")),
    ]
    for _ in range(3):
        for attempt in attempts:
            caller = siege.caller()
            for _ in range(2):
                caller.send(attempt(caller))
                siege.office.world.run(0.1)
        siege.holds()


# --- The other way: a responder that is an enemy, though its key is right ---


class Called:
    """A laptop that calls the gate, whose answers a test makes."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.laptop = office.machine("192.0.2.2", "laptop.mesh")
        office.knows_gate(self.laptop)
        self.gate = Local(office.gate.private)
        # The true gate hears nothing.
        office.gate.device.set_up(False)
        self.macs = CookieGenerator(self.laptop.private.public())

    def initiation(self) -> bytes:
        """The latest 0x10 of the laptop."""
        self.laptop.send(self.office.gate)
        self.office.world.run(6)
        log = self.office.world.log
        # The gate's answers are ours to make, with any first byte.
        sent = [
            x.data
            for x in log
            if x.source == self.laptop.address and x.kind == TYPE_CREDENTIAL_INITIATION
        ]
        return sent[-1]

    def answer(self, payload: bytes) -> bytes:
        """An authentic 0x11 with any payload."""
        responder = read(self.gate, parse_credential_initiation(self.initiation()))
        responder.authenticate(Remote(self.gate, self.laptop.private.public(), None))
        random = self.office.world.random.randbytes(32)
        message, _keys = responder._answer(TYPE_CREDENTIAL_RESPONSE, 5, random, payload)
        return self.macs.add_macs(message, 0.0)

    def send(self, data: bytes) -> None:
        self.office.world.transmit(self.office.gate.address, self.laptop.address, data)
        self.office.world.run(0.1)


@pytest.fixture
def called(tmp_path: Path) -> Called:
    return Called(Office(World(), tmp_path))


def untouched(laptop: Machine) -> bool:
    (peer,) = laptop.device.state().peers
    return peer.claims is None and laptop.session_count() == 0


@hostile
@given(payload=st.binary(max_size=1108), head=st.booleans())
def test_an_authentic_answer_with_any_payload(called: Called, payload: bytes, head: bool) -> None:
    whole = (b"\x01" + NETWORK if head else b"") + payload
    called.send(called.answer(whole[:1108]))
    assert untouched(called.laptop)


@hostile
@given(where=changes, payload=st.binary(max_size=200))
def test_an_answer_with_bytes_changed(
    called: Called, where: list[tuple[int, int]], payload: bytes
) -> None:
    honest = called.answer(b"\x01" + NETWORK + payload)
    called.send(changed(honest, where))
    called.send(called.macs.add_macs(honest[:4] + changed(honest[4:-32], where), 0.0))
    assert untouched(called.laptop)


def test_the_laptop_stands_after_it(called: Called) -> None:
    """Refused answers end nothing: the true gate is heard when it is back."""
    for payload in (b"", b"\x02", b"\x01" + NETWORK, b"\x01" + bytes(16) + b"\x84\x05\x00a.b.c"):
        called.send(called.answer(payload))
        assert untouched(called.laptop)
    called.office.gate.device.set_up(True)
    packet = called.laptop.send(called.office.gate)
    called.office.world.run(10)
    assert packet in called.office.gate.datapath.delivered
