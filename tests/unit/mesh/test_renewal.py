"""When a certificate is renewed, on a fake clock, over whole lives of nodes."""

from hypothesis import given
from hypothesis import strategies as st

from wgpy.mesh.renewal import LEAST_PAUSE, Renewal

DAY = 86_400.0
WEEK = 7 * DAY


def test_nothing_is_due_before_there_is_a_certificate() -> None:
    assert Renewal(lambda: 0.5).due_at() is None


@given(st.floats(0, 1))
def test_it_is_due_at_two_thirds_or_a_little_before(chance: float) -> None:
    renewal = Renewal(lambda: chance)
    renewal.issued(1000.0, 1000.0 + WEEK)
    due = renewal.due_at()
    assert due is not None
    assert 0.61 * WEEK < due - 1000.0 <= 2 / 3 * WEEK


def test_two_days_without_coordinators_hurt_nobody() -> None:
    """The worst case: they go just before the renewal, and are back two days later."""
    renewal = Renewal(lambda: 0.0)
    renewal.issued(0.0, WEEK)
    now = renewal.due_at()
    assert now is not None
    back = now + 2 * DAY
    while now < back:
        renewal.failed(now)
        now = renewal.due_at() or 0.0
    # The next try after that comes within the hour, before the end.
    assert now <= back + 3600.0 < WEEK


@given(st.floats(0, 1), st.sampled_from([60.0, 3600.0, DAY, WEEK]))
def test_many_tries_are_left_before_the_end(chance: float, life: float) -> None:
    renewal = Renewal(lambda: chance)
    renewal.issued(0.0, life)
    tries, now = 0, renewal.due_at() or 0.0
    while now < life and tries < 1000:
        tries += 1
        renewal.failed(now)
        later = renewal.due_at()
        assert later is not None
        assert later >= now + LEAST_PAUSE / 2
        now = later
    assert tries >= 4


def test_rights_are_fetched_at_once_and_not_again_and_again() -> None:
    renewal = Renewal(lambda: 0.5)
    renewal.issued(0.0, WEEK)
    renewal.rights_differ(100.0, "servers")
    assert renewal.due_at() == 100.0
    renewal.issued(100.0, 100.0 + WEEK)
    due = renewal.due_at()
    # The certificate has still not what the coordinator says: its CA may not give it.
    renewal.rights_differ(101.0, "servers")
    assert renewal.due_at() == due
    renewal.rights_differ(800.0, "servers")
    assert renewal.due_at() == 800.0
    # Other rights than those that were asked for are asked for at once.
    renewal.issued(800.0, 800.0 + WEEK)
    renewal.rights_differ(801.0, "phones")
    assert renewal.due_at() == 801.0
