import pytest

from deploy.bench.resilience.soak import growth


def test_growth_leaves_out_the_warm_up() -> None:
    assert growth([10.0, 60, *[100] * 8]) == 0
    assert growth([10.0, 60, *[100] * 4, *[104] * 4]) == pytest.approx(4)
    assert growth([100.0] * 5 + [50] * 5) == pytest.approx(-50)


def test_one_peak_is_no_growth() -> None:
    assert growth([100.0] * 29 + [200.0]) == 0
