"""Openers, volleys, guesses, birthdays: who gets what, and when."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat import birthday, facts
from wgpy.nat.behaviour import SYMMETRIC, Behaviour
from wgpy.nat.birthday import OPENING_SECONDS
from wgpy.nat.candidates import Candidate, Kind, Rank
from wgpy.nat.facts import NUMBERS, NatFacts, Role, birthday_role, opener_ttl, told_as
from wgpy.nat.place import Place
from wgpy.nat.predict import guesses
from wgpy.nat.punch import LEAD, Target, Volley
from wgpy.nat.round import targets

FAR = Target(Place("192.0.2.1", 1), Rank.V4)
GUESS = Target(Place("192.0.2.1", 2), Rank.V4, guess=True)
NEAR = Target(Place("192.168.1.1", 1), Rank.LAN)
SIX = Target(Place("2001:db8::1", 1), Rank.V6)
LENT = Target(Place("198.51.100.1", 1), Rank.RELAY)

EIM = NatFacts(Behaviour.ENDPOINT_INDEPENDENT, Behaviour.ADDRESS_AND_PORT_DEPENDENT)
SYM = NatFacts(Behaviour.ADDRESS_AND_PORT_DEPENDENT, Behaviour.ADDRESS_AND_PORT_DEPENDENT)
SEQ = NatFacts(Behaviour.ADDRESS_AND_PORT_DEPENDENT, Behaviour.UNKNOWN, step=2)


def fired(volley, *, spend=lambda place: 0.0, until=10_000.0):
    """Every shot with its time."""
    shots = []
    while (due := volley.due()) is not None and due <= until:
        shots += [(round(due, 3), shot.place, shot.ttl) for shot in volley.step(due, spend)]
    return shots


def test_an_opener_and_then_the_volley():
    shots = fired(Volley([FAR], 100.0, 2))
    assert shots == [
        (100.0, FAR.place, 2),
        (100.1, FAR.place, 0),
        (100.2, FAR.place, 0),
        (100.4, FAR.place, 0),
        (100.8, FAR.place, 0),
        (101.6, FAR.place, 0),
    ]


def test_only_where_ports_change_an_opener_is_needed():
    volley = Volley([NEAR, SIX, LENT], 100.0, 2)
    shots = fired(volley)
    assert all(ttl == 0 for _, _, ttl in shots)
    assert [when for when, place, _ in shots if place == SIX.place] == [
        100.0,
        100.1,
        100.3,
        100.7,
        101.5,
    ]
    assert volley.end == pytest.approx(102.3)


def test_guesses_are_many_and_get_less():
    shots = fired(Volley([GUESS], 100.0, 3))
    assert [(when, ttl) for when, _, ttl in shots] == [
        (100.0, 3),
        (100.1, 0),
        (100.4, 0),
        (101.6, 0),
    ]


def test_a_probe_that_has_to_wait_is_sent_later_and_the_round_ends_later():
    volley, waits = Volley([NEAR], 100.0, 2), iter([3.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    shots = fired(volley, spend=lambda place: next(waits))
    assert [when for when, _, _ in shots] == [100.1, 100.3, 100.7, 101.5, 103.0]
    assert volley.end == pytest.approx(103.8)


def test_when_a_path_is_proved_only_better_ones_are_tried():
    volley = Volley([FAR, NEAR, SIX], 100.0, 2)
    volley.settle_for(Rank.V6, 100.0)
    assert {place for _, place, _ in fired(volley)} == {NEAR.place}
    volley.settle_for(Rank.LAN, 101.0)
    assert volley.due() is None
    assert volley.end == pytest.approx(101.8)


@given(st.lists(st.sampled_from([FAR, GUESS, NEAR, SIX, LENT]), max_size=10))
def test_no_place_gets_more_than_six(chosen):
    counts = Counter(place for _, place, _ in fired(Volley(set(chosen), 5.0, 2)))
    assert all(number <= 6 for number in counts.values())


def test_a_person_takes_minutes():
    volley = Volley([], 100.0, 2)
    volley.be_patient([FAR, NEAR], 100.0, 2, 160.0)
    shots = fired(volley)
    assert [(when, ttl) for when, place, ttl in shots if place == FAR.place] == [
        (100.0 + 5 * number, 0 if number % 3 == 2 else 2) for number in range(12)
    ]
    assert [when for when, place, _ in shots if place == NEAR.place] == [110, 125, 140, 155]
    volley = Volley([], 100.0, 2)
    volley.be_patient([FAR, NEAR], 100.0, 2, 160.0, only_open=True)
    shots = fired(volley)
    assert {ttl for _, place, ttl in shots if place == FAR.place} == {2}
    assert [when for when, place, _ in shots if place == NEAR.place] == [110, 125, 140, 155]


def test_whom_to_try_from_where():
    told = (
        Candidate(Kind.HOST, "192.168.1.1", 1),
        Candidate(Kind.HOST, "2001:db8::1", 1),
        Candidate(Kind.PREDICTED, "192.0.2.1", 2),
        Candidate(Kind.REFLEXIVE, "192.0.2.1", 1),
        Candidate(Kind.RELAYED, "198.51.100.1", 1),
    )
    assert targets(told, 7) == [
        FAR._replace(place=FAR.place._replace(via=7)),
        GUESS._replace(place=GUESS.place._replace(via=7)),
        NEAR,
        SIX,
        LENT,
    ]


# --- What the NATs tell ---


def test_the_opener_passes_our_nats_and_no_more():
    assert [opener_ttl(NatFacts(layers=number)) for number in (0, 1, 2, 3, 9)] == [2, 2, 3, 4, 4]


@pytest.mark.parametrize(
    ("ours", "theirs", "role"),
    [
        (SYM, EIM, Role.MANY),
        (EIM, SYM, Role.SPRAY),
        (SYM, SYM, None),
        (EIM, EIM, None),
        (SEQ, EIM, None),
        (SYM, NatFacts(), None),
    ],
)
def test_who_does_what_by_the_birthday_method(ours, theirs, role):
    def willing(side, birthday):
        return NatFacts(side.mapping, side.filtering, side.step, side.layers, birthday)

    assert birthday_role(willing(ours, True), willing(theirs, True)) is role
    for one, two in ((False, True), (True, False), (False, False)):
        assert birthday_role(willing(ours, one), willing(theirs, two)) is None


def test_why_there_is_no_direct_way_is_said():
    assert "both sides" in facts.why_relayed(SYM, SYM)
    assert facts.why_relayed(SYM, EIM).startswith("our NAT")
    assert facts.why_relayed(EIM, SYM).startswith("their NAT")
    assert facts.why_relayed(SYM, EIM).endswith("lets none in")
    # Servers tell the mapping, and seldom the filter.
    mapped = NatFacts(Behaviour.ENDPOINT_INDEPENDENT)
    assert facts.why_relayed(mapped, SYM).endswith("no probe came through")
    assert facts.why_relayed(EIM, EIM) == "no probe came through"


# --- Guesses ---


def test_the_next_ports_of_a_nat_that_goes_in_order():
    told = list(guesses(SEQ, ("192.0.2.1", 40000), 51820))
    assert told == [Candidate(Kind.PREDICTED, "192.0.2.1", 40000 + 2 * n) for n in range(1, 9)]
    assert len(list(guesses(SEQ, ("192.0.2.1", 40000), 51820, 3))) == 3
    downwards = NatFacts(SEQ.mapping, SEQ.filtering, step=-1)
    assert [x.port for x in guesses(downwards, ("192.0.2.1", 1027), 1)] == [1026, 1025, 1024]
    assert [x.port for x in guesses(SEQ, ("192.0.2.1", 65532), 1)] == [65534]


def test_the_local_port_may_have_been_kept():
    told = list(guesses(SYM, ("192.0.2.1", 40000), 51820))
    assert told == [Candidate(Kind.PREDICTED, "192.0.2.1", 51820)]
    assert list(guesses(SYM, ("192.0.2.1", 51820), 51820)) == []
    assert list(guesses(EIM, ("192.0.2.1", 40000), 51820)) == []
    assert list(guesses(NatFacts(), ("192.0.2.1", 40000), 51820)) == []


# --- The birthday method ---


def barrage(made, start):
    shots, now = [], start
    while now < start + 20:
        shots += [(now, shot.place) for shot in made.step(now)]
        now += 0.0025
    return shots


def test_from_each_of_our_sockets_once():
    made = birthday.many(range(1, 300), "192.0.2.1", 9, 100.0)
    shots = barrage(made, 100.0)
    assert [place for _, place in shots] == [Place("192.0.2.1", 9, via) for via in range(1, 257)]
    assert shots[-1][0] - 100.0 == pytest.approx(OPENING_SECONDS, abs=0.02)
    assert made.due() is None
    assert made.end == pytest.approx(100.0 + 1.28 + 5.12 + 1.0, abs=0.1)


@given(st.integers(0, 1000))
def test_to_a_thousand_different_ports(seed):
    made = birthday.spray("192.0.2.1", 100.0, random.Random(seed).randbytes)
    places = made.places
    assert len(set(places)) == 1024
    assert all(1024 <= place.port <= 65535 for place in places)
    # No block of ports is left out that a NAT could allocate from.
    assert {place.port // 64 for place in places} == set(range(1024 // 64, 65536 // 64))


@pytest.mark.parametrize("drawn", [b"\0", b"\xff", b"\x3f"])
def test_bad_luck_with_random_numbers_ends_as_well(drawn):
    made = birthday.spray("192.0.2.1", 100.0, lambda length: drawn * length)
    assert len(set(made.places)) == 1024


def test_never_faster_than_its_rate():
    made = birthday.spray("192.0.2.1", 100.0, random.Random(1).randbytes)
    assert made.step(101.2) == []
    # The process slept: what was due meanwhile does not come at once.
    times = []
    now = 105.0
    while len(times) < 400:
        times += [now] * len(made.step(now))
        now += 0.001
    assert max(sum(0 <= t - s < 1 for t in times) for s in times) <= 204


def test_a_proof_ends_it():
    made = birthday.spray("192.0.2.1", 100.0, random.Random(1).randbytes)
    made.step(101.3)
    made.stop(101.4)
    assert made.due() is None
    assert made.step(103.0) == []
    assert made.end == pytest.approx(102.4)


def test_the_lead_is_more_than_signals_differ_by():
    assert LEAD >= 0.1


@pytest.mark.parametrize("behaviour", Behaviour)
def test_what_is_known_in_part_is_told_as_the_least_that_is_certain(behaviour: Behaviour) -> None:
    told = told_as(behaviour)
    assert told in NUMBERS
    assert told is behaviour or behaviour not in NUMBERS
    # Who takes another port for each destination is not told as who does not.
    assert (behaviour in SYMMETRIC) == NatFacts(told).depends
