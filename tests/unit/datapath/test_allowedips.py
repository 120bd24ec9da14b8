"""Allowed IPs by example, and the bound of the cache. Their model is in tests/model."""

import pytest

from wgpy.datapath.allowedips import CACHE_LENGTH, AllowedIps
from wgpy.datapath.contract import AllowedIpOperation
from wgpy.ip import parse_address, parse_prefix


def table(**owners):
    """p1="10.0.0.0/8 ..." and so on: prefixes of peer 1."""
    made = AllowedIps()
    for name, texts in owners.items():
        made.apply(add(int(name[1:]), *texts.split()))
    return made


def add(peer, *texts):
    return [AllowedIpOperation("add", peer, parse_prefix(text)) for text in texts]


def owner(made, address):
    return made.lookup(parse_address(address))


def test_the_longest_prefix_wins_whatever_the_order():
    for made in (
        table(p1="10.0.0.0/8", p2="10.1.0.0/16", p3="10.1.2.3/32"),
        table(p3="10.1.2.3/32", p2="10.1.0.0/16", p1="10.0.0.0/8"),
    ):
        assert [owner(made, a) for a in ("10.9.9.9", "10.1.9.9", "10.1.2.3")] == [1, 2, 3]
        assert owner(made, "11.0.0.0") is None


def test_a_default_route_takes_what_is_left_of_its_family():
    made = table(p1="0.0.0.0/0", p2="::/0", p3="10.0.0.0/8")
    assert owner(made, "192.0.2.1") == 1
    assert owner(made, "10.0.0.1") == 3
    assert owner(made, "2001:db8::1") == 2


def test_a_prefix_moves_to_its_new_owner():
    made = table(p1="10.0.0.0/24 fd00::/64", p2="10.0.0.0/24")
    assert owner(made, "10.0.0.1") == 2
    assert made.of(1) == [parse_prefix("fd00::/64")]
    made.apply([AllowedIpOperation("remove", 1, parse_prefix("10.0.0.0/24"))])
    assert owner(made, "10.0.0.1") == 2, "only its owner's removal counts"


def test_a_batch_is_carried_out_in_its_order():
    made = table(p1="10.0.0.0/24")
    made.apply([AllowedIpOperation("replace", 1), *add(1, "10.0.1.0/24")])
    assert made.of(1) == [parse_prefix("10.0.1.0/24")]
    assert owner(made, "10.0.0.1") is None


def test_an_answer_is_forgotten_when_the_prefixes_change():
    made = table(p1="10.0.0.0/8")
    assert owner(made, "10.0.0.1") == 1
    assert owner(made, "11.0.0.1") is None
    made.apply(add(2, "10.0.0.0/16", "11.0.0.0/8"))
    assert owner(made, "10.0.0.1") == 2
    assert owner(made, "11.0.0.1") == 2
    made.forget(2)
    assert owner(made, "10.0.0.1") == 1
    assert owner(made, "11.0.0.1") is None


def test_the_cache_is_bounded():
    made = table(p1="10.0.0.0/8")
    for number in range(3 * CACHE_LENGTH):
        assert made.lookup(bytes((10, *number.to_bytes(3, "big")))) == 1
        assert len(made._cache) <= CACHE_LENGTH


@pytest.mark.parametrize("operation", ["add", "remove"])
def test_these_need_a_prefix(operation):
    with pytest.raises(ValueError, match="needs a prefix"):
        AllowedIps().apply([AllowedIpOperation(operation, 1)])


def test_prefixes_are_listed_ipv4_first_by_address_and_length():
    made = table(p1="fd00::/64 10.0.0.0/24 10.0.0.0/8 9.0.0.0/8 ::/0")
    shown = [str(prefix) for prefix in made.of(1)]
    assert shown == ["9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/24", "::/0", "fd00::/64"]
