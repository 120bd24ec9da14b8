"""The address plan: ranges that are free, numbers, unique local addresses."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.ip import Prefix, mask, parse_prefix
from wgpy.mesh.addresses import (
    BLOCKS,
    AddressError,
    addresses_of,
    capacity,
    check_ranges,
    lowest_free,
    nodes_range6,
    overlap,
    overlaps,
    propose_ranges,
    ula,
)

SEED = bytes(range(16))
RANGE4, RANGE6 = parse_prefix("10.7.0.0/29"), parse_prefix("fd12:3456:789a::/48")

prefixes4 = st.builds(
    lambda number, length: Prefix(mask(number.to_bytes(4, "big"), length), length),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


def network(prefix: Prefix) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(str(prefix))


# --- Ranges ---


def test_a_machine_with_nothing_is_offered_one_of_each_block() -> None:
    found = propose_ranges([], SEED)
    assert [x.reason for x in found] == [x.reason for x in BLOCKS]
    for proposal, block in zip(found, BLOCKS, strict=True):
        assert proposal.prefix is not None
        assert proposal.prefix.length == 16
        assert network(proposal.prefix).subnet_of(network(block.prefix))


def test_two_networks_are_offered_different_ones() -> None:
    first = {propose_ranges([], bytes([n]) * 16)[0].prefix for n in range(50)}
    assert len(first) > 30


@given(st.lists(prefixes4, max_size=12), st.binary(min_size=16, max_size=16))
def test_what_is_offered_meets_nothing_that_is_there(routes: list[Prefix], seed: bytes) -> None:
    claims = [network(x) for x in routes if x.length > 1]
    found = propose_ranges(routes, seed)
    assert len(found) == len(BLOCKS)
    for proposal in found:
        if proposal.prefix is not None:
            assert not any(network(proposal.prefix).overlaps(x) for x in claims)
            check_ranges(proposal.prefix, RANGE6)
    # What has nothing to offer comes last.
    offers = [x.prefix is not None for x in found]
    assert offers == sorted(offers, reverse=True)


def test_a_block_that_is_taken_says_by_what() -> None:
    office = parse_prefix("10.0.0.0/8")
    found = propose_ranges([office, parse_prefix("0.0.0.0/0"), parse_prefix("fd00::/8")], SEED)
    assert found[0].prefix is not None
    assert network(found[0].prefix).subnet_of(ipaddress.IPv4Network("100.64.0.0/10"))
    assert (found[-1].prefix, "this machine has 10.0.0.0/8" in found[-1].reason) == (None, True)


def test_a_block_is_searched_to_its_end() -> None:
    """All but one sixteen of 172.16.0.0/12 is taken."""
    routes = [parse_prefix(f"172.{n}.0.0/16") for n in range(24, 32) if n != 29]
    [found] = [x.prefix for x in propose_ranges(routes, SEED) if str(x.prefix).startswith("172")]
    assert str(found) == "172.29.0.0/16"


def test_too_many_routes_and_bad_seeds_are_refused() -> None:
    with pytest.raises(AddressError):
        propose_ranges([parse_prefix("8.8.8.8")] * 10_001, SEED)
    for seed in (b"", bytes(15), bytes(17)):
        with pytest.raises(AddressError):
            propose_ranges([], seed)
        with pytest.raises(AddressError):
            ula(seed)


@given(prefixes4, st.lists(prefixes4, max_size=5))
def test_overlaps_are_those_of_the_standard_library(ours: Prefix, theirs: list[Prefix]) -> None:
    meeting = [x for x in theirs if x.length > 1 and network(x).overlaps(network(ours))]
    assert overlap(ours, theirs) == (meeting[0] if meeting else None)
    assert overlaps([ours], theirs) == tuple((ours, x) for x in meeting)


def test_versions_never_meet() -> None:
    assert overlap(RANGE4, [parse_prefix("::/2"), RANGE6]) is None


@pytest.mark.parametrize(
    ("range4", "range6"),
    [
        ("10.0.0.0/7", "fd00::/48"),
        ("10.7.0.0/30", "fd00::/48"),
        ("11.0.0.0/16", "fd00::/48"),
        ("172.32.0.0/16", "fd00::/48"),
        ("100.0.0.0/9", "fd00::/48"),
        ("10.7.0.0/16", "fd00::/64"),
        ("10.7.0.0/16", "fc00::/48"),
        ("10.7.0.0/16", "2001:db8::/48"),
        ("10.7.0.0/16", "10.8.0.0/16"),
        ("fd00::/48", "fd00::/48"),
    ],
)
def test_ranges_that_no_network_can_have(range4: str, range6: str) -> None:
    with pytest.raises(AddressError):
        check_ranges(parse_prefix(range4), parse_prefix(range6))


def test_a_range_has_no_host_bits() -> None:
    with pytest.raises(AddressError):
        check_ranges(Prefix(bytes([10, 7, 0, 1]), 16), RANGE6)
    for good in ("10.0.0.0/8", "192.168.7.0/24", "100.64.0.0/10", "172.16.0.0/12", "10.7.0.0/29"):
        check_ranges(parse_prefix(good), RANGE6)


def test_a_unique_local_range_is_of_its_network() -> None:
    found = ula(SEED)
    assert (found.length, found.address[0], found.address[6:]) == (48, 0xFD, bytes(10))
    assert found == ula(SEED)
    assert len({ula(bytes([n]) * 16) for n in range(100)}) == 100
    check_ranges(RANGE4, found)


# --- Numbers ---


def test_a_node_has_its_number_in_both_ranges() -> None:
    four, six = addresses_of(3, parse_prefix("10.7.0.0/16"), RANGE6)
    assert (str(four), str(six)) == ("10.7.0.3/32", "fd12:3456:789a::3/128")
    four, six = addresses_of(65_534, parse_prefix("10.7.0.0/16"), RANGE6)
    assert (str(four), str(six)) == ("10.7.255.254/32", "fd12:3456:789a::fffe/128")
    assert str(nodes_range6(RANGE6)) == "fd12:3456:789a::/64"


def test_neither_the_network_nor_the_broadcast_address_is_a_nodes() -> None:
    assert capacity(RANGE4) == 6
    network4 = network(RANGE4)
    found = [addresses_of(n, RANGE4, RANGE6)[0] for n in range(1, 7)]
    assert [str(x) for x in found] == [f"{x}/32" for x in network4.hosts()]
    for number in (0, 7, -1, 2**32):
        with pytest.raises(AddressError):
            addresses_of(number, RANGE4, RANGE6)


@given(st.sets(st.integers(1, 6)))
def test_the_lowest_number_that_is_free(taken: set[int]) -> None:
    free = sorted(set(range(1, 7)) - taken)
    if free:
        assert lowest_free(sorted(taken), RANGE4) == free[0]
    else:
        with pytest.raises(AddressError, match="is full"):
            lowest_free(sorted(taken), RANGE4)
