"""The handshake in both roles, against a second implementation and against tampering."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import whitepaper
from tests.support.vectors import load, raw
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol.handshake import HandshakeError, Local, Remote, initiate, read_initiation
from wgpy.protocol.messages import parse_initiation, parse_response

BYTES32 = st.binary(min_size=32, max_size=32)
PRIVATE = BYTES32.filter(any)
PSKS = st.none() | BYTES32.map(PresharedKey)
INDICES = st.integers(0, 0xFFFFFFFF)
STAMPS = st.binary(min_size=12, max_size=12)

ALICE = PrivateKey(bytes(range(32)))
BOB = PrivateKey(bytes(range(32, 64)))
STAMP = bytes(range(12))
NO_MACS = bytes(32)
LOW_ORDER = [raw(point) for point in load("x25519")["low_order"]]


class Pair:
    """Alice and Bob, who know each other."""

    def __init__(self, psk=None):
        self.alice, self.bob = Local(ALICE), Local(BOB)
        self.to_bob = Remote(self.alice, self.bob.public, psk)
        self.to_alice = Remote(self.bob, self.alice.public, psk)

    def initiate(self, sender=1, ephemeral=b"e" * 32):
        return initiate(self.to_bob, sender=sender, timestamp=STAMP, ephemeral=ephemeral)

    def read(self, message):
        return read_initiation(self.bob, parse_initiation(message + NO_MACS))

    def respond(self, initiator, sender=2, ephemeral=b"f" * 32):
        responder = self.read(initiator.message)
        assert responder.authenticate(self.to_alice) == STAMP
        answer, keys = responder.respond(sender=sender, ephemeral=ephemeral)
        return parse_response(answer + NO_MACS), keys


@pytest.fixture
def pair():
    return Pair()


# --- Known answers and the second implementation ---


@pytest.mark.parametrize("number", [0, 1], ids=["no psk", "psk"])
def test_known_answer(number):
    vector = load("handshake")
    case = vector["handshakes"][number]
    alice = Local(PrivateKey(raw(vector["initiator_private"])))
    bob = Local(PrivateKey(raw(vector["responder_private"])))
    psk = PresharedKey(raw(case["preshared_key"]))
    initiator = initiate(
        Remote(alice, bob.public, psk),
        sender=vector["initiator_index"],
        timestamp=raw(vector["timestamp"]),
        ephemeral=raw(vector["initiator_ephemeral"]),
    )
    assert initiator.message == raw(case["initiation"])[:116]
    responder = read_initiation(bob, parse_initiation(raw(case["initiation"])))
    assert responder.authenticate(Remote(bob, alice.public, psk)) == raw(vector["timestamp"])
    answer, theirs = responder.respond(
        sender=vector["responder_index"], ephemeral=raw(vector["responder_ephemeral"])
    )
    assert answer == raw(case["response"])[:60]
    ours = initiator.finish(parse_response(raw(case["response"])))
    assert (ours.send.hex(), ours.receive.hex()) == (
        case["initiator_sends"],
        case["responder_sends"],
    )
    assert (theirs.send, theirs.receive) == (ours.receive, ours.send)


@settings(max_examples=40, deadline=None)
@given(PRIVATE, PRIVATE, BYTES32, BYTES32, INDICES, INDICES, STAMPS, PSKS)
def test_initiator_against_the_whitepaper(ours, theirs, e1, e2, i1, i2, stamp, psk):
    local, their_public = Local(PrivateKey(ours)), whitepaper.dh_public(theirs)
    remote = Remote(local, PublicKey(their_public), psk)
    initiator = initiate(remote, sender=i1, timestamp=stamp, ephemeral=e1)
    expected, _ = whitepaper.make_initiation(ours, their_public, e1, i1, stamp)
    assert initiator.message == expected[:116]
    public, read_stamp, state = whitepaper.read_initiation(theirs, expected)
    assert (public, read_stamp) == (bytes(local.public), stamp)
    answer, send, receive = whitepaper.make_response(
        state, expected, public, e2, i2, remote.psk_bytes()
    )
    keys = initiator.finish(parse_response(answer))
    assert (keys.send, keys.receive) == (receive, send)


@settings(max_examples=40, deadline=None)
@given(PRIVATE, PRIVATE, BYTES32, BYTES32, INDICES, INDICES, STAMPS, PSKS)
def test_responder_against_the_whitepaper(ours, theirs, e1, e2, i1, i2, stamp, psk):
    local = Local(PrivateKey(ours))
    public = bytes(local.public)
    first, state = whitepaper.make_initiation(theirs, public, e1, i1, stamp)
    responder = read_initiation(local, parse_initiation(first))
    assert bytes(responder.static) == whitepaper.dh_public(theirs)
    assert responder.sender == i1
    remote = Remote(local, responder.static, psk)
    assert responder.authenticate(remote) == stamp
    answer, keys = responder.respond(sender=i2, ephemeral=e2)
    # The whitepaper's two roles leave the same state, so the initiator's serves for the answer.
    their_public = whitepaper.dh_public(theirs)
    expected = whitepaper.make_response(state, first, their_public, e2, i2, remote.psk_bytes())
    assert answer == expected[0][:60]
    assert (keys.send, keys.receive) == expected[1:]
    assert whitepaper.read_response(state, theirs, e1, expected[0], remote.psk_bytes()) == (
        keys.receive,
        keys.send,
    )


# --- What must not work ---


def test_different_psks_do_not_meet():
    pair = Pair(PresharedKey(b"p" * 32))
    initiator = pair.initiate()
    pair.to_alice.psk = PresharedKey(b"q" * 32)
    with pytest.raises(HandshakeError):
        initiator.finish(pair.respond(initiator)[0])


def test_psk_of_zeros_is_no_psk():
    pair = Pair(PresharedKey(bytes(32)))
    initiator = pair.initiate()
    pair.to_alice.psk = None
    response, theirs = pair.respond(initiator)
    assert initiator.finish(response).send == theirs.receive


def test_psk_set_while_a_handshake_is_under_way_is_used():
    pair = Pair()
    initiator = pair.initiate()
    pair.to_bob.psk = pair.to_alice.psk = PresharedKey(b"p" * 32)
    response, theirs = pair.respond(initiator)
    assert initiator.finish(response).send == theirs.receive


def test_an_initiation_to_another_is_refused(pair):
    message = parse_initiation(pair.initiate().message + NO_MACS)
    with pytest.raises(HandshakeError):
        read_initiation(pair.alice, message)


def test_a_static_key_that_is_only_claimed_is_refused(pair):
    # Eve knows both public keys and has none of the private ones: she can seal Alice's static
    # key, for that takes only an ephemeral, and fails at the timestamp, which takes ss.
    eve = bytes(range(7, 39))
    forged, _ = whitepaper.make_initiation(eve, bytes(pair.bob.public), b"e" * 32, 1, STAMP)
    honest, _ = whitepaper.make_initiation(
        bytes(ALICE), bytes(pair.bob.public), b"e" * 32, 1, STAMP
    )
    mixed = honest[:88] + forged[88:]
    responder = read_initiation(pair.bob, parse_initiation(mixed))
    assert responder.static == pair.alice.public
    with pytest.raises(HandshakeError):
        responder.authenticate(pair.to_alice)
    with pytest.raises(HandshakeError):
        responder.respond(sender=2, ephemeral=b"f" * 32)


def test_authenticating_as_another_peer_is_refused(pair):
    responder = pair.read(pair.initiate().message)
    stranger = Remote(pair.bob, PrivateKey(b"s" * 32).public(), None)
    with pytest.raises(HandshakeError):
        responder.authenticate(stranger)
    with pytest.raises(HandshakeError):
        responder.authenticate(pair.to_alice)


def test_a_responder_answers_once_and_only_after_authentication(pair):
    initiator = pair.initiate()
    responder = pair.read(initiator.message)
    with pytest.raises(HandshakeError):
        responder.respond(sender=2, ephemeral=b"f" * 32)
    responder.authenticate(pair.to_alice)
    with pytest.raises(HandshakeError):
        responder.authenticate(pair.to_alice)
    answer, _ = responder.respond(sender=2, ephemeral=b"f" * 32)
    with pytest.raises(HandshakeError):
        responder.respond(sender=2, ephemeral=b"f" * 32)
    initiator.finish(parse_response(answer + NO_MACS))


def test_a_response_is_accepted_once(pair):
    initiator = pair.initiate()
    response, _ = pair.respond(initiator)
    initiator.finish(response)
    with pytest.raises(HandshakeError):
        initiator.finish(response)


def test_a_response_to_another_handshake_is_refused(pair):
    first, second = pair.initiate(1, b"1" * 32), pair.initiate(2, b"2" * 32)
    response, theirs = pair.respond(first)
    with pytest.raises(HandshakeError):
        second.finish(response)
    with pytest.raises(HandshakeError):
        second.finish(dataclasses.replace(response, receiver=2))
    assert first.finish(response).send == theirs.receive


def test_a_response_to_another_index_is_refused(pair):
    # No key depends on the indices, so only this check stands between them.
    initiator = pair.initiate()
    response, theirs = pair.respond(initiator)
    with pytest.raises(HandshakeError):
        initiator.finish(dataclasses.replace(response, receiver=99))
    assert initiator.finish(response).send == theirs.receive


@pytest.mark.parametrize("position", range(8, 116))
def test_each_changed_byte_of_an_initiation_is_refused(pair, position):
    initiator = pair.initiate()
    changed = bytearray(initiator.message)
    changed[position] ^= 1
    with pytest.raises(HandshakeError):
        pair.read(bytes(changed)).authenticate(pair.to_alice)
    response, theirs = pair.respond(initiator)
    assert initiator.finish(response).send == theirs.receive


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 48 * 8 - 1))
def test_a_forged_response_does_not_end_the_handshake(bit):
    pair = Pair(PresharedKey(b"p" * 32))
    initiator = pair.initiate()
    response, theirs = pair.respond(initiator)
    body = bytearray(response.ephemeral + response.sealed_empty)
    body[bit // 8] ^= 1 << bit % 8
    forged = dataclasses.replace(
        response, ephemeral=bytes(body[:32]), sealed_empty=bytes(body[32:])
    )
    if bit == 255:
        # X25519 ignores this bit, but the handshake hash does not.
        assert forged.ephemeral != response.ephemeral
    for _ in range(2):
        with pytest.raises(HandshakeError):
            initiator.finish(forged)
    keys = initiator.finish(response)
    assert (keys.send, keys.receive) == (theirs.receive, theirs.send)


@settings(deadline=None)
@given(st.binary(min_size=144, max_size=144))
def test_arbitrary_initiations_raise_only_handshake_error(body):
    with pytest.raises(HandshakeError):
        read_initiation(Pair().bob, parse_initiation(b"\1\0\0\0" + body))


@settings(deadline=None)
@given(st.binary(min_size=80, max_size=80))
def test_arbitrary_responses_raise_only_handshake_error(body):
    pair = Pair()
    initiator = pair.initiate()
    answer = parse_response(b"\2\0\0\0\2\0\0\0\1\0\0\0" + body)
    with pytest.raises(HandshakeError):
        initiator.finish(answer)
    response, theirs = pair.respond(initiator)
    assert initiator.finish(response).send == theirs.receive


# --- Low order: es and ss as responder, es and ss as initiator, ee as initiator ---


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_ephemeral_of_an_initiation(pair, point):
    message = parse_initiation(pair.initiate().message + NO_MACS)
    with pytest.raises(HandshakeError):
        read_initiation(pair.bob, dataclasses.replace(message, ephemeral=point))


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_ephemeral_of_a_response(pair, point):
    initiator = pair.initiate()
    response, theirs = pair.respond(initiator)
    with pytest.raises(HandshakeError):
        initiator.finish(dataclasses.replace(response, ephemeral=point))
    assert initiator.finish(response).send == theirs.receive


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_peer(pair, point):
    remote = Remote(pair.alice, PublicKey(point), None)
    with pytest.raises(HandshakeError):
        remote.key_pair()
    with pytest.raises(HandshakeError):
        initiate(remote, sender=1, timestamp=STAMP, ephemeral=b"e" * 32)


# --- Secrets ---


def test_nothing_secret_shows():
    pair = Pair(PresharedKey(b"p" * 32))
    initiator = pair.initiate()
    response, keys = pair.respond(initiator)
    own = initiator.finish(response)
    shown = " ".join(map(repr, (pair.alice, pair.to_bob, initiator, keys, own)))
    for secret in (bytes(own.send), bytes(own.receive), b"p" * 32, b"e" * 32, bytes(ALICE)):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_keys_are_wiped(pair):
    _, keys = pair.respond(pair.initiate())
    keys.wipe()
    assert (keys.send, keys.receive) == (bytes(32), bytes(32))


def test_a_wiped_local_refuses_everything(pair):
    initiator = pair.initiate()
    message = parse_initiation(initiator.message + NO_MACS)
    response, _ = pair.respond(initiator)
    pair.alice.wipe()
    pair.bob.wipe()
    assert not ALICE.is_zero()
    with pytest.raises(HandshakeError):
        initiator.finish(response)
    with pytest.raises(HandshakeError):
        pair.initiate()
    with pytest.raises(HandshakeError):
        read_initiation(pair.bob, message)
    with pytest.raises(HandshakeError):
        Remote(pair.alice, PrivateKey(b"s" * 32).public(), None).key_pair()


def test_no_private_key_is_refused():
    with pytest.raises(ValueError, match="no private key"):
        Local(PrivateKey(bytes(32)))


def test_timestamps_have_one_length(pair):
    with pytest.raises(ValueError, match="12 bytes"):
        initiate(pair.to_bob, sender=1, timestamp=bytes(11), ephemeral=b"e" * 32)
