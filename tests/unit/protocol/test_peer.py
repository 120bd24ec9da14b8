"""Two peers with a wire between them that the test holds in its hands."""

import dataclasses
import hashlib

import pytest

from tests.support.vectors import load, raw
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol import tai64n
from wgpy.protocol.activity import Activity
from wgpy.protocol.cookie import CookieChecker
from wgpy.protocol.handshake import HandshakeError, Local, read_initiation
from wgpy.protocol.keypair import KeyPairs
from wgpy.protocol.messages import parse_cookie_reply, parse_initiation, parse_response
from wgpy.protocol.peer import Peer
from wgpy.protocol.timers import Action

ALICE = PrivateKey(bytes(range(32)))
BOB = PrivateKey(bytes(range(32, 64)))
WALL = 1_700_000_000 * 10**9
SOURCE = b"\x7f\0\0\1\xca\x6c"


class Side:
    """One end: an interface with one peer."""

    def __init__(self, own, other, psk=None):
        self.local = Local(own)
        self.peer = Peer(self.local, other.public(), psk, lambda: 0.0)
        self.checker = CookieChecker(self.local.public, lambda n: b"r" * n)
        self.pairs = KeyPairs()
        self.count = 0

    def ephemeral(self):
        self.count += 1
        return hashlib.blake2s(bytes(self.local.public) + bytes([self.count])).digest()

    def begin(self, index=1, now=0.0, wall_ns=WALL):
        return self.peer.initiation(
            index=index, ephemeral=self.ephemeral(), wall_ns=wall_ns, now=now
        )

    def read(self, datagram, now=0.0):
        assert self.checker.check_mac1(datagram)
        responder = read_initiation(self.local, parse_initiation(datagram))
        assert responder.static == self.peer.remote.public_key
        self.peer.accept_initiation(responder, now)
        return responder

    def answer(self, responder, index=2, now=0.0):
        datagram, keys = self.peer.response(
            responder, index=index, ephemeral=self.ephemeral(), now=now
        )
        self.pairs.install_next(keys)
        return datagram

    def finish(self, datagram, now=0.0):
        assert self.checker.check_mac1(datagram)
        keys, remote_index = self.peer.consume_response(parse_response(datagram), now)
        self.pairs.install_current(keys)
        return remote_index


def fit(ours, theirs):
    """Whether two sides' keys are those of one session."""
    return ours.send == theirs.receive and ours.receive == theirs.send


@pytest.fixture
def alice():
    return Side(ALICE, BOB)


@pytest.fixture
def bob():
    return Side(BOB, ALICE)


def reason(call, *arguments):
    with pytest.raises(HandshakeError) as caught:
        call(*arguments)
    return caught.value.reason


def test_a_handshake(alice, bob):
    first = alice.begin(index=0x0A)
    assert len(first) == 148
    assert alice.peer.initiation_index == 0x0A
    responder = bob.read(first)
    assert responder.sender == 0x0A
    second = bob.answer(responder, index=0x0B)
    assert len(second) == 92
    assert alice.finish(second) == 0x0B
    assert alice.peer.initiation_index is None
    assert fit(alice.pairs.current, bob.pairs.next)


def test_with_a_preshared_key():
    psk = PresharedKey(b"p" * 32)
    alice, bob = Side(ALICE, BOB, psk), Side(BOB, ALICE)
    bob.peer.set_psk(psk)
    alice.finish(bob.answer(bob.read(alice.begin())))
    assert fit(alice.pairs.current, bob.pairs.next)
    bob.peer.set_psk(None)
    with pytest.raises(HandshakeError):
        alice.finish(bob.answer(bob.read(alice.begin(now=9.0), now=9.0)))


def test_a_replayed_initiation_is_refused(alice, bob):
    first = alice.begin()
    bob.read(first)
    assert reason(bob.read, first, 60.0) == "replayed_timestamp"


def test_an_older_initiation_is_refused(alice, bob):
    old = alice.begin()
    new = alice.begin(wall_ns=WALL + 10**9)
    bob.read(new)
    assert reason(bob.read, old, 60.0) == "replayed_timestamp"


def test_initiations_within_20_ms_are_refused_and_cost_nothing(alice, bob):
    bob.read(alice.begin(), 1.0)
    second = alice.begin(wall_ns=WALL + 10**9)
    assert reason(bob.read, second, 1.019) == "flood"
    # A refused one is not counted: neither its time nor its stamp.
    bob.read(second, 1.021)


