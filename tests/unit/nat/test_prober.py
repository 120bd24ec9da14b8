"""Questions and answers: replays, transactions, places, path ids."""

import random

import pytest

from tests.unit.nat.test_probe import ALICES, BOBS
from wgpy.nat.path_ids import MAX_SETS, OurIds, TheirIds
from wgpy.nat.place import Place
from wgpy.nat.prober import MAX_TRANSACTIONS, Answer, Prober, Purpose, Question

HOME, AWAY = Place("192.0.2.1", 51820), Place("198.51.100.1", 51820)


class Two:
    """Two probers who know each other's path ids."""

    def __init__(self):
        self.alice = Prober(ALICES.probe, random.Random(1).randbytes)
        self.bob = Prober(BOBS.probe, random.Random(2).randbytes)
        self.alice.theirs.told(self.bob.ours.to_tell().ids)
        self.bob.theirs.told(self.alice.ours.to_tell().ids)

    def ask(self, to=AWAY, now=1.0, **more):
        return self.alice.ask(to, now, Purpose.CHECK, **more).data

    def question(self, source=HOME, now=1.1, **more):
        return self.bob.receive(self.ask(**more), source, now)


@pytest.fixture
def two():
    return Two()


def test_a_question_and_its_answer(two):
    sent = two.alice.ask(AWAY, 1.0, Purpose.LENGTH, length=1400, ttl=2, whole=True)
    assert (sent.to, sent.ttl, sent.whole, len(sent.data)) == (AWAY, 2, True, 1400)
    question = two.bob.receive(sent.data, HOME, 1.1)
    assert isinstance(question, Question)
    assert (question.source, question.length, question.index) == (HOME, 1400, 0)
    reply = two.bob.answer(question)
    assert reply.to == HOME
    answer = two.alice.receive(reply.data, AWAY, 1.2)
    assert isinstance(answer, Answer)
    assert (answer.place, answer.asked_at, answer.length) == (AWAY, 1.0, 1400)
    assert answer.purpose is Purpose.LENGTH
    assert answer.seen_as == ("192.0.2.1", 51820)


def test_nothing_is_asked_before_the_first_signal():
    prober = Prober(ALICES.probe, random.Random(1).randbytes)
    assert not prober.can_ask
    assert prober.ask(AWAY, 1.0, Purpose.CHECK) is None


def test_a_probe_is_heard_once(two):
    data = two.ask()
    assert two.bob.receive(data, HOME, 1.1) is not None
    assert two.bob.receive(data, AWAY, 1.2) is None
    assert two.bob.counters["probe_replayed"] == 1


def test_a_reply_counts_once(two):
    reply = two.bob.answer(two.question()).data
    assert two.alice.receive(reply, AWAY, 1.2) is not None
    assert two.alice.receive(reply, AWAY, 1.3) is None
    assert two.alice.counters["probe_replayed"] == 1


def test_a_reply_from_elsewhere_proves_nothing(two):
    reply = two.bob.answer(two.question()).data
    for place in (HOME, AWAY._replace(port=1), AWAY._replace(via=3), AWAY._replace(channel=1)):
        assert two.alice.receive(reply, place, 1.2) is None
    assert two.alice.counters["probe_reply_from_elsewhere"] == 1
    assert two.alice.counters["probe_replayed"] == 3


def test_a_late_reply_proves_nothing(two):
    reply = two.bob.answer(two.question()).data
    assert two.alice.receive(reply, AWAY, 11.1) is None
    assert two.alice.counters["probe_late_reply"] == 1


def test_what_bears_no_id_of_ours_is_not_opened(two):
    data = bytearray(two.ask())
    data[4] ^= 1
    assert two.bob.receive(bytes(data), HOME, 1.1) is None
    assert two.bob.counters == {"probe_unknown_path_id": 1}


def test_garbage_is_counted(two):
    for data in (b"", b"\x12\0\0\0" + bytes(100), two.ask()[:-1], two.ask()[:-1] + b"\0"):
        assert two.bob.receive(data, HOME, 1.1) is None
    assert two.bob.counters["probe_malformed"] == 2
    assert two.bob.counters["probe_unknown_path_id"] == 1
    assert two.bob.counters["probe_unauthenticated"] == 1


def test_old_transactions_are_forgotten_and_so_are_too_many(two):
    first = two.question()
    for _ in range(MAX_TRANSACTIONS):
        two.ask()
    assert len(two.alice._asked) == MAX_TRANSACTIONS
    assert two.alice.receive(two.bob.answer(first).data, AWAY, 1.2) is None
    two.ask(now=20.0)
    assert len(two.alice._asked) == 1


def test_a_peer_that_counts_anew_is_heard_by_its_new_ids(two):
    for _ in range(100):
        two.question()
    again = Prober(ALICES.probe, random.Random(3).randbytes)
    again.theirs.told(two.bob.ours._sets[0].ids)
    assert two.bob.receive(again.ask(AWAY, 1.0, Purpose.CHECK).data, HOME, 1.1) is None
    again.theirs.told(two.bob.ours.to_tell(new=True).ids)
    data = again.ask(AWAY, 1.0, Purpose.CHECK).data
    assert two.bob.receive(data, HOME, 1.1) is not None


# --- Path ids ---


@pytest.fixture
def ours():
    return OurIds(random.Random(1).randbytes)


def test_ids_that_nobody_has_used_are_told_again(ours):
    first = ours.to_tell()
    assert len(set(first.ids)) == 4
    assert ours.to_tell() is first
    ours.confirm(first)
    second = ours.to_tell()
    assert second is not first
    assert ours.to_tell(new=True) not in (first, second)


def test_what_the_peer_uses_is_not_given_up_for_what_it_may_never_get(ours):
    used = ours.to_tell()
    ours.confirm(used)
    for _ in range(20):
        ours.to_tell(new=True)
    assert len(ours._sets) == MAX_SETS
    assert ours.find(used.ids[3]) == (used, 3)
    assert len(ours.all()) == 16


def test_of_what_was_used_the_last_two_stay(ours):
    sets = [ours.to_tell(new=True) for _ in range(3)]
    for each in sets:
        ours.confirm(each)
    assert ours.find(sets[0].ids[0]) is None
    assert ours.find(sets[1].ids[0]) == (sets[1], 0)
    assert ours.find(b"nonsense") is None


def test_a_fresh_id_on_each_network():
    ids = TheirIds()
    ids.advance()
    assert ids.current is None
    ids.told((b"1", b"2", b"3", b"4"))
    assert ids.current == b"1"
    ids.advance()
    assert ids.current == b"2"
    # The other side moved as well, further than we did.
    assert ids.follow(2)
    assert ids.current == b"3"
    assert not ids.follow(1)
    ids.told((b"1", b"2", b"3", b"4"))
    assert ids.current == b"3"
    ids.advance()
    ids.advance()
    assert (ids.current, ids.spent) == (b"4", 1)
    ids.told((b"5", b"6", b"7", b"8"))
    assert ids.current == b"5"
