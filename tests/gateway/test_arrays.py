import numpy as np
import pytest

from gateway.arrays import stacked


@pytest.mark.parametrize("count", [1, 2, 5])
def test_n_arrays_are_one_with_n_in_front(count: int) -> None:
    arrays = [np.full((2, 3), i, np.uint8) for i in range(count)]
    together = stacked(arrays)
    assert together.shape == (count, 2, 3)
    assert together.dtype == np.uint8
    assert [int(row[0, 0]) for row in together] == list(range(count))
