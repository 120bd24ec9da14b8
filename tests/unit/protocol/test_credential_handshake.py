"""The handshake with credentials in both roles, against the specification and against tampering."""

import inspect
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import credential_spec as spec
from tests.support import whitepaper
from tests.support.vectors import load, raw
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol.cookie import CookieChecker, CookieGenerator
from wgpy.protocol.credential import parse_credential_initiation, parse_credential_response
from wgpy.protocol.credential_handshake import CredentialResponder, initiate, read
from wgpy.protocol.credential_payload import (
    InitiationPayload,
    Offer,
    OfferKind,
    ResponsePayload,
    pack_response_payload,
    parse_initiation_payload,
    parse_response_payload,
    prepared_answer,
)
from wgpy.protocol.handshake import HandshakeError, Local, Remote
from wgpy.protocol.handshake import initiate as plain_initiate
from wgpy.protocol.handshake import read_initiation as plain_read
from wgpy.protocol.messages import ParseError, parse_cookie_reply, parse_initiation

BYTES32 = st.binary(min_size=32, max_size=32)
PRIVATE = BYTES32.filter(any)
PSKS = st.none() | BYTES32.map(PresharedKey)
INDICES = st.integers(0, 0xFFFFFFFF)

ALICE, BOB = PrivateKey(bytes(range(32))), PrivateKey(bytes(range(32, 64)))
STAMP, NETWORK = bytes(range(12)), bytes(range(16))
LEAF = Offer(OfferKind.CERTIFICATE, b"the initiator's")
ASKED = InitiationPayload(STAMP, NETWORK, "bob.mesh", LEAF)
ANSWER = ResponsePayload(NETWORK, Offer(OfferKind.CERTIFICATE, b"the responder's"))
NO_MACS = bytes(32)
LOW_ORDER = [raw(point) for point in load("x25519")["low_order"]]


def fixed(secret):
    """A random source that gives one ephemeral key, once."""
    given = [secret]

    def random(length):
        assert length == 32
        return given.pop()

    return random


class Pair:
    """Alice and Bob, who know each other's keys."""

    def __init__(self, psk=None):
        self.alice, self.bob = Local(ALICE), Local(BOB)
        self.to_bob = Remote(self.alice, self.bob.public, psk)
        self.to_alice = Remote(self.bob, self.alice.public, psk)

    def initiate(self, sender=1):
        return initiate(self.to_bob, sender=sender, payload=ASKED, random=fixed(b"e" * 32))

    def read(self, message):
        return read(self.bob, parse_credential_initiation(message + NO_MACS))

    def respond(self, initiator, sender=2, payload=ANSWER):
        responder = self.read(initiator.message)
        assert responder.authenticate(self.to_alice) == STAMP
        assert responder.asked() == ASKED[1:]
        answer, keys = responder.respond(sender=sender, payload=payload, random=fixed(b"f" * 32))
        return parse_credential_response(answer + NO_MACS), keys


@pytest.fixture
def pair():
    return Pair()


# --- Known answers and the second implementation ---


def test_the_published_vectors_are_those_of_the_specification():
    assert load("credential") == spec.vectors()


@pytest.mark.parametrize("case", load("credential")["handshakes"], ids=lambda case: case["name"])
def test_known_answer(case):
    vector = load("credential")
    alice = Local(PrivateKey(raw(vector["initiator_private"])))
    bob = Local(PrivateKey(raw(vector["responder_private"])))
    psk = PresharedKey(raw(case["preshared_key"]))
    first, second = raw(case["initiation"]), raw(case["response"])
    asked = parse_initiation_payload(
        spec.initiation_payload(
            raw(vector["timestamp"]), raw(vector["network"]), fields(case["initiator_fields"])
        )
    )
    to_bob = Remote(alice, bob.public, psk)
    initiator = initiate(
        to_bob,
        sender=vector["initiator_index"],
        payload=asked,
        random=fixed(raw(vector["initiator_ephemeral"])),
    )
    assert CookieGenerator(bob.public).add_macs(initiator.message, 0.0) == first
    responder = read(bob, parse_credential_initiation(first))
    assert responder.authenticate(Remote(bob, alice.public, psk)) == raw(vector["timestamp"])
    assert responder.asked() == asked[1:]
    offered = None
    if case["responder_fields"] is not None:
        offered = parse_response_payload(
            spec.response_payload(raw(vector["network"]), fields(case["responder_fields"]))
        )
    answer, theirs = responder.respond(
        sender=vector["responder_index"],
        payload=offered,
        random=fixed(raw(vector["responder_ephemeral"])),
    )
    assert CookieGenerator(alice.public).add_macs(answer, 0.0) == second
    ours, received = initiator.finish(parse_credential_response(second))
    assert received == offered
    assert (ours.send.hex(), ours.receive.hex()) == (
        case["initiator_sends"],
        case["responder_sends"],
    )
    assert (theirs.send, theirs.receive) == (ours.receive, ours.send)


