"""Medians, spreads and ratios."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import Spread, percentile, ratio, spread

numbers = st.lists(st.floats(0.001, 1e9), min_size=1, max_size=50)


def test_spread_of_seven() -> None:
    assert spread([7.0, 1.0, 3.0, 5.0, 2.0, 6.0, 4.0]) == Spread(4.0, 2.5, 5.5)


def test_spread_of_one_is_itself() -> None:
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0)
    assert spread([3.0]).iqr == 0


def test_spread_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        spread([])


@given(numbers)
def test_spread_lies_among_the_samples(values: list[float]) -> None:
    found = spread(values)
    slack = 1 + 1e-9  # quantiles interpolate in floating point
    assert min(values) / slack <= found.low <= found.median * slack
    assert found.median <= found.high * slack <= max(values) * slack**2


def test_ratio_is_taken_pair_by_pair() -> None:
    # The machine slowed down by half in the second pair; the ratio did not notice.
    assert ratio([2.0, 1.0, 2.0], [1.0, 0.5, 1.0]) == Spread(2.0, 2.0, 2.0)


def test_ratio_leaves_out_what_has_no_partner() -> None:
    assert ratio([2.0, 9.0, 9.0], [1.0, 0.0]) == Spread(2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="no samples"):
        ratio([1.0], [0.0])


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([5.0], 0.01) == 5


@given(numbers, st.floats(0, 1))
def test_percentile_is_a_sample_that_so_many_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
