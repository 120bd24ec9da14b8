"""The MTU of the tunnel's link, against paths that come and go."""

import pytest

from wgpy.nat.mtu_follower import LEAST, LEAST_V4, MtuFollower


class Link:
    """A link that remembers what it was set to, and tells it as the kernel would."""

    def __init__(self, mtu: int = 1420, *, v6: bool = True) -> None:
        self.mtu = mtu
        self.v6 = v6
        self.follower = MtuFollower(self._set)
        self.follower.link(mtu, v6=v6)

    def _set(self, mtu: int) -> None:
        self.mtu = mtu
        self.follower.link(mtu, v6=self.v6)


def test_the_narrowest_path_decides() -> None:
    link = Link()
    link.follower.path("a", 1400)
    link.follower.path("b", 1360)
    assert link.mtu == 1360
    link.follower.path("b", 0)
    assert link.mtu == 1400
    link.follower.path("a", 0)
    assert link.mtu == 1420


def test_no_path_makes_it_more_than_the_operator_wants() -> None:
    link = Link(1300)
    link.follower.path("a", 1400)
    assert link.mtu == 1300


@pytest.mark.parametrize(("wanted", "least"), [(1420, LEAST), (1000, 1000)])
def test_it_stays_what_ipv6_needs(wanted: int, least: int) -> None:
    link = Link(wanted)
    link.follower.path("a", 600)
    assert link.mtu == least


def test_an_operator_who_sets_it_meanwhile_is_heard() -> None:
    link = Link()
    link.follower.path("a", 1300)
    link.mtu = 1380
    link.follower.link(1380, v6=True)
    assert link.mtu == 1300
    link.follower.stop()
    assert link.mtu == 1380


def test_a_link_that_is_not_known_is_left_alone() -> None:
    changes: list[int] = []
    follower = MtuFollower(changes.append)
    follower.path("a", 1300)
    follower.link(0, v6=True)
    assert changes == []


def test_without_ipv6_it_is_as_small_as_the_path() -> None:
    link = Link(v6=False)
    link.follower.path("a", 1240)
    assert link.mtu == 1240
    link.follower.path("a", 100)
    assert link.mtu == LEAST_V4


def test_ipv6_that_comes_later_gets_what_it_needs() -> None:
    link = Link(v6=False)
    link.follower.path("a", 1240)
    link.v6 = True
    link.follower.link(link.mtu, v6=True)
    assert link.mtu == LEAST
