"""Two peers that shake hands with credentials: stamps, cookies, timers, both kinds side by side."""

import hashlib

import pytest

from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol.cookie import CookieChecker
from wgpy.protocol.credential import parse_credential_initiation, parse_credential_response
from wgpy.protocol.credential_handshake import read
from wgpy.protocol.credential_payload import Offer, OfferKind, ResponsePayload
from wgpy.protocol.handshake import HandshakeError, Local, read_initiation
from wgpy.protocol.messages import ParseError, parse_cookie_reply, parse_initiation, parse_response
from wgpy.protocol.peer import Peer
from wgpy.protocol.tai64n import stamp

ALICE, BOB = PrivateKey(b"a" * 32), PrivateKey(b"b" * 32)
WALL = 1_700_000_000 * 10**9
NETWORK = bytes(range(16))
LEAF = Offer(OfferKind.CERTIFICATE, b"leaf")
ANSWER = ResponsePayload(NETWORK, LEAF)


class Side:
    """One end: an interface with one peer."""

    def __init__(self, own, other, psk=None):
        self.local = Local(own)
        self.peer = Peer(self.local, other.public(), psk, lambda: 0.0)
        self.count = 0

    def random(self, length):
        self.count += 1
        return hashlib.blake2s(bytes(self.local.public) + bytes([self.count])).digest()[:length]

    def begin(self, index=1, now=0.0, wall_ns=WALL):
        return self.peer.credential_initiation(
            index=index,
            network=NETWORK,
            wanted="bob.mesh",
            offer=LEAF,
            random=self.random,
            wall_ns=wall_ns,
            now=now,
        )

    def begin_plain(self, index=1, now=0.0):
        return self.peer.initiation(index=index, ephemeral=self.random(32), wall_ns=WALL, now=now)

    def answer(self, data, index=2, now=0.0, payload=ANSWER):
        responder = read(self.local, parse_credential_initiation(data))
        assert responder.static == self.peer.remote.public_key
        self.peer.raise_stamp(responder.authenticate(self.peer.remote))
        return self.peer.credential_response(
            responder, index=index, payload=payload, random=self.random, now=now
        )


@pytest.fixture
def alice():
    return Side(ALICE, BOB)


@pytest.fixture
def bob():
    return Side(BOB, ALICE)


def test_a_handshake(alice, bob):
    first = alice.begin(index=7)
    assert len(first) == 1200
    assert alice.peer.initiation_index == 7
    second, theirs = bob.answer(first, index=8)
    assert len(second) == 1200
    ours, index, payload = alice.peer.consume_credential_response(parse_credential_response(second))
    assert (index, payload) == (8, ANSWER)
    assert (ours.send, ours.receive) == (theirs.receive, theirs.send)
    # Until its offer was accepted, the answer counts for nothing.
    assert alice.peer.timers.handshake_under_way
    alice.peer.credential_accepted(1.0)
    assert alice.peer.initiation_index is None
    assert not alice.peer.timers.handshake_under_way


def test_an_empty_answer_is_92_bytes(alice, bob):
    second, _ = bob.answer(alice.begin(), payload=None)
    assert len(second) == 92
    _, _, payload = alice.peer.consume_credential_response(parse_credential_response(second))
    assert payload is None


def test_a_refused_answer_leaves_the_next_try(alice, bob):
    second, _ = bob.answer(alice.begin())
    keys, _, _ = alice.peer.consume_credential_response(parse_credential_response(second))
    keys.wipe()
    alice.peer.forget_handshake()
    with pytest.raises(HandshakeError):
        alice.peer.consume_credential_response(parse_credential_response(second))
    assert alice.peer.timers.handshake_under_way
    answer, _ = bob.answer(alice.begin(now=5.0))
    assert alice.peer.consume_credential_response(parse_credential_response(answer))[2] == ANSWER


def test_the_pre_shared_key_is_looked_up_when_it_is_used():
    psk = PresharedKey(b"k" * 32)
    alice, bob = Side(ALICE, BOB, psk), Side(BOB, ALICE)
    first = alice.begin()
    bob.peer.set_psk(psk)
    second, _ = bob.answer(first)
    assert alice.peer.consume_credential_response(parse_credential_response(second))[2] == ANSWER


def test_stamps_of_both_kinds_rise_together(alice, bob):
    """One mark for each key, on both sides."""
    alice.begin_plain()
    between = alice.peer.last_stamp
    first = alice.begin()
    assert alice.peer.last_stamp > between
    bob.answer(first)
    assert bob.peer.greatest_stamp == alice.peer.last_stamp
    older = stamp(WALL)
    bob.peer.raise_stamp(older)
    assert bob.peer.greatest_stamp == alice.peer.last_stamp


