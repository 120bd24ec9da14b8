"""The way to a plain WireGuard peer, with a responder as the kernel is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat.budget import Budget
from wgpy.nat.orders import Use
from wgpy.nat.place import Place
from wgpy.nat.plain import LISTEN, STEP, Initiate, PlainPath

PLACES = [Place(f"192.0.2.{number}", 51820) for number in range(1, 6)]


class Responder:
    """Answers initiations that reach it at `lives_at`, one in 20 ms; the initiator can use only the
    answer to its last one. `hints`: answers to others are told."""

    def __init__(self, path, lives_at, *, round_trip=0.06, hints=False):
        self.path = path
        self.lives_at = lives_at
        self.round_trip = round_trip
        self.hints = hints
        self.sent = []
        self.used = None

    def run(self, now, seconds):
        """Until it is used, or so long; returns when it was."""
        end, taken_at, answers = now + seconds, -1.0, []
        while now < end and self.used is None:
            for when, number in list(answers):
                if when <= now:
                    answers.remove((when, number))
                    if number == len(self.sent):
                        self.path.heard(self.lives_at, now)
                    elif self.hints:
                        self.path.hint(self.lives_at, now)
            self.path.tick(now)
            for order in self.path.take():
                if isinstance(order, Use):
                    self.used = order.place
                    continue
                self.sent.append((now, order.place))
                if order.place == self.lives_at and now - taken_at >= 0.020:
                    taken_at = now
                    answers.append((now + self.round_trip, len(self.sent)))
            now += 0.001
        return now


def searching(places=PLACES, now=100.0):
    path = PlainPath(Budget())
    path.candidates(places)
    path.want(now)
    return path


def test_each_candidate_in_turn_and_never_two_within_20_ms():
    path = searching()
    lab = Responder(path, Place("192.0.2.99", 1))
    lab.run(100.0, 1.0)
    assert [place for _, place in lab.sent] == PLACES
    gaps = [b[0] - a[0] for a, b in zip(lab.sent, lab.sent[1:], strict=False)]
    assert all(gap > 0.020 for gap in gaps)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("round_trip", [0.005, 0.06, 0.4])
def test_found_wherever_it_is(place, round_trip):
    lab = Responder(searching(), place, round_trip=round_trip)
    now = lab.run(100.0, 30.0)
    assert lab.used == place
    assert now - 100.0 < len(PLACES) * (LISTEN + len(PLACES) * STEP)


@pytest.mark.parametrize("place", PLACES)
def test_found_at_once_where_answers_of_earlier_ones_are_told(place):
    lab = Responder(searching(), place, round_trip=0.06, hints=True)
    now = lab.run(100.0, 30.0)
    assert lab.used == place
    assert now - 100.0 < len(PLACES) * STEP + 3 * 0.06


def test_made_up_hints_change_little():
    path = searching()
    sent, now = 0, 100.0
    while now < 110.0:
        for place in [*PLACES, Place("203.0.113.1", 1)]:
            path.hint(place, now)
        path.tick(now)
        orders = path.take()
        assert all(order.place in PLACES for order in orders)
        sent += len(orders)
        now += 0.001
    # One sweep and one hint a second.
    assert sent <= 10 * (len(PLACES) + 2)


def test_nothing_is_proved_by_what_was_not_asked():
    path = searching()
    path.heard(PLACES[2], 100.0)
    assert [order for order in path.take() if isinstance(order, Use)] == []
    assert path.used is None


def test_a_peer_that_moved_is_asked_where_it_is_now():
    path = searching()
    path.tick(100.0)
    path.heard(PLACES[0], 100.05)
    assert path.take() == [Initiate(PLACES[0]), Use(PLACES[0], 0.0)]
    assert path.due() is None
    moved = Place("198.51.100.7", 4000)
    path.heard(moved, 130.0)
    assert path.take() == [Initiate(moved)]
    path.heard(moved, 130.2)
    assert path.take() == [Use(moved, 0.0)]
    for never in (Place("127.0.0.1", 9), Place("224.0.0.1", 9)):
        path.heard(never, 131.0)
    assert path.take() == []


def test_a_search_ends():
    path = searching()
    lab = Responder(path, Place("192.0.2.99", 1))
    lab.run(100.0, 120.0)
    assert path.due() is None
    assert lab.sent[-1][0] < 190.0
    assert path.counters["searches_in_vain"] == 1
    path.want(500.0)
    assert path.due() == 500.0


def test_candidates_are_filtered():
    path = PlainPath(Budget())
    many = [Place("192.0.2.1", port) for port in range(1, 21)]
    path.candidates([Place("127.0.0.1", 1), Place("192.0.2.1", 0), *many, many[0]])
    assert path._places == tuple(many[:10])
    assert path.counters == {
        "candidate_loopback": 1,
        "candidate_port": 1,
        "candidate_too_many": 10,
    }
    path.candidates([])
    path.want(1.0)
    assert path.due() is None


events = st.lists(
    st.tuples(
        st.sampled_from(["tick", "want", "hint", "heard", "candidates"]),
        st.floats(0, 3),
        st.sampled_from([*PLACES, Place("198.51.100.1", 5), Place("127.0.0.1", 1)]),
    ),
    max_size=200,
)


@given(events)
def test_bounds_hold_whatever_happens(steps):
    path, now, sent = PlainPath(Budget()), 100.0, {}
    for what, pause, place in steps:
        now += pause
        if what == "candidates":
            path.candidates([place, *PLACES])
        elif what == "want":
            path.want(now)
        elif what == "tick":
            path.tick(now)
        else:
            getattr(path, what)(place, now)
        for order in path.take():
            if isinstance(order, Initiate):
                sent.setdefault(order.place, []).append(now)
        due = path.due()
        if due is not None and due <= now:
            path.tick(now)
            assert path.due() is None or path.due() > now
            for order in path.take():
                if isinstance(order, Initiate):
                    sent.setdefault(order.place, []).append(now)
    assert Place("127.0.0.1", 1) not in sent
    for times in sent.values():
        assert max(sum(0 <= t - s < 5 for t in times) for s in times) <= 10
