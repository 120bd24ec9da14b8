"""Which candidates are refused, in which order they come, and which path is better."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.ip import parse_prefix
from wgpy.nat import candidates
from wgpy.nat.candidates import Candidate, Kind, Rank, Refused

TUNNEL = Refused((parse_prefix("10.7.0.0/16"), parse_prefix("fd00:7::/32")), frozenset())


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.10.1", "link_local"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link_local"),
        ("febf::1", "link_local"),
        ("ff02::1", "multicast"),
        ("::ffff:192.0.2.1", "mapped_v4"),
        ("::192.0.2.1", "mapped_v4"),
        ("10.7.3.4", "own_network"),
        ("fd00:7::9", "own_network"),
        ("2001:DB8::1", "spelling"),
        ("192.0.2.1.5", "malformed"),
        ("example.org", "malformed"),
        ("", "malformed"),
    ],
)
@pytest.mark.parametrize("kind", Kind)
def test_where_nothing_is_ever_sent(host, reason, kind):
    assert candidates.fault(Candidate(kind, host, 51820), TUNNEL) == reason


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_ports_that_there_are_not(port):
    assert candidates.fault(Candidate(Kind.HOST, "192.0.2.1", port)) == "port"


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "172.31.255.1", "192.168.0.1", "100.64.0.1", "100.127.1.1", "fd12::1"]
)
def test_private_addresses_are_of_hosts_only(host):
    for kind in Kind:
        expected = None if kind is Kind.HOST else "private"
        assert candidates.fault(Candidate(kind, host, 1)) == expected


@pytest.mark.parametrize("host", ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1"])
def test_public_addresses_may_be_of_any_kind(host):
    assert [candidates.fault(Candidate(kind, host, 65535)) for kind in Kind] == [None] * 5


def test_what_the_other_side_tells_is_filtered_and_counted():
    counters = Counter()
    refused = Refused(TUNNEL.networks, frozenset({"192.168.1.5"}))
    told = [
        Candidate(Kind.HOST, "192.168.1.5", 51820),
        Candidate(Kind.HOST, "192.168.1.6", 51820),
        Candidate(Kind.REFLEXIVE, "192.0.2.1", 7),
        Candidate(Kind.PREDICTED, "192.0.2.1", 7),
        Candidate(Kind.REFLEXIVE, "127.0.0.1", 7),
        Candidate(Kind.REFLEXIVE, "192.168.7.7", 7),
        Candidate(Kind.HOST, "10.7.0.1", 7),
    ]
    assert candidates.theirs(told, refused, counters) == (told[1], told[2])
    assert counters == {
        "candidate_own_address": 1,
        "candidate_duplicate": 1,
        "candidate_loopback": 1,
        "candidate_private": 1,
        "candidate_own_network": 1,
    }


def test_ten_are_enough():
    counters = Counter()
    told = [Candidate(Kind.REFLEXIVE, "192.0.2.1", port) for port in range(1, 10_001)]
    assert candidates.theirs(told, Refused(), counters) == tuple(told[:10])
    assert counters == {"candidate_too_many": 9990}


def test_what_we_tell_is_in_order():
    lan = Candidate(Kind.HOST, "192.168.1.5", 1)
    v6 = Candidate(Kind.HOST, "2001:db8::5", 1)
    seen = Candidate(Kind.REFLEXIVE, "192.0.2.1", 1)
    lent = Candidate(Kind.RELAYED, "198.51.100.1", 1)
    guess = Candidate(Kind.PREDICTED, "192.0.2.1", 2)
    same = Candidate(Kind.PREDICTED, "192.0.2.1", 1)
    bad = Candidate(Kind.HOST, "127.0.0.1", 1)
    told = candidates.ours([same, guess, lent, bad, seen, v6, lan])
    assert told == (lan, v6, seen, lent, guess)


def test_hosts_and_guesses_push_nothing_out():
    hosts = [Candidate(Kind.HOST, f"172.17.0.{number}", 1) for number in range(1, 13)]
    seen = Candidate(Kind.REFLEXIVE, "192.0.2.1", 1)
    lent = Candidate(Kind.RELAYED, "198.51.100.1", 1)
    guesses = [Candidate(Kind.PREDICTED, "192.0.2.1", port) for port in range(2, 20)]
    told = candidates.ours([*guesses, *hosts, lent, seen])
    assert told == (*hosts[:5], seen, lent, *guesses[:3])
    told = candidates.ours([*guesses, *hosts, lent, seen], hosts=2)
    assert told == (*hosts[:2], seen, lent, *guesses[:6])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Kind),
            st.ip_addresses().map(str) | st.sampled_from(["127.0.0.1", "10.0.0.1", "x"]),
            st.integers(-5, 70_000),
        ).map(lambda row: Candidate(*row)),
        max_size=40,
    )
)
def test_whatever_is_told_only_good_ones_are_left(told):
    counters = Counter()
    for left in (candidates.theirs(told, TUNNEL, counters), candidates.ours(told, TUNNEL)):
        assert len(left) <= 10
        assert len({(each.host, each.port) for each in left}) == len(left)
        assert all(candidates.fault(each, TUNNEL) is None for each in left)
    assert sum(counters.values()) == len(told) - len(candidates.theirs(told, TUNNEL, Counter()))


# --- Which path is better ---


def better(new, new_trip, used, used_trip):
    return candidates.clearly_better(
        candidates.cost(new, new_trip), candidates.cost(used, used_trip)
    )


def test_ranks():
    assert candidates.rank("192.168.1.1", relayed=False) is Rank.LAN
    assert candidates.rank("fd00::1", relayed=False) is Rank.LAN
    assert candidates.rank("2001:db8::1", relayed=False) is Rank.V6
    assert candidates.rank("192.0.2.1", relayed=False) is Rank.V4
    assert candidates.rank("192.168.1.1", relayed=True) is Rank.RELAY


def test_a_relay_is_the_last_resort():
    assert better(Rank.V4, 0.500, Rank.RELAY, 0.010)
    assert not better(Rank.RELAY, 0.010, Rank.V4, 0.500)


def test_at_equal_round_trips_the_house_comes_first_and_then_ipv6():
    assert better(Rank.LAN, 0.020, Rank.V6, 0.020)
    assert better(Rank.V6, 0.020, Rank.V4, 0.020)
    assert better(Rank.LAN, 0.020, Rank.V4, 0.020)


def test_a_round_trip_that_is_clearly_shorter_decides():
    assert better(Rank.V4, 0.010, Rank.V6, 0.030)
    assert better(Rank.V4, 0.040, Rank.V4, 0.060)
    assert not better(Rank.V4, 0.058, Rank.V4, 0.060)


costs = st.tuples(st.sampled_from(Rank), st.floats(0, 10)).map(lambda row: candidates.cost(*row))


@given(st.lists(costs, min_size=1, max_size=12))
def test_moving_to_what_is_clearly_better_comes_to_an_end(paths):
    """Paths that do not change are never left twice: no circles, however they are looked at."""
    used, moves = paths[0], 0
    for _ in range(len(paths) + 1):
        for path in paths:
            if candidates.clearly_better(path, used):
                used, moves = path, moves + 1
    assert moves <= len(paths)
    assert not any(candidates.clearly_better(path, used) for path in paths)


@given(costs, costs)
def test_never_is_each_of_two_better_than_the_other(one, two):
    assert not (candidates.clearly_better(one, two) and candidates.clearly_better(two, one))
    assert not candidates.clearly_better(one, one)


@pytest.mark.parametrize(
    ("new", "used", "variation", "expected"),
    [
        (0.060, 0.120, 0.0, 0.030),
        (0.060, 0.120, 0.005, 0.035),
        (0.060, 0.300, 0.0, 0.050),
        (0.120, 0.060, 0.001, 0.0),
    ],
)
def test_the_new_path_waits_for_the_slower_one(new, used, variation, expected):
    assert candidates.hold(new, used, variation) == pytest.approx(expected)