def test_a_last_stamp_far_ahead_and_the_clock_are_tried_in_turns(alice, bob):
    """Which of the two the other side wants depends on which clock was wrong."""
    hour, step = 3600 * 10**9, 5 * 10**9
    alice.begin(wall_ns=WALL + hour)
    ahead = alice.peer.last_stamp
    assert ahead == stamp(WALL + hour)
    tries = [alice.begin(now=5.0 * n, wall_ns=WALL + n * step) for n in range(1, 5)]
    stamps = []
    for each in tries:
        responder = read(bob.local, parse_credential_initiation(each))
        stamps.append(responder.authenticate(bob.peer.remote))
    assert stamps[1::2] == [stamp(WALL + 2 * step), stamp(WALL + 4 * step)]
    assert ahead < stamps[0] < stamps[2] < stamp(WALL + hour + step)
    # The fourth is answered: from there on it is by the clock, at the first try.
    second, _ = bob.answer(tries[3])
    alice.peer.consume_credential_response(parse_credential_response(second))
    alice.peer.credential_accepted(21.0)
    assert alice.peer.last_stamp == stamp(WALL + 4 * step)
    alice.begin(now=26.0, wall_ns=WALL + 5 * step)
    assert alice.peer.last_stamp == stamp(WALL + 5 * step)


def test_a_plain_initiation_is_refused_below_the_mark_of_a_credential(alice, bob):
    plain = alice.begin_plain()
    bob.answer(alice.begin())
    with pytest.raises(HandshakeError) as caught:
        bob.peer.accept_initiation(read_initiation(bob.local, parse_initiation(plain)), 9.0)
    assert caught.value.reason == "replayed_timestamp"


def test_answers_of_the_other_kind_are_refused(alice, bob):
    first = alice.begin_plain()
    responder = read_initiation(bob.local, parse_initiation(first))
    bob.peer.accept_initiation(responder, 0.0)
    plain, _ = bob.peer.response(responder, index=2, ephemeral=b"f" * 32, now=0.0)
    second, _ = bob.answer(Side(ALICE, BOB).begin())
    with pytest.raises(HandshakeError):
        alice.peer.consume_credential_response(parse_credential_response(second))
    alice.begin()
    with pytest.raises(HandshakeError):
        alice.peer.consume_response(parse_response(plain), 0.0)


def test_what_cannot_be_sent_leaves_no_handshake(alice):
    with pytest.raises(ValueError, match="too long"):
        alice.peer.credential_initiation(
            index=1,
            network=NETWORK,
            wanted=None,
            offer=Offer(OfferKind.CERTIFICATE, bytes(1100)),
            random=alice.random,
            wall_ns=WALL,
            now=0.0,
        )
    assert alice.peer.initiation_index is None
    assert alice.peer.last_stamp is None


def test_a_key_of_low_order_leaves_no_handshake():
    side = Side(ALICE, BOB)
    side.peer = Peer(side.local, PublicKey(bytes(32)), None, lambda: 0.0)
    with pytest.raises(HandshakeError):
        side.begin()
    assert side.peer.initiation_index is None


def test_cookies(alice, bob):
    checker = CookieChecker(bob.local.public, lambda n: b"r" * n)
    reply = checker.reply(alice.begin(), b"source", 0.0)
    assert alice.peer.consume_cookie(parse_cookie_reply(reply), 0.0)
    assert checker.check_mac2(alice.begin(now=5.0), b"source", 5.0)


def test_crossing_handshakes_both_complete(alice, bob):
    """Each side is initiator of one and responder of the other; neither overwrites the other."""
    from_alice, from_bob = alice.begin(index=1), bob.begin(index=2)
    by_bob, bob_answered = bob.answer(from_alice, index=3)
    by_alice, alice_answered = alice.answer(from_bob, index=4)
    ours, _, _ = alice.peer.consume_credential_response(parse_credential_response(by_bob))
    theirs, _, _ = bob.peer.consume_credential_response(parse_credential_response(by_alice))
    assert ours.send == bob_answered.receive
    assert theirs.send == alice_answered.receive


def test_an_authentic_answer_that_is_malformed_raises_parse_error(alice, bob):
    responder = read(bob.local, parse_credential_initiation(alice.begin()))
    responder.authenticate(bob.peer.remote)
    # A payload of another version, sealed as the responder would.
    message, _ = responder._answer(0x11, 2, b"f" * 32, b"\2" + NETWORK)
    with pytest.raises(ParseError):
        alice.peer.consume_credential_response(parse_credential_response(message + bytes(32)))