def fields(named):
    return {int(number, 16): raw(value) for number, value in named.items()}


@settings(max_examples=30, deadline=None)
@given(PRIVATE, PRIVATE, BYTES32, BYTES32, INDICES, INDICES, PSKS, st.booleans())
def test_initiator_against_the_specification(ours, theirs, e1, e2, i1, i2, psk, empty):
    local, their_public = Local(PrivateKey(ours)), whitepaper.dh_public(theirs)
    remote = Remote(local, PublicKey(their_public), psk)
    initiator = initiate(remote, sender=i1, payload=ASKED, random=fixed(e1))
    packed = spec.initiation_payload(
        STAMP, NETWORK, {spec.NAME: b"bob.mesh", spec.CERTIFICATE: LEAF.body}
    )
    expected, _ = spec.make_initiation(ours, their_public, e1, i1, packed)
    assert initiator.message == expected[:1168]
    public, payload, state = spec.read_initiation(theirs, expected)
    assert (public, payload) == (bytes(local.public), packed)
    offered = None if empty else ANSWER
    sent = b"" if empty else spec.response_payload(NETWORK, {0x82: ANSWER.offer.body})
    answer, send, receive = spec.make_response(
        state, expected, public, e2, i2, sent, remote.psk_bytes()
    )
    keys, received = initiator.finish(parse_credential_response(answer))
    assert (keys.send, keys.receive, received) == (receive, send, offered)


@settings(max_examples=30, deadline=None)
@given(PRIVATE, PRIVATE, BYTES32, BYTES32, INDICES, INDICES, PSKS)
def test_responder_against_the_specification(ours, theirs, e1, e2, i1, i2, psk):
    local, their_public = Local(PrivateKey(ours)), whitepaper.dh_public(theirs)
    packed = spec.initiation_payload(STAMP, NETWORK, {spec.NAME: b"bob.mesh"})
    first, state = spec.make_initiation(theirs, bytes(local.public), e1, i1, packed)
    responder = read(local, parse_credential_initiation(first))
    assert (bytes(responder.static), responder.sender) == (their_public, i1)
    remote = Remote(local, responder.static, psk)
    assert responder.authenticate(remote) == STAMP
    assert responder.asked() == (NETWORK, "bob.mesh", None)
    answer, keys = responder.respond(sender=i2, payload=ANSWER, random=fixed(e2))
    sent = spec.response_payload(NETWORK, {0x82: ANSWER.offer.body})
    expected = spec.make_response(state, first, their_public, e2, i2, sent, remote.psk_bytes())
    assert answer == expected[0][:-32]
    assert (keys.send, keys.receive) == expected[1:]
    assert spec.read_response(state, theirs, e1, expected[0], remote.psk_bytes()) == (
        sent,
        keys.receive,
        keys.send,
    )


# --- One ephemeral, one datagram ---


def test_a_shared_ephemeral_would_be_fatal():
    """Types 1 and 0x10 under one ephemeral key seal under the same keys with the same nonce: what
    they seal in common shows as common ciphertext. The prologue alone does not part them."""
    bob = whitepaper.dh_public(bytes(BOB))
    one, _ = whitepaper.make_initiation(bytes(ALICE), bob, b"e" * 32, 1, STAMP)
    payload = spec.initiation_payload(STAMP, NETWORK, {})
    other, _ = spec.make_initiation(bytes(ALICE), bob, b"e" * 32, 1, payload)
    assert one[40:72] == other[40:72]
    assert one[88:100] == other[88:100]
    assert one[72:88] != other[72:88]


