import math

import pytest

from deploy.bench.harness.spread import Spread, percentile, ratio, spread


def test_a_spread_is_median_and_range() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert format(Spread(2.0, 1.0, 3.0, 3), ".1f") == "2.0 (1.0-3.0)"
    assert format(Spread(2.0, 2.0, 2.0, 1), ".2f") == "2.00"


def test_what_was_not_measured_has_none() -> None:
    assert spread([]) is None
    assert spread([math.nan]) is None
    assert ratio([1.0, math.nan], [math.nan, 1.0]) is None


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was half as fast in the second round, which does not change the ratio.
    assert ratio([90.0, 45.0, 80.0], [100.0, 50.0, 100.0]) == Spread(0.9, 0.8, 0.9, 3)


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (95, 4.0), (99, 4.0), (1, 1.0)])
def test_percentiles_are_values_that_occurred(percent: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == expected


def test_no_values_have_no_percentile() -> None:
    assert math.isnan(percentile([], 50))
