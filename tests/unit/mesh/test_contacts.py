"""Whom a node turns to: an order of its own, every endpoint, and pauses that grow."""

from collections import Counter

from tests.support.stores import key
from wgpy.mesh.contacts import LEAST_PAUSE, MOST_PAUSE, STEADY, Attempt, Contacts, Whom
from wgpy.mesh.line import Endpoint

OWN = key(0)


def whom(number: int, *hosts: str) -> Whom:
    places = tuple(Endpoint(host, 51820) for host in hosts or (f"192.0.2.{number}",))
    return Whom(key(number), f"c{number}.mesh", places, (bytes(15) + bytes([number]),))


def contacts(*coordinators: Whom, chance: float = 1.0) -> Contacts:
    made = Contacts(OWN, lambda: chance)
    made.set(coordinators)
    return made


def test_without_anybody_there_is_a_pause() -> None:
    made = contacts()
    assert made.current is None
    made.lost(100.0)
    assert made.next_at() == 100.0 + LEAST_PAUSE


def test_every_endpoint_of_everybody_has_its_turn() -> None:
    made = contacts(whom(1, "a.example", "b.example"), whom(2))
    seen: list[Attempt | None] = []
    for _ in range(3):
        assert made.next_at() == 0.0, "no pause within a round"
        seen.append(made.current)
        made.lost(10.0)
    assert len(set(seen)) == 3
    assert made.next_at() == 10.0 + LEAST_PAUSE
    assert made.current == seen[0]


def test_pauses_double_up_to_a_minute() -> None:
    made = contacts(whom(1))
    pauses = []
    for _ in range(12):
        made.lost(0.0)
        pauses.append(made.next_at())
    assert pauses[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert max(pauses) == MOST_PAUSE


def test_pauses_are_not_the_same_for_everybody() -> None:
    early, late = contacts(whom(1), chance=0.0), contacts(whom(1), chance=1.0)
    for made in (early, late):
        made.lost(0.0)
    assert early.next_at() == LEAST_PAUSE / 2
    assert late.next_at() == LEAST_PAUSE


def test_a_connection_that_lasted_begins_anew() -> None:
    made = contacts(whom(1))
    for _ in range(5):
        made.lost(0.0)
    made.connected(100.0)
    made.lost(100.0 + STEADY)
    assert made.next_at() == 100.0 + STEADY + LEAST_PAUSE


def test_one_that_did_not_last_does_not() -> None:
    """A coordinator that takes connections and drops them is not asked each second."""
    made = contacts(whom(1))
    for number in range(5):
        made.connected(100.0 * number)
        made.lost(100.0 * number + 1)
    assert made.next_at() == 401.0 + 16.0


def test_somebody_who_hurries_does_not_wait() -> None:
    made = contacts(whom(1))
    made.lost(5.0)
    made.again()
    assert made.next_at() == 0.0


def test_the_current_one_stays_when_others_come() -> None:
    made = contacts(whom(1), whom(2))
    made.lost(0.0)
    current = made.current
    made.set([whom(1), whom(2), whom(3), whom(4)])
    assert made.current == current
    made.set([x for x in (whom(3), whom(4)) if current is not None])
    assert made.current is not None
    assert made.current.whom in (whom(3), whom(4))


def test_a_coordinator_turns_to_itself_first_and_needs_no_endpoint() -> None:
    own = Whom(OWN, "own.mesh", (Endpoint("192.0.2.9", 1),), (bytes(16),))
    made = contacts(whom(1), own, whom(2))
    assert made.current == Attempt(own, None)


def test_nodes_spread_over_coordinators() -> None:
    first: Counter[str | None] = Counter()
    for number in range(1000):
        made = Contacts(key(1000 + number), lambda: 0.5)
        made.set([whom(101), whom(102)])
        assert made.current is not None
        first[made.current.whom.name] += 1
    assert min(first.values()) > 400