def test_a_forged_initiation_changes_nothing(alice, bob):
    first = alice.begin()
    message = parse_initiation(first)
    forged = dataclasses.replace(message, sealed_timestamp=bytes(28))
    responder = read_initiation(bob.local, forged)
    assert reason(bob.peer.accept_initiation, responder, 0.0) == "unauthenticated"
    bob.read(first)


def test_stamps_rise_though_the_clock_goes_back(alice, bob):
    bob.read(alice.begin(wall_ns=WALL), 0.0)
    bob.read(alice.begin(wall_ns=WALL - 10**12), 10.0)
    bob.read(alice.begin(wall_ns=0), 20.0)


def test_a_clock_that_once_was_far_ahead_does_not_lock_us_out(alice, bob):
    bob.read(alice.begin(wall_ns=WALL * 2), 0.0)
    # Restarted with the right time, and with the stamp that the device kept.
    kept = alice.peer.last_stamp
    again = Side(ALICE, BOB)
    again.peer.last_stamp = kept
    bob.read(again.begin(wall_ns=WALL), 60.0)
    # Without it the peer would have refused.
    forgetful = Side(ALICE, BOB)
    assert reason(bob.read, forgetful.begin(wall_ns=WALL), 120.0) == "replayed_timestamp"
    assert tai64n.to_ns(kept) > WALL


def test_a_new_initiation_replaces_the_old(alice, bob):
    old = alice.begin(index=1)
    answer = bob.answer(bob.read(old))
    new = alice.begin(index=2, wall_ns=WALL + 10**9)
    with pytest.raises(HandshakeError):
        alice.finish(answer)
    assert alice.peer.initiation_index == 2
    alice.finish(bob.answer(bob.read(new, 1.0)))
    assert fit(alice.pairs.current, bob.pairs.next)


# --- Calls: one peer, several places ---


def call(side, index, *, now=0.0):
    # The stamps grow although the clock does not.
    return side.peer.call(index=index, ephemeral=side.ephemeral(), wall_ns=WALL, now=now)


def test_of_several_calls_any_may_be_answered(alice, bob):
    calls = [call(alice, index) for index in (1, 2, 3)]
    assert alice.peer.begun == (1, 2, 3)
    assert len({parse_initiation(data).ephemeral for data in calls}) == 3
    assert alice.finish(bob.answer(bob.read(calls[1]), index=7)) == 7
    assert fit(alice.pairs.current, bob.pairs.next)
    assert alice.peer.begun == (3,), "what came before it is over"
    assert not alice.peer.timers.handshake_under_way


def test_of_several_answers_the_last_one_counts(alice, bob):
    first, second = call(alice, 1), call(alice, 2)
    answers = [bob.answer(bob.read(first), index=7), bob.answer(bob.read(second, 0.02), index=8)]
    for answer in answers:
        alice.finish(answer)
    assert fit(alice.pairs.current, bob.pairs.next)
    assert alice.peer.begun == ()


def test_an_answer_that_was_overtaken_is_none_any_more(alice, bob):
    first, second = call(alice, 1), call(alice, 2)
    answers = [bob.answer(bob.read(first), index=7), bob.answer(bob.read(second, 0.02), index=8)]
    alice.finish(answers[1])
    with pytest.raises(HandshakeError):
        alice.finish(answers[0])
    assert fit(alice.pairs.current, bob.pairs.next)


def test_a_peer_takes_calls_in_the_order_of_their_stamps(alice, bob):
    first, second = call(alice, 1), call(alice, 2)
    bob.read(second)
    assert reason(bob.read, first, 1.0) == "replayed_timestamp"


def test_an_ordinary_initiation_ends_the_calls(alice, bob):
    answer = bob.answer(bob.read(call(alice, 1)))
    alice.begin(index=2, wall_ns=WALL + 10**9)
    assert alice.peer.begun == (2,)
    with pytest.raises(HandshakeError):
        alice.finish(answer)


def test_one_call_can_be_given_up(alice, bob):
    first, second = call(alice, 1), call(alice, 2)
    alice.peer.forget_call(1)
    alice.peer.forget_call(99)
    with pytest.raises(HandshakeError):
        alice.finish(bob.answer(bob.read(first)))
    alice.finish(bob.answer(bob.read(second, 0.02)))


def test_a_forged_response_leaves_the_handshake_under_way(alice, bob):
    answer = bob.answer(bob.read(alice.begin(index=5)))
    forged = dataclasses.replace(parse_response(answer), sealed_empty=bytes(16))
    with pytest.raises(HandshakeError):
        alice.peer.consume_response(forged, 0.0)
    assert alice.peer.initiation_index == 5
    assert alice.peer.timers.handshake_under_way
    alice.finish(answer)