def test_no_caller_holds_the_ephemeral(pair):
    """It is drawn, 32 bytes and once, inside the function that builds the datagram; there is no
    way to hand one in."""
    asked = []

    def random(length):
        asked.append(length)
        return os.urandom(length)

    initiator = initiate(pair.to_bob, sender=1, payload=ASKED, random=random)
    assert asked == [32]
    responder = pair.read(initiator.message)
    responder.authenticate(pair.to_alice)
    responder.respond(sender=2, payload=None, random=random)
    assert asked == [32, 32]
    for call in (initiate, CredentialResponder.respond):
        assert {"random"} < set(inspect.signature(call).parameters)
        assert "ephemeral" not in inspect.signature(call).parameters


def test_types_1_and_0x10_of_one_peer_have_nothing_in_common(pair):
    seen = set()
    for _ in range(8):
        plain = plain_initiate(
            pair.to_bob, sender=1, timestamp=STAMP, ephemeral=os.urandom(32)
        ).message
        ours = initiate(pair.to_bob, sender=1, payload=ASKED, random=os.urandom).message
        for message in (plain, ours):
            seen |= {message[8:40], message[40:72], message[88:100]}
    assert len(seen) == 16 * 3


# --- The other handshake's messages ---


def test_an_initiation_of_the_other_prologue_is_refused(pair):
    """The same bytes under the other type's number: neither is ever taken for the other."""
    message = pair.initiate().message
    short = parse_initiation(b"\1\0\0\0" + message[4:116] + NO_MACS)
    with pytest.raises(HandshakeError):
        plain_read(pair.bob, short)
    plain = plain_initiate(pair.to_bob, sender=1, timestamp=STAMP, ephemeral=b"e" * 32).message
    long = parse_credential_initiation((b"\x10\0\0\0" + plain[4:]).ljust(1168, b"\0") + NO_MACS)
    with pytest.raises(HandshakeError):
        read(pair.bob, long)


# --- Pre-shared keys ---


def test_a_pre_shared_key_is_mixed_in(pair):
    with_psk = Pair(PresharedKey(b"k" * 32))
    initiator = with_psk.initiate()
    answer, keys = with_psk.respond(initiator)
    ours, _ = initiator.finish(answer)
    assert ours.send == keys.receive
    plain, _ = pair.respond(pair.initiate())
    assert plain.ephemeral == answer.ephemeral
    assert plain.sealed_payload != answer.sealed_payload


@pytest.mark.parametrize("psk", [None, PresharedKey(b"x" * 32)])
def test_another_pre_shared_key_is_refused(psk):
    ours = Pair(PresharedKey(b"k" * 32))
    initiator = ours.initiate()
    answer, _ = ours.respond(initiator)
    ours.to_bob.psk = psk
    with pytest.raises(HandshakeError):
        initiator.finish(answer)
    ours.to_bob.psk = PresharedKey(b"k" * 32)
    assert initiator.finish(answer)[1] == ANSWER


# --- Tampering ---


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 1167), st.integers(1, 255))
def test_each_changed_byte_of_an_initiation_is_refused(position, change):
    pair = Pair()
    message = bytearray(pair.initiate().message)
    message[position] ^= change
    with pytest.raises(HandshakeError):
        # The top bit of an ephemeral key is not used in the exchange, but it is hashed.
        pair.read(bytes(message)).authenticate(pair.to_alice)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1155), st.integers(1, 255))
def test_each_changed_byte_of_a_response_is_refused_and_ends_nothing(position, change):
    pair = Pair()
    initiator = pair.initiate()
    answer, keys = pair.respond(initiator)
    sealed = bytearray(answer.ephemeral + answer.sealed_payload)
    assert len(sealed) == 1156
    sealed[position] ^= change
    forged = answer._replace(ephemeral=bytes(sealed[:32]), sealed_payload=bytes(sealed[32:]))
    with pytest.raises(HandshakeError):
        initiator.finish(forged)
    assert initiator.finish(answer)[0].send == keys.receive


