"""What is concluded of a NAT from what was seen of it, and what is not."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat.behaviour import (
    Allocation,
    Behaviour,
    Endpoint,
    allocation,
    filtering_behaviour,
    keeps_ports,
    mapping_behaviour,
)

LOCAL = ("10.0.0.2", 40000)
M1, M2, M3, M4 = (("203.0.113.9", 50000 + n) for n in range(4))
A1, A2, B1, B2 = (("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.2", 1), ("192.0.2.2", 2))
EIM, ADM, APDM = (
    Behaviour.ENDPOINT_INDEPENDENT,
    Behaviour.ADDRESS_DEPENDENT,
    Behaviour.ADDRESS_AND_PORT_DEPENDENT,
)


@pytest.mark.parametrize(
    ("seen", "behaviour"),
    [
        ({}, Behaviour.UNKNOWN),
        ({A1: LOCAL}, Behaviour.NONE),
        ({A1: LOCAL, B2: LOCAL}, Behaviour.NONE),
        ({A1: M1}, Behaviour.UNKNOWN),
        ({A1: M1, A2: M1}, Behaviour.PORT_INDEPENDENT),
        ({A1: M1, B1: M1}, EIM),
        ({A1: M1, A2: M1, B1: M1, B2: M1}, EIM),
        ({A1: M1, A2: M2}, APDM),
        ({A1: M1, A2: M2, B1: M3, B2: M4}, APDM),
        ({A1: M1, A2: M1, B1: M2, B2: M2}, ADM),
        ({A1: M1, B1: M2, B2: M2}, ADM),
        ({A1: M1, B1: M2}, Behaviour.DEPENDENT),
        # The same port of another address is another mapping.
        ({A1: M1, B1: ("203.0.113.10", M1[1])}, Behaviour.DEPENDENT),
        # To one of them it is not translated, by a route that has no NAT.
        ({A1: LOCAL, B1: M1}, Behaviour.DEPENDENT),
    ],
)
def test_mappings(seen: dict[Endpoint, Endpoint], behaviour: Behaviour) -> None:
    assert mapping_behaviour(LOCAL, seen) is behaviour


@pytest.mark.parametrize(
    ("address", "port", "behaviour"),
    [
        (True, True, EIM),
        (True, False, EIM),
        (True, None, EIM),
        (False, True, ADM),
        (False, False, APDM),
        (None, False, APDM),
        (None, True, Behaviour.PORT_INDEPENDENT),
        (False, None, Behaviour.DEPENDENT),
        (None, None, Behaviour.UNKNOWN),
    ],
)
def test_filters(address: bool | None, port: bool | None, behaviour: Behaviour) -> None:
    assert filtering_behaviour(address, port) is behaviour


@pytest.mark.parametrize(
    ("seen", "found", "step"),
    [
        ([], Allocation.UNKNOWN, 0),
        ([20_000, 20_001], Allocation.UNKNOWN, 0),
        ([20_000, 20_001, 20_002], Allocation.SEQUENTIAL, 1),
        ([20_000, 20_001, 20_002, 20_003], Allocation.SEQUENTIAL, 1),
        ([20_006, 20_004, 20_002, 20_000], Allocation.SEQUENTIAL, -2),
        # Others make mappings as well.
        ([20_000, 20_001, 20_004, 20_005], Allocation.SEQUENTIAL, 1),
        ([20_000, 20_003, 20_004, 20_007], Allocation.SEQUENTIAL, 3),
        # It began again.
        ([20_062, 20_063, 20_000, 20_001], Allocation.SEQUENTIAL, 1),
        ([20_000, 20_001, 45_000, 30_000], Allocation.RANDOM, 0),
        ([20_000, 20_017, 20_034, 20_051], Allocation.RANDOM, 0),
        ([20_000, 20_001, 20_000, 20_001], Allocation.SEQUENTIAL, 1),
        ([61_234, 2_345, 34_567, 12_345], Allocation.RANDOM, 0),
        ([40_000, 40_009, 40_005, 40_050], Allocation.KEPT, 0),
        # One of them was taken already.
        ([40_000, 40_009, 40_005, 1_024], Allocation.KEPT, 0),
        ([40_000, 40_009, 1_025, 1_024], Allocation.RANDOM, 0),
    ],
)
def test_ports(seen: list[int], found: Allocation, step: int) -> None:
    ours = [40_000, 40_009, 40_005, 40_050]
    assert allocation(list(zip(ours, seen, strict=False))) == (found, step)


@given(st.lists(st.integers(1024, 65_535), min_size=4, max_size=4, unique=True))
def test_a_step_is_near_and_was_seen(seen: list[int]) -> None:
    found, step = allocation([(1, port) for port in seen])
    steps = [b - a for a, b in itertools.pairwise(seen)]
    assert (found is Allocation.SEQUENTIAL) == (step in steps)
    assert abs(step) <= 16


def test_two_that_are_near_are_too_few_of_many() -> None:
    seen = [20_000, 20_001, 20_002, 61_234, 2_345, 34_567]
    assert allocation([(1, port) for port in seen]) == (Allocation.RANDOM, 0)


def test_whether_ports_are_kept() -> None:
    assert keeps_ports([]) is None
    assert keeps_ports([(1, 1), (2, 2)]) is True
    assert keeps_ports([(1, 1), (2, 3)]) is False
