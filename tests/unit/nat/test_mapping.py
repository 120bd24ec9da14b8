"""What is believed of a router: its epoch, and its addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat.candidates import is_private
from wgpy.nat.mapping import Epoch, is_public, why_unusable

BOTH = pytest.mark.parametrize("strict", [True, False], ids=["PCP", "NAT-PMP"])


@BOTH
def test_the_first_word_of_a_server_is_believed(strict: bool) -> None:
    assert not Epoch(strict=strict).note(0, 1e6)


@BOTH
@given(st.integers(0, 10**6), st.floats(0, 10**6), st.floats(0, 10**6))
def test_a_clock_that_goes_as_ours_has_lost_nothing(
    strict: bool, epoch: int, at: float, by: float
) -> None:
    seen = Epoch(strict=strict)
    seen.note(epoch, at)
    assert not seen.note(epoch + int(by), at + by)


@BOTH
@pytest.mark.parametrize("rate", [0.95, 1.05])
def test_a_clock_that_is_off_by_a_twentieth_has_lost_nothing(strict: bool, rate: float) -> None:
    seen = Epoch(strict=strict)
    seen.note(1_000, 0.0)
    assert not seen.note(1_000 + int(86_400 * rate), 86_400.0)


@BOTH
def test_an_epoch_that_went_back_is_a_loss(strict: bool) -> None:
    seen = Epoch(strict=strict)
    seen.note(10_000, 0.0)
    assert seen.has_lost(0, 60.0)
    assert seen.note(55, 60.0)
    assert not seen.note(115, 120.0), "what is known since"


@BOTH
def test_a_second_back_is_rounding(strict: bool) -> None:
    seen = Epoch(strict=strict)
    seen.note(10_000, 0.0)
    assert not seen.has_lost(9_999, 0.1)
    assert seen.has_lost(9_997, 0.1)


@BOTH
def test_a_router_that_restarted_long_ago_is_behind(strict: bool) -> None:
    """It has a greater epoch than it had, and less than it should have."""
    seen = Epoch(strict=strict)
    seen.note(100, 0.0)
    assert seen.has_lost(3_000, 3_600.0)


def test_pcp_alone_takes_an_epoch_that_ran_ahead_for_a_loss() -> None:
    """RFC 6887, 8.5: it may be another server. RFC 6886, 3.6, looks only behind."""
    for strict in (True, False):
        seen = Epoch(strict=strict)
        seen.note(100, 0.0)
        assert seen.has_lost(10_000, 60.0) == strict


PRIVATE = ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1"]
PUBLIC = ["11.0.0.1", "172.32.0.1", "100.128.0.1", "192.0.2.1", "2a00::1", "2001:db8::1"]
NEITHER = [
    "0.0.0.0",
    "127.0.0.1",
    "169.254.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "ff02::1",
    "ff0e::1",
    "::ffff:11.0.0.1",
]


@pytest.mark.parametrize("host", PRIVATE + PUBLIC + NEITHER)
def test_addresses(host: str) -> None:
    assert is_private(host) == (host in PRIVATE)
    assert is_public(host) == (host in PUBLIC)
    assert (why_unusable(host, 1) == "") == (host in PUBLIC)
    assert why_unusable(host, 0)
    assert ("another NAT" in why_unusable(host, 1)) == (host in PRIVATE)