def test_a_truncated_response_is_refused(pair):
    initiator = pair.initiate()
    answer, _ = pair.respond(initiator)
    for length in (0, 15, 16, len(answer.sealed_payload) - 1):
        forged = answer._replace(sealed_payload=answer.sealed_payload[:length])
        with pytest.raises(HandshakeError):
            initiator.finish(forged)


def test_an_initiation_to_another_is_refused(pair):
    carol = Local(PrivateKey(b"c" * 32))
    with pytest.raises(HandshakeError):
        read(carol, parse_credential_initiation(pair.initiate().message + NO_MACS))


def test_a_static_key_that_is_only_claimed_is_refused(pair):
    """Who knows Bob's public key can name any static key; ss tells."""
    mallory = Local(PrivateKey(b"m" * 32))
    mallory.key_pair.public_bytes = bytes(pair.alice.public)
    forged = initiate(
        Remote(mallory, pair.bob.public, None), sender=1, payload=ASKED, random=fixed(b"e" * 32)
    )
    responder = pair.read(forged.message)
    assert responder.static == pair.alice.public
    with pytest.raises(HandshakeError):
        responder.authenticate(pair.to_alice)


@pytest.mark.parametrize("point", LOW_ORDER, ids=bytes.hex)
def test_low_order_keys_are_refused(pair, point):
    with pytest.raises(HandshakeError):
        initiate(
            Remote(pair.alice, PublicKey(point), None),
            sender=1,
            payload=ASKED,
            random=fixed(b"e" * 32),
        )
    message = parse_credential_initiation(pair.initiate().message + NO_MACS)
    with pytest.raises(HandshakeError):
        read(pair.bob, message._replace(ephemeral=point))
    initiator = pair.initiate()
    answer, _ = pair.respond(initiator)
    with pytest.raises(HandshakeError):
        initiator.finish(answer._replace(ephemeral=point))


@pytest.mark.parametrize("point", LOW_ORDER, ids=bytes.hex)
def test_a_static_key_of_low_order_is_refused(pair, point):
    mallory = Local(PrivateKey(b"m" * 32))
    mallory.key_pair.public_bytes = point
    forged = initiate(
        Remote(mallory, pair.bob.public, None), sender=1, payload=ASKED, random=fixed(b"e" * 32)
    )
    responder = pair.read(forged.message)
    with pytest.raises(HandshakeError):
        responder.authenticate(Remote(pair.bob, responder.static, None))


# --- An authentic payload that is malformed ---


def sealed_by_hand(payload):
    first, state = spec.make_initiation(
        bytes(ALICE), bytes(Local(BOB).public), b"e" * 32, 1, payload
    )
    return first, state


def test_an_authentic_initiation_with_a_malformed_payload(pair):
    first, _ = sealed_by_hand(bytes(1064))
    responder = read(pair.bob, parse_credential_initiation(first))
    assert responder.authenticate(pair.to_alice) == bytes(12)
    with pytest.raises(ParseError) as caught:
        responder.asked()
    assert caught.value.reason == "version"


def test_an_authentic_response_with_a_malformed_payload_ends_the_handshake(pair):
    initiator = pair.initiate()
    _, _, state = spec.read_initiation(bytes(BOB), initiator.message + NO_MACS)
    answer, _, _ = spec.make_response(
        state, initiator.message, bytes(pair.alice.public), b"f" * 32, 2, b"\1" + NETWORK
    )
    with pytest.raises(ParseError):
        initiator.finish(parse_credential_response(answer))
    with pytest.raises(HandshakeError):
        initiator.finish(parse_credential_response(answer))


# --- Each step once, and in order ---


def test_a_responder_goes_through_its_steps_once(pair):
    responder = pair.read(pair.initiate().message)
    with pytest.raises(HandshakeError, match="after it was authenticated"):
        responder.asked()
    with pytest.raises(HandshakeError):
        responder.respond(sender=2, payload=None, random=os.urandom)
    responder.authenticate(pair.to_alice)
    with pytest.raises(HandshakeError):
        responder.authenticate(pair.to_alice)
    responder.respond(sender=2, payload=None, random=os.urandom)
    with pytest.raises(HandshakeError):
        responder.respond(sender=2, payload=None, random=os.urandom)


