"""Which way to a TURN server is tried when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.device.paths import Transport
from wgpy.nat.turn_ladder import ANSWERED, ORDER, SETTLE, STEP, Act, Ladder, Step

UDP, TCP, TLS = ORDER
START, USE, STOP = Act.START, Act.USE, Act.STOP
NOW = 100.0


def steps(ladder: Ladder, until: float) -> list[tuple[float, Act, Transport]]:
    """What a ladder has done until a moment, and when after NOW."""
    found = []
    for _ in range(100):
        due = ladder.due()
        if due is None or due > until:
            return found
        moment = max(due, NOW)
        found += [(round(moment - NOW, 3), x.act, x.transport) for x in ladder.tick(moment)]
    raise AssertionError("it is due for ever")


def test_udp_that_works_starts_nothing_else() -> None:
    ladder = Ladder(ORDER, NOW)
    assert steps(ladder, NOW) == [(0, START, UDP)]
    ladder.answered(UDP, NOW + 0.06)
    ladder.ready(UDP, NOW + 0.12)
    assert ladder.tick(NOW + 0.12) == [Step(USE, UDP)]
    assert steps(ladder, NOW + 100) == []
    assert ladder.used is UDP
    assert ladder.due() is None


def test_where_udp_is_blocked_tcp_and_tls_follow() -> None:
    ladder = Ladder(ORDER, NOW)
    assert steps(ladder, NOW + 1) == [(0, START, UDP), (STEP, START, TCP), (STEP, START, TLS)]
    ladder.ready(TLS, NOW + 0.55)
    assert ladder.tick(NOW + 0.55) == [Step(USE, TLS)]
    # The better ones may still come, for a while.
    assert steps(ladder, NOW + 100) == [(0.55 + SETTLE, STOP, UDP), (0.55 + SETTLE, STOP, TCP)]
    assert ladder.used is TLS


def test_a_way_that_fails_starts_the_others_at_once() -> None:
    ladder = Ladder(ORDER, NOW)
    steps(ladder, NOW)
    ladder.failed(UDP, NOW + 0.01)
    assert steps(ladder, NOW + 0.01) == [(0.01, START, TCP), (0.01, START, TLS)]
    ladder.failed(TCP, NOW + 0.02)
    assert steps(ladder, NOW + 0.02) == []
    assert not ladder.is_over
    ladder.failed(TLS, NOW + 0.03)
    assert ladder.is_over
    assert ladder.due() is None


def test_a_way_that_was_answered_holds_the_others_back() -> None:
    ladder = Ladder(ORDER, NOW)
    steps(ladder, NOW)
    ladder.answered(UDP, NOW + 0.2)
    assert steps(ladder, NOW + 0.2 + ANSWERED - 0.001) == []
    assert steps(ladder, NOW + 0.2 + ANSWERED) == [
        (0.2 + ANSWERED, START, TCP),
        (0.2 + ANSWERED, START, TLS),
    ]


def test_a_better_way_that_comes_late_takes_the_place() -> None:
    ladder = Ladder(ORDER, NOW)
    steps(ladder, NOW + 1)
    ladder.ready(TCP, NOW + 1)
    assert ladder.tick(NOW + 1) == [Step(USE, TCP), Step(STOP, TLS)]
    ladder.ready(UDP, NOW + 1.6)
    assert ladder.tick(NOW + 1.6) == [Step(USE, UDP), Step(STOP, TCP)]
    assert ladder.used is UDP
    assert steps(ladder, NOW + 100) == []


def test_what_worked_last_time_begins_beside_udp() -> None:
    ladder = Ladder(ORDER, NOW, last=TLS)
    assert steps(ladder, NOW + STEP) == [(0, START, UDP), (0, START, TLS), (STEP, START, TCP)]
    # A server does not offer it any more.
    assert steps(Ladder([UDP], NOW, last=TLS), NOW + 9) == [(0, START, UDP)]


def test_only_what_a_server_offers_is_tried() -> None:
    assert steps(Ladder([TLS], NOW), NOW + 9) == [(0, START, TLS)]
    assert steps(Ladder([TLS, UDP], NOW), NOW + 9) == [(0, START, UDP), (STEP, START, TLS)]
    assert Ladder([], NOW).is_over


def test_the_way_in_use_that_fails_is_not_used() -> None:
    ladder = Ladder(ORDER, NOW)
    steps(ladder, NOW + 1)
    ladder.ready(TCP, NOW + 1)
    ladder.tick(NOW + 1)
    ladder.failed(TCP, NOW + 1.1)
    assert ladder.used is None
    assert not ladder.is_over
    ladder.ready(UDP, NOW + 1.2)
    assert ladder.tick(NOW + 1.2) == [Step(USE, UDP)]
    # What was not started, or is over, is not heard.
    ladder.ready(TLS, NOW + 1.3)
    ladder.failed(TLS, NOW + 1.3)
    ladder.answered(TLS, NOW + 1.3)
    assert ladder.used is UDP


@given(
    st.sets(st.sampled_from(ORDER)),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(ORDER), st.floats(0, 1)), max_size=12),
)
def test_whatever_happens_it_ends_with_one_way_or_none(
    offered: set[Transport], happenings: list[tuple[int, Transport, float]]
) -> None:
    now = NOW
    ladder = Ladder(offered, now)
    running: set[Transport] = set()
    used: list[Transport] = []

    def take() -> None:
        for step in ladder.tick(now):
            if step.act is START:
                assert step.transport not in running
                running.add(step.transport)
            elif step.act is STOP:
                running.remove(step.transport)
            else:
                assert step.transport in running
                used.append(step.transport)

    for what, transport, wait in happenings:
        take()
        if what == 0:
            ladder.answered(transport, now)
        elif what == 1:
            ladder.ready(transport, now)
        elif what == 2:
            ladder.failed(transport, now)
            running.discard(transport)
        now += wait
    for _ in range(20):
        due = ladder.due()
        if due is None:
            break
        now = max(now, due)
        take()
    else:
        pytest.fail("it is due for ever")
    assert running <= offered
    if ladder.used is not None:
        assert running == {ladder.used}
        assert used[-1] is ladder.used
    assert ladder.is_over == (not running)
