"""Which setting is recommended."""

import pytest

from deploy.bench.tuning.grid import Setting
from deploy.bench.tuning.sweep import Row, recommend

PRESENT = Row(Setting(1, 64, 0), [100, 50], [10, 20], [1, 2])


def row(setting: Setting, rates: list[float], p99_ms: float = 10) -> Row:
    return Row(setting, rates, [p99_ms] * len(rates), [1] * len(rates))


def test_a_faster_setting_is_recommended_by_its_ratio_in_each_round() -> None:
    faster = row(Setting(2, 64, 0), [120, 60])
    assert recommend([PRESENT, faster]) is faster
    assert (gain := faster.gain(PRESENT)) is not None
    assert (gain.low, gain.high) == (1.2, 1.2)


@pytest.mark.parametrize("rates", [[100, 50], [200, 50], [102, 51], []])
def test_a_setting_that_is_not_faster_in_every_round_is_not(rates: list[float]) -> None:
    assert recommend([PRESENT, row(Setting(2, 64, 0), rates)]) is None


def test_among_equal_rates_the_lower_latency_wins_and_then_the_smaller_setting() -> None:
    fast = row(Setting(2, 64, 500), [151, 75.5], 30)
    soon = row(Setting(2, 8, 0), [150, 75], 20)
    small = row(Setting(1, 8, 0), [149, 74.5], 20)
    assert recommend([PRESENT, fast, soon]) is soon
    assert recommend([PRESENT, fast, soon, small]) is small


def test_a_refused_setting_is_never_recommended() -> None:
    assert recommend([PRESENT, Row(Setting(4, 64, 0), refused="out of memory")]) is None
