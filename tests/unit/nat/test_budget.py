"""What probes may cost others."""

from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat.budget import Budget

HERE, THERE = ("192.0.2.1", 1), ("192.0.2.1", 2)


def most_in(times, seconds):
    return max((sum(0 <= t - start < seconds for t in times) for start in times), default=0)


def test_ten_to_a_place_in_five_seconds():
    budget = Budget()
    assert sum(budget.probe(HERE, 100.0) for _ in range(30)) == 10
    assert budget.probe(THERE, 100.0)
    assert not budget.probe(HERE, 104.99)
    assert 4.9 < budget.probe_wait(HERE, 100.1) < 5
    assert budget.probe(HERE, 105.0)
    assert budget.counters["probes_put_off"] == 21


def test_fifty_a_second_to_all():
    budget = Budget()
    sent = sum(budget.probe(("192.0.2.1", port), 7.0) for port in range(1, 200))
    assert sent == 50
    assert budget.probe_wait(("192.0.2.9", 9), 7.5) > 0.49


def test_who_waits_as_long_as_told_may():
    budget = Budget()
    now = 1000.123456
    while budget.probe(HERE, now):
        now += 0.0371
    later = now + budget.probe_wait(HERE, now)
    assert budget.probe_wait(HERE, later) == 0
    assert budget.probe(HERE, later)


events = st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 30)), max_size=300)


@given(events)
def test_the_bounds_hold_whatever_happens(steps):
    budget, now = Budget(), 50.0
    probes, answers = [], []
    for pause, port in steps:
        now += pause
        if budget.probe(("192.0.2.1", port), now):
            probes.append((now, port))
        if budget.answer(("192.0.2.1", port), now):
            answers.append((now, port))
    assert most_in([when for when, _ in probes], 1.0) <= 50
    assert most_in([when for when, _ in answers], 1.0) <= 100
    for sent in (probes, answers):
        for port in {port for _, port in sent}:
            assert most_in([when for when, other in sent if other == port], 5.0) <= 10


def test_no_more_is_remembered_than_was_sent_of_late():
    budget, now = Budget(), 0.0
    for number in range(5000):
        now += 0.021
        assert budget.probe((f"192.0.2.{number % 250}", number % 60_000), now)
    assert len(budget._probes) <= 250


def test_rounds():
    budget = Budget()
    assert all(budget.begin_round(peer, 1.0, asked=False) for peer in "abcd")
    assert not budget.begin_round("e", 1.0, asked=False)
    assert budget.begin_round("a", 1.0, asked=False)
    assert all(budget.begin_round(peer, 1.0, asked=True) for peer in "efgh")
    assert not budget.begin_round("i", 1.0, asked=True)
    budget.end_round("b")
    assert budget.begin_round("i", 1.0, asked=True)
    # Whoever forgot to end one does not keep the others out for ever.
    assert budget.begin_round("j", 16.0, asked=False)
    assert budget.counters["rounds_put_off"] == 2


def test_birthdays():
    budget = Budget()
    assert budget.begin_birthday("a", 1.0)
    assert budget.begin_birthday("b", 1.0)
    assert not budget.begin_birthday("c", 1.0)
    budget.end_birthday("a")
    assert not budget.begin_birthday("a", 500.0)
    assert budget.begin_birthday("c", 2.0)
    assert budget.begin_birthday("a", 601.0)
    assert budget.counters["birthdays_put_off"] == 2
