"""Measuring how long a NAT remembers: the search, one look, and a day with both."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stun_world import SQUARE, START, Nat, Ports, Rule, World
from wgpy.nat.lifetime import (
    DAY,
    LADDER,
    SHORTEST,
    USUAL_INTERVAL,
    Bracket,
    Lifetime,
    bracket,
    keepalive,
    next_idle,
    spread,
)
from wgpy.nat.lifetime_look import Look, Verdict
from wgpy.nat.place import Place
from wgpy.nat.stun import parse

SIDE = SQUARE[0]._replace(via=5)
ALIVE, DEAD, SAME, UNKNOWN = Verdict


def search(life: float, verdict: Verdict = ALIVE) -> dict[int, Verdict]:
    """All looks of a search, of a NAT that forgets after `life`; who survives gets `verdict`."""
    found: dict[int, Verdict] = {}
    while (idle := next_idle(found)) is not None:
        assert idle not in found
        found[idle] = verdict if idle <= life else DEAD
    return found


# --- The search ---


@pytest.mark.parametrize(
    ("life", "looks", "known"),
    [
        (5, [30, 15, 10], Bracket(0, 10)),
        (10, [30, 15, 10], Bracket(10, 15)),
        (20, [30, 15, 20], Bracket(20, 30)),
        (30, [30, 60, 45], Bracket(30, 45)),
        (59, [30, 60, 45], Bracket(45, 60)),
        (60, [30, 60, 120, 90], Bracket(60, 90)),
        (120, [30, 60, 120, 180], Bracket(120, 180)),
        (300, [30, 60, 120, 180], Bracket(180, None)),
    ],
)
def test_the_search_goes_up_and_then_between(life: float, looks: list[int], known: Bracket) -> None:
    found = search(life)
    assert list(found) == looks
    assert bracket(found) == known


@given(st.floats(0, 400))
def test_the_search_ends_between_two_steps_of_the_ladder(life: float) -> None:
    known = bracket(search(life))
    assert known.alive <= life
    assert known.dead is None or life < known.dead
    steps = (0, *LADDER, None)
    assert (known.alive, known.dead) in itertools.pairwise(steps)


def test_the_same_mapping_counts_only_below_another() -> None:
    assert bracket(search(300, SAME)) == Bracket(0, None), "it may be given anew each time"
    assert bracket(search(100, SAME)) == Bracket(90, 120)
    assert next_idle({30: SAME}) == 60


def test_what_is_not_known_ends_the_search() -> None:
    assert next_idle({30: ALIVE, 60: UNKNOWN}) is None
    assert bracket({30: ALIVE, 60: UNKNOWN}) == Bracket(30, None)


@pytest.mark.parametrize(
    ("known", "seconds"),
    [
        (Bracket(), 25.0),
        (Bracket(0, 10), 5.0),
        (Bracket(10, 15), 5.0),
        (Bracket(20, 30), 15.0),
        (Bracket(30, 45), 25.0),
        (Bracket(45, 60), 25.0),
        (Bracket(60, 90), 27.5),
        (Bracket(120, 180), 57.5),
        (Bracket(180, None), 87.5),
    ],
)
def test_the_interval(known: Bracket, seconds: float) -> None:
    assert keepalive(known) == seconds


@given(st.floats(0, 400))
def test_the_interval_keeps_the_mapping(life: float) -> None:
    interval = keepalive(bracket(search(life)))
    assert interval >= SHORTEST
    assert interval < life or interval == SHORTEST
    # Longer than usual only if one may be lost.
    assert interval <= USUAL_INTERVAL or 2 * interval < life


def test_the_interval_is_spread() -> None:
    assert spread(25.0, lambda length: b"\0" * length) == 25.0
    assert spread(25.0, lambda length: b"\xff" * length) == pytest.approx(20.0)


# --- One look ---


def look(world: World, idle: int, seconds: float) -> Look:
    made = Look(SIDE, idle, world.now, world.random)
    world.run(made, seconds)
    return made


@pytest.mark.parametrize("ports", Ports)
@pytest.mark.parametrize("mapping", Rule)
def test_our_server_tells_whether_a_mapping_lives(ports: Ports, mapping: Rule) -> None:
    for life, verdict in ((61.0, ALIVE), (59.0, DEAD)):
        world = World(Nat(mapping=mapping, ports=ports, life=life))
        world.serve(SQUARE)
        made = look(world, 60, 140.0)
        assert made.verdict is verdict
        tries = 1 if verdict is ALIVE else 2
        assert len(world.sent) == 2 * tries
        assert made.due() is None
        # Used for 3 s first, and then silent.
        assert world.sent[1][0] - world.sent[0][0] == pytest.approx(3.02)
        assert "ANSWER-AFTER" in parse(world.sent[1][1].data).attributes


@pytest.mark.parametrize("which", [1, 3])
def test_one_lost_packet_does_not_make_a_mapping_dead(which: int) -> None:
    world = World(Nat())
    world.serve(SQUARE)
    count = itertools.count()
    # The request that asks for a late answer, or that answer.
    world.lose = lambda data, to: b"\xca\x7e" in data[20:24] and next(count) == 0
    if which == 3:
        world.lose = lambda data, to: to.host == "203.0.113.9" and next(count) == 1
    assert look(world, 30, 80.0).verdict is ALIVE


@pytest.mark.parametrize(
    ("ports", "life", "verdict"),
    [
        (Ports.KEPT, 61.0, SAME),
        (Ports.KEPT, 59.0, SAME),
        (Ports.RANDOM, 61.0, SAME),
        (Ports.RANDOM, 59.0, DEAD),
        (Ports.SEQUENTIAL, 59.0, DEAD),
    ],
)
def test_another_server_tells_only_that_it_is_another(
    ports: Ports, life: float, verdict: Verdict
) -> None:
    world = World(Nat(ports=ports, life=life))
    responder = world.serve(SQUARE)
    usual = responder._send
    responder._send = lambda reply, delay, now: usual(reply, 0, now)  # type: ignore[method-assign]
    assert look(world, 60, 70.0).verdict is verdict


def test_a_server_that_is_away_says_nothing_of_the_nat() -> None:
    world = World(Nat())
    assert look(world, 60, 10.0).verdict is UNKNOWN
    world.serve(SQUARE)
    made = Look(SIDE, 30, world.now, world.random)
    world.run(made, 1.0)
    world.stop(SQUARE)
    world.run(made, 60.0)
    assert made.verdict is UNKNOWN


# --- A day with it ---


@pytest.mark.parametrize(
    ("life", "known", "interval"),
    [(25.0, Bracket(20, 30), 15.0), (30.5, Bracket(30, 45), 25.0), (185.0, Bracket(180), 87.5)],
)
def test_the_interval_follows_the_nat(life: float, known: Bracket, interval: float) -> None:
    world = World(Nat(life=life))
    world.serve(SQUARE)
    lifetime = Lifetime(world.random)
    assert lifetime.interval == USUAL_INTERVAL
    assert lifetime.begin(SIDE, world.now)
    assert lifetime.is_searching
    world.run(lifetime, 1000.0)
    assert not lifetime.is_searching
    assert lifetime.known == known
    assert lifetime.interval == interval
    assert all(sent.to.via == SIDE.via for _, sent in world.sent)


def test_it_searches_once_a_day() -> None:
    world = World(Nat())
    world.serve(SQUARE)
    lifetime = Lifetime(world.random)
    assert lifetime.begin(SIDE, world.now)
    assert not lifetime.begin(SIDE, world.now), "one goes on already"
    world.run(lifetime, 1000.0)
    sent = len(world.sent)
    assert not lifetime.begin(SIDE, world.now)
    assert not lifetime.begin(SIDE, START + DAY - 1)
    lifetime.moved()
    assert not lifetime.begin(SIDE, world.now), "not even in another network"
    world.run(lifetime, DAY)
    assert len(world.sent) == sent
    assert lifetime.begin(SIDE, world.now)


def test_another_network_forgets() -> None:
    world = World(Nat(life=185.0))
    world.serve(SQUARE)
    lifetime = Lifetime(world.random)
    lifetime.begin(SIDE, world.now)
    world.run(lifetime, 1000.0)
    assert lifetime.interval == 87.5
    lifetime.moved()
    assert lifetime.interval == USUAL_INTERVAL
    lifetime.begin(SIDE, world.now + DAY)
    lifetime.moved()
    assert (lifetime.is_searching, lifetime.take(), lifetime.due()) == (False, [], None)


def test_a_search_that_breaks_off_takes_nothing_back() -> None:
    world = World(Nat(life=185.0))
    world.serve(SQUARE)
    lifetime = Lifetime(world.random)
    lifetime.begin(SIDE, world.now)
    world.run(lifetime, DAY)
    world.stop(SQUARE)
    assert lifetime.begin(SIDE, world.now)
    world.run(lifetime, 100.0)
    assert lifetime.known == Bracket(180)
    assert lifetime.counters["looks_unknown"] == 1


def test_what_the_tunnel_sees_counts_at_once() -> None:
    world = World(Nat(life=185.0))
    world.serve(SQUARE)
    lifetime = Lifetime(world.random)
    lifetime.begin(SIDE, world.now)
    world.run(lifetime, 1000.0)
    lifetime.lost(87.0, world.now)
    assert lifetime.known == Bracket(60, 87)
    lifetime.lost(100.0, world.now)
    assert lifetime.known == Bracket(60, 87), "that was known"
    lifetime.lost(27.0, world.now)
    assert lifetime.interval == 15.0
    lifetime.lost(0.0, world.now)
    assert lifetime.interval == SHORTEST


def test_strangers_are_not_heard() -> None:
    lifetime = Lifetime(lambda length: bytes(length))
    assert not lifetime.receive(b"anything", Place("192.0.2.66", 1), START)
    lifetime.begin(SIDE, START)
    assert not lifetime.receive(b"anything", SIDE, START)
