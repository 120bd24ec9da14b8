"""The search for the longest datagram, against a path that carries so much and loses some."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat import mtu
from wgpy.nat.candidates import Rank
from wgpy.nat.mtu import (
    BUSY_CONFIRM_SECONDS,
    CONFIRM_SECONDS,
    LADDER,
    MIN_WAIT,
    Lengths,
    Search,
    lengths,
)
from wgpy.nat.orders import Mtu
from wgpy.nat.path import Path
from wgpy.nat.place import Place

V4 = lengths(1500, v6=False, relayed=False)


class Way:
    """A path that carries datagrams of at most `carries`, and loses a share of the rest."""

    def __init__(self, search, carries, *, loss=0.0, round_trip=0.06, seed=1):
        self.search = search
        self.carries = carries
        self.loss = loss
        self.round_trip = round_trip
        self.random = random.Random(seed)
        self.now = 100.0
        self.sent = []

    def run(self, seconds):
        end = self.now + seconds
        arrivals = []
        while self.now < end:
            for arrival in [each for each in arrivals if each[0] <= self.now]:
                arrivals.remove(arrival)
                self.search.arrived(arrival[1], self.now)
            length = self.search.step(self.round_trip, self.now)
            if length is not None:
                self.sent.append(length)
                if length <= self.carries and self.random.random() >= self.loss:
                    arrivals.append((self.now + self.round_trip, length))
            self.now += 0.01
        return self.search.found


def expected(carries, tried=V4):
    return max((each for each in tried if each <= carries), default=0)


def test_the_lengths_are_what_links_carry_without_headers():
    assert V4[0] == 548
    assert V4[-1] == 1472
    assert lengths(1500, v6=True, relayed=False)[-1] == 1452
    assert lengths(1500, v6=False, relayed=True)[-1] == 1448
    assert lengths(9000, v6=False, relayed=False)[-1] == 8972
    assert lengths(500, v6=False, relayed=False) == ()
    assert list(LADDER) == sorted(set(LADDER))


def test_ethernet_costs_one_probe():
    way = Way(Search(V4, 100.0), 1472)
    assert way.run(5) == 1472
    assert way.sent == [1472]
    assert way.search.settled


@pytest.mark.parametrize("carries", [0, 500, 548, 1000, 1096, 1252, 1392, 1400, 1464, 1471])
def test_the_longest_that_passes_is_found(carries):
    way = Way(Search(V4, 100.0), carries)
    assert way.run(20) == expected(carries)
    assert len(way.sent) <= 15


@given(st.integers(548, 1500), st.integers(0, 1000), st.sampled_from([0.0, 0.05, 0.1]))
def test_loss_seldom_makes_it_shorter(carries, seed, loss):
    way = Way(Search(V4, 100.0), carries, loss=loss, seed=seed)
    found = way.run(20)
    assert way.search.settled
    assert found <= expected(carries)
    if loss == 0.0:
        assert found == expected(carries)


def test_what_was_found_is_confirmed_and_a_black_hole_is_noticed():
    way = Way(Search(V4, 100.0), 1472)
    way.run(59)
    assert len(way.sent) == 1
    way.run(200)
    assert way.sent == [1472] * 5
    way.carries = 1300
    way.run(80)
    assert way.search.found == expected(1300)


def test_a_path_that_grew_is_noticed():
    way = Way(Search(V4, 100.0), 1300)
    assert way.run(100) == expected(1300)
    way.carries = 1472
    way.run(mtu.RAISE_SECONDS + mtu.CONFIRM_SECONDS)
    assert way.search.found == 1472


def test_looking_for_more_never_tells_less():
    way = Way(Search(V4, 100.0), 1300)
    way.run(100)
    for _ in range(2000):
        way.run(1)
        assert way.search.found == expected(1300)


def test_nothing_to_try():
    search = Search((), 1.0)
    assert search.due() is None
    assert search.step(0.1, 1.0) is None


def test_the_result_is_an_order_when_it_has_changed():
    orders = []
    found = Lengths(orders)
    path = Path(Place("192.0.2.1", 9), Rank.V4, round_trip=0.1)
    assert found.step(path, 1.0) is None
    found.begin(path, 1.0)
    assert found.step(path, 1.0) == 1472
    found.arrived(Place("192.0.2.2", 9), 1472, 1.1)
    assert orders == []
    found.arrived(path.place, 1472, 1.1)
    found.arrived(path.place, 1472, 1.2)
    assert orders == [Mtu(path.place, 1472)]
    assert found.found == 1472
    found.end()
    assert (found.found, found.due()) == (0, None)


def test_while_packets_pass_a_length_is_confirmed_more_often():
    found = Lengths([])
    path = Path(Place("192.0.2.1", 9), Rank.V4, round_trip=0.1)
    found.begin(path, 0.0)
    found.step(path, 0.0)
    found.arrived(path.place, 1472, 0.1)
    assert found.due() == pytest.approx(0.1 + CONFIRM_SECONDS)
    assert found.due(busy=True) == pytest.approx(0.1 + BUSY_CONFIRM_SECONDS)
    assert found.step(path, 10.0, busy=True) is None
    assert found.step(path, 10.2) is None
    assert found.step(path, 10.2, busy=True) == 1472
    # It is waited for as ever, busy or not.
    assert found.due() == found.due(busy=True) == pytest.approx(10.2 + MIN_WAIT)
