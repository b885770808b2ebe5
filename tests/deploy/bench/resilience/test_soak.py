import pytest

from deploy.bench.resilience.soak import drift


def test_drift_leaves_out_the_warming_up() -> None:
    assert drift([10.0, 60, *[100] * 8]) == 0
    assert drift([10.0, 60, *[100] * 4, *[104] * 4]) == pytest.approx(4)
    assert drift([100.0] * 5 + [50] * 5) == pytest.approx(-50)


def test_one_peak_is_no_drift() -> None:
    assert drift([100.0] * 29 + [200.0]) == 0
