import numpy as np
import pytest

from gateway.arrays import stacked


@pytest.mark.parametrize("count", [1, 2, 5])
def test_arrays_are_stacked_along_a_new_first_axis(count: int) -> None:
    arrays = [np.full((2, 3), i, np.uint8) for i in range(count)]
    batch = stacked(arrays)
    assert batch.shape == (count, 2, 3)
    assert batch.dtype == np.uint8
    assert [int(row[0, 0]) for row in batch] == list(range(count))