def test_a_response_is_consumed_once(alice, bob):
    answer = bob.answer(bob.read(alice.begin()))
    alice.finish(answer)
    with pytest.raises(HandshakeError):
        alice.finish(answer)


def test_a_forgotten_handshake_is_over(alice, bob):
    answer = bob.answer(bob.read(alice.begin()))
    alice.peer.forget_handshake()
    assert alice.peer.initiation_index is None
    with pytest.raises(HandshakeError):
        alice.finish(answer)


def test_both_sides_begin_at_once(alice, bob):
    from_alice, from_bob = alice.begin(index=1), bob.begin(index=2)
    to_bob = alice.answer(alice.read(from_bob), index=3)
    to_alice = bob.answer(bob.read(from_alice), index=4)
    assert alice.peer.initiation_index == 1
    assert alice.finish(to_alice) == 4
    assert bob.finish(to_bob) == 3
    # Each seals with the session it began, and can open the other's.
    assert fit(alice.pairs.current, bob.pairs.previous)
    assert fit(bob.pairs.current, alice.pairs.previous)


def test_our_initiation_between_reading_theirs_and_answering_it(alice, bob):
    responder = bob.read(alice.begin(index=1))
    from_bob = bob.begin(index=2)
    answer = bob.answer(responder, index=3)
    assert bob.peer.initiation_index == 2
    assert alice.finish(answer) == 3
    assert fit(alice.pairs.current, bob.pairs.next)
    bob.finish(alice.answer(alice.read(from_bob)))
    assert fit(bob.pairs.current, alice.pairs.next)


def test_cookies(alice, bob):
    first = alice.begin()
    assert not bob.checker.check_mac2(first, SOURCE, 0.0)
    reply = parse_cookie_reply(bob.checker.reply(first, SOURCE, 0.0))
    assert reply.receiver == 1
    assert alice.peer.consume_cookie(reply, 0.0)
    assert alice.peer.initiation_index == 1
    retry = alice.begin(now=5.0, wall_ns=WALL + 10**9)
    assert bob.checker.check_mac2(retry, SOURCE, 5.0)
    # The initiator may be under load as well: responses carry the same macs.
    answer = bob.answer(bob.read(retry))
    reply = parse_cookie_reply(alice.checker.reply(answer, SOURCE, 5.0))
    assert bob.peer.consume_cookie(reply, 5.0)


def test_the_timers_follow_the_handshake(alice, bob):
    assert alice.peer.timers.want_handshake(100.0) == [Action.SEND_INITIATION]
    first = alice.begin(now=100.0)
    assert alice.peer.timers.look(Activity(), 100.0)[1] == 105.0
    alice.finish(bob.answer(bob.read(first), now=100.5), now=101.0)
    assert not alice.peer.timers.handshake_under_way
    assert alice.peer.timers.look(Activity(), 101.0)[1] == 641.0
    assert bob.peer.timers.look(Activity(), 101.0)[1] == 640.5


def test_a_peer_with_a_key_of_low_order(alice):
    point = PublicKey(raw(load("x25519")["low_order"][2]))
    peer = Peer(alice.local, point, None, lambda: 0.0)
    with pytest.raises(HandshakeError):
        peer.initiation(index=1, ephemeral=b"e" * 32, wall_ns=WALL, now=100.0)
    assert peer.initiation_index is None
    # It counts as tried: no loop.
    assert peer.timers.want_handshake(100.0) == []


def test_a_failed_initiation_leaves_none_under_way(alice):
    alice.begin(index=1)
    alice.local.wipe()
    with pytest.raises(HandshakeError):
        alice.begin(index=2)
    assert alice.peer.initiation_index is None


def test_a_new_private_key(alice, bob):
    answer = bob.answer(bob.read(alice.begin()))
    carol = PrivateKey(b"c" * 32)
    alice.local.wipe()
    alice.local = Local(carol)
    alice.peer.rebind(alice.local)
    assert alice.peer.initiation_index is None
    with pytest.raises(HandshakeError):
        alice.finish(answer)
    bob_of_carol = Side(BOB, carol)
    alice.checker = CookieChecker(alice.local.public, bytes)
    first = alice.begin(wall_ns=WALL + 10**9)
    alice.finish(bob_of_carol.answer(bob_of_carol.read(first)))
    assert fit(alice.pairs.current, bob_of_carol.pairs.next)
    assert alice.peer.remote.public_key == BOB.public()
