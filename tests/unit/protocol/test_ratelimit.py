"""The rate limiter and the load meter."""

import struct

import pytest

from wgpy.protocol.constants import SOURCE_AT_ONCE, UNDER_LOAD_DEPTH
from wgpy.protocol.load import LoadMeter
from wgpy.protocol.ratelimit import RateLimiter

V4 = bytes([192, 0, 2, 1])
NET6 = bytes.fromhex("20010db800000001")


def allowed(limiter, address, now, tries):
    return sum(limiter.allow(address, now) for _ in range(tries))


def test_a_burst_of_five_then_twenty_a_second():
    limiter = RateLimiter()
    assert allowed(limiter, V4, 10.0, 20) == SOURCE_AT_ONCE
    assert limiter.refused == 15
    assert not limiter.allow(V4, 10.049)
    assert limiter.allow(V4, 10.0501)
    # 40 a second asked for over ten seconds: 20 a second pass.
    passed = sum(limiter.allow(V4, 10.06 + step * 0.025) for step in range(400))
    assert 198 <= passed <= 202


def test_other_numbers():
    limiter = RateLimiter(per_second=2, burst=2)
    assert allowed(limiter, V4, 10.0, 9) == 2
    assert not limiter.allow(V4, 10.49)
    assert limiter.allow(V4, 10.501)


def test_a_bucket_is_not_forgotten_before_it_is_full_again():
    with pytest.raises(ValueError, match="full again"):
        RateLimiter(per_second=2, burst=3)


def test_refusals_do_not_postpone_the_next_token():
    limiter = RateLimiter()
    allowed(limiter, V4, 0.0, 5)
    assert allowed(limiter, V4, 0.03, 50) == 0
    assert limiter.allow(V4, 0.0501)


def test_ipv4_addresses_count_one_by_one():
    limiter = RateLimiter()
    assert allowed(limiter, V4, 0.0, 9) == SOURCE_AT_ONCE
    assert allowed(limiter, bytes([192, 0, 2, 2]), 0.0, 9) == SOURCE_AT_ONCE


def test_ipv6_counts_by_64():
    limiter = RateLimiter()
    total = sum(limiter.allow(NET6 + struct.pack(">Q", host), 0.0) for host in range(50))
    assert total == SOURCE_AT_ONCE
    assert len(limiter) == 1
    assert limiter.allow(bytes.fromhex("20010db800000002") + bytes(8), 0.0)


def test_mapped_ipv4_counts_as_ipv4():
    limiter = RateLimiter()
    mapped = bytes(10) + b"\xff\xff"
    assert allowed(limiter, mapped + V4, 0.0, 9) == SOURCE_AT_ONCE
    assert limiter.allow(mapped + bytes([192, 0, 2, 9]), 0.0)
    assert not limiter.allow(V4, 0.0)


def test_the_table_has_a_bound_and_counts_what_did_not_fit():
    limiter = RateLimiter(capacity=3)
    sources = [bytes([10, 0, 0, host]) for host in range(5)]
    assert [limiter.allow(source, 1.0) for source in sources] == [True] * 3 + [False] * 2
    assert len(limiter) == 3
    assert limiter.table_full == 2
    assert limiter.refused == 0
    # Those inside are still served, and room comes back when they are forgotten.
    assert limiter.allow(sources[0], 1.0)
    assert limiter.allow(sources[4], 3.1)
    assert len(limiter) == 1


@pytest.mark.parametrize("gap", [0.999, 1.0, 1.5, 2.0, 100.0])
def test_sources_are_forgotten_only_when_their_bucket_is_full(gap):
    limiter = RateLimiter()
    limiter.allow(V4, 100.0)
    allowed(limiter, V4, 100.5, 9)
    # Whether remembered or not, by then it may do what a stranger may do and no more.
    assert allowed(limiter, V4, 100.5 + gap, 9) == SOURCE_AT_ONCE


def test_turning_generations_gives_no_fresh_burst():
    limiter = RateLimiter()
    limiter.allow(bytes(4), 100.0)
    allowed(limiter, V4, 100.99, 9)
    assert allowed(limiter, V4, 101.01, 9) == 0
    assert allowed(limiter, V4, 101.05, 9) == 1


def test_a_flood_is_held_to_the_bound():
    limiter = RateLimiter(capacity=100)
    for step in range(3000):
        limiter.allow(struct.pack(">I", step), step * 0.001)
        assert len(limiter) <= 100
    assert limiter.table_full > 2000


def test_under_load_from_the_depth_and_for_a_second_after():
    meter = LoadMeter()
    assert not meter.under_load(UNDER_LOAD_DEPTH - 1, 0.5)
    assert meter.under_load(UNDER_LOAD_DEPTH, 10.0)
    assert meter.under_load(0, 10.999)
    assert not meter.under_load(0, 11.0)
    assert meter.under_load(UNDER_LOAD_DEPTH + 1, 20.0)
    assert meter.under_load(UNDER_LOAD_DEPTH, 20.9)
    assert meter.under_load(1, 21.8)