def test_authenticating_as_another_peer_is_refused(pair):
    responder = pair.read(pair.initiate().message)
    other = Remote(pair.bob, Local(PrivateKey(b"c" * 32)).public, None)
    with pytest.raises(HandshakeError):
        responder.authenticate(other)
    with pytest.raises(HandshakeError):
        responder.authenticate(pair.to_alice)


def test_a_response_is_accepted_once_and_for_its_index(pair):
    initiator = pair.initiate()
    answer, _ = pair.respond(initiator)
    with pytest.raises(HandshakeError):
        initiator.finish(answer._replace(receiver=9))
    initiator.finish(answer)
    with pytest.raises(HandshakeError):
        initiator.finish(answer)


# --- What was said before ---


def rounds(pair, asked, answered):
    """A handshake: what each side read of the other."""
    initiator = initiate(pair.to_bob, sender=1, payload=asked, random=os.urandom)
    responder = pair.read(initiator.message)
    responder.authenticate(pair.to_alice)
    seen = responder.asked()
    answer, _ = responder.respond(sender=2, payload=answered, random=os.urandom)
    _, offered = initiator.finish(parse_credential_response(answer + NO_MACS))
    return seen, offered


def test_the_same_again_is_read_once(pair):
    later = ASKED._replace(timestamp=bytes(range(1, 13)))
    first, second = rounds(pair, ASKED, ANSWER), rounds(pair, later, ANSWER)
    assert first[0] == second[0] == ASKED[1:]
    assert first[0].offer is second[0].offer
    assert first[1] is second[1]


def test_anything_else_is_read_again(pair):
    other = Offer(OfferKind.TOKEN, b"a.b.c")
    for asked, answered in (
        (ASKED, ANSWER),
        (ASKED._replace(offer=other), ResponsePayload(NETWORK, other)),
        (ASKED._replace(wanted=None), ANSWER),
        (ASKED._replace(wanted="bob.mesi"), ResponsePayload(bytes(16), LEAF)),
        (ASKED._replace(network=bytes(16)), None),
        (ASKED._replace(offer=None), ResponsePayload(bytes(16), LEAF)),
        (ASKED, ANSWER),
    ):
        assert rounds(pair, asked, answered) == (asked[1:], answered)


def test_what_is_malformed_is_refused_each_time(pair):
    rounds(pair, ASKED, ANSWER)
    for _ in range(2):
        payload = STAMP + b"\2" + bytes(1051)
        message, _ = spec.make_initiation(
            bytes(ALICE), bytes(pair.bob.public), b"e" * 32, 1, payload
        )
        responder = pair.read(message[:-32])
        responder.authenticate(pair.to_alice)
        with pytest.raises(ParseError):
            responder.asked()
    assert rounds(pair, ASKED, ANSWER) == (ASKED[1:], ANSWER)


def test_an_answer_can_be_packed_before(pair):
    ready = prepared_answer(ANSWER)
    assert ready == ANSWER
    assert ready.packed is not None
    assert pack_response_payload(ready) == pack_response_payload(ANSWER) == ready.packed
    assert rounds(pair, ASKED, ready)[1] == ANSWER


# --- Cookies are those of types 1 and 2 ---


def test_macs_and_cookies_work_as_for_the_plain_messages(pair):
    generator = CookieGenerator(pair.bob.public)
    checker = CookieChecker(pair.bob.public, os.urandom)
    data = generator.add_macs(pair.initiate().message, 0.0)
    assert len(data) == 1200
    assert checker.check_mac1(data)
    assert not checker.check_mac2(data, b"source", 0.0)
    reply = checker.reply(data, b"source", 0.0)
    assert len(reply) < len(data)
    assert generator.consume(parse_cookie_reply(reply), 1.0)
    again = generator.add_macs(pair.initiate().message, 1.0)
    assert checker.check_mac2(again, b"source", 1.0)
    assert not checker.check_mac2(again, b"elsewhere", 1.0)
