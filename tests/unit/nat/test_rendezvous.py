"""Which signals may be acted on."""

import random

import pytest

from tests.unit.nat.test_probe import ALICES, BOBS
from tests.unit.nat.test_signal_message import OFFER
from wgpy.nat.rendezvous import MAX_OPEN_ANSWERS, Answered, Offered, Punched, Rendezvous
from wgpy.nat.signal_message import parse_signal

SEQUENCE = 1_790_000_000_000


def alice_and_bob(**more):
    return (
        Rendezvous(ALICES, random.Random(1).randbytes, SEQUENCE, **more),
        Rendezvous(BOBS, random.Random(2).randbytes, SEQUENCE, **more),
    )


def offered(alice, bob, now):
    heard = bob.receive(alice.offer(OFFER, now), now + 0.06)
    assert isinstance(heard, Offered)
    return heard.message


def test_three_messages():
    alice, bob = alice_and_bob()
    offer = offered(alice, bob, 100.0)
    assert offer.candidates == OFFER.candidates
    answer = bob.answer(offer, OFFER, 0.2, 100.26)
    heard = alice.receive(answer, 100.32)
    assert isinstance(heard, Answered)
    assert heard.round_trip == pytest.approx(0.12)
    punch = alice.punch(heard.message, 0.5)
    begun = bob.receive(punch, 100.4)
    assert isinstance(begun, Punched)
    assert begun.delay == 0.5
    assert begun.message == offer


def test_each_message_is_heard_once():
    alice, bob = alice_and_bob()
    data = alice.offer(OFFER, 100.0)
    offer = bob.receive(data, 100.1)
    assert bob.receive(data, 100.2) is None
    answer = bob.answer(offer.message, OFFER, 0.0, 100.1)
    heard = alice.receive(answer, 100.2)
    assert alice.receive(answer, 100.3) is None
    punch = alice.punch(heard.message, 0.0)
    assert bob.receive(punch, 100.3) is not None
    assert bob.receive(punch, 100.4) is None
    assert bob.counters["signal_replayed"] == 2
    assert alice.counters["signal_replayed"] == 1


def test_an_old_order_of_messages_is_not_heard():
    alice, bob = alice_and_bob()
    first, second = alice.offer(OFFER, 100.0), alice.offer(OFFER, 101.0)
    assert bob.receive(second, 101.1) is not None
    assert bob.receive(first, 101.2) is None
    # After a long silence the sender's clock may have been set back; an old offer leads nowhere.
    assert isinstance(bob.receive(first, 402.0), Offered)


def test_an_answer_needs_an_offer_of_ours_that_is_not_old():
    alice, bob = alice_and_bob()
    answer = bob.answer(offered(alice, bob, 100.0), OFFER, 0.0, 100.1)
    stranger, _ = alice_and_bob()
    assert stranger.receive(answer, 100.2) is None
    assert stranger.counters["signal_unasked"] == 1
    assert alice.receive(answer, 160.1) is None
    assert alice.counters["signal_stale"] == 1


def test_a_punch_needs_an_answer_of_ours_that_is_not_old():
    alice, bob = alice_and_bob()
    offer = offered(alice, bob, 100.0)
    heard = alice.receive(bob.answer(offer, OFFER, 0.0, 100.1), 100.2)
    punch = alice.punch(heard.message, 0.0)
    _, another = alice_and_bob()
    assert another.receive(punch, 100.3) is None
    assert another.counters["signal_unasked"] == 1
    assert bob.receive(punch, 160.2) is None
    assert bob.counters["signal_stale"] == 1


def test_of_several_offers_each_may_be_answered_and_tells_its_own_round_trip():
    alice, bob = alice_and_bob()
    first = alice.offer(OFFER, 100.0)
    alice.offer(OFFER, 101.0)
    offer = bob.receive(first, 101.03).message
    heard = alice.receive(bob.answer(offer, OFFER, 0.0, 101.03), 101.06)
    assert heard.round_trip == pytest.approx(1.06)
    assert alice.receive(bob.answer(offer, OFFER, 0.0, 101.1), 101.2) is None


def test_what_was_withdrawn_is_not_answered():
    alice, bob = alice_and_bob()
    offer = offered(alice, bob, 100.0)
    alice.withdraw()
    assert alice.receive(bob.answer(offer, OFFER, 0.0, 100.1), 100.2) is None


def test_a_probe_says_the_same_as_a_punch():
    alice, bob = alice_and_bob()
    assert bob.implied(100.0) is None
    offer = offered(alice, bob, 100.0)
    bob.answer(offer, OFFER, 0.0, 100.1)
    assert bob.implied(100.2) == Punched(offer, 0.0)
    assert bob.implied(100.3) is None
    bob.answer(offer, OFFER, 0.0, 100.1)
    assert bob.implied(160.2) is None


def test_offers_are_answered_one_a_second():
    alice, bob = alice_and_bob()
    heard = [bob.receive(alice.offer(OFFER, 100.0), 100.0) for _ in range(20)]
    assert sum(each is not None for each in heard) == 4
    assert bob.counters["signal_offers_shed"] == 16
    assert bob.receive(alice.offer(OFFER, 101.5), 101.5) is not None


def test_what_people_paste_lives_longer():
    alice, bob = alice_and_bob(life=600)
    offer = offered(alice, bob, 100.0)
    heard = alice.receive(bob.answer(offer, OFFER, 0.0, 300.0), 690.0)
    assert isinstance(heard, Answered)


def test_garbage_is_counted():
    alice, bob = alice_and_bob()
    data = alice.offer(OFFER, 100.0)
    for wrong in (b"", data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b"\7" + data[1:]):
        assert bob.receive(wrong, 100.1) is None
    assert bob.counters == {
        "signal_malformed": 2,
        "signal_unauthenticated": 1,
        "signal_version": 1,
    }


def test_sequence_numbers_rise_from_the_clock():
    alice, _ = alice_and_bob()
    numbers = [parse_signal(alice.offer(OFFER, 1.0), BOBS.signal).sequence for _ in range(3)]
    assert numbers == [SEQUENCE + 1, SEQUENCE + 2, SEQUENCE + 3]


def test_of_several_answers_each_may_be_acted_on():
    """An offer is repeated while its answer is on the way, and both are answered."""
    alice, bob = alice_and_bob()
    first = offered(alice, bob, 100.0)
    answer = bob.answer(first, OFFER, 0.0, 100.1)
    second = offered(alice, bob, 101.0)
    bob.answer(second, OFFER, 0.0, 101.1)
    heard = alice.receive(answer, 101.2)
    punch = alice.punch(heard.message, 0.0)
    assert bob.receive(punch, 101.3) == Punched(first, 0.0)
    # The other answer is void with it.
    assert bob.implied(101.4) is None


def test_answers_that_nobody_acts_on_are_few():
    alice, bob = alice_and_bob()
    answers = []
    for number in range(MAX_OPEN_ANSWERS + 1):
        now = 100.0 + number
        answers.append(bob.answer(offered(alice, bob, now), OFFER, 0.0, now))
    heard = alice.receive(answers[0], 106.0)
    assert bob.receive(alice.punch(heard.message, 0.0), 106.1) is None
