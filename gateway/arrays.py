"""Stack arrays, without a copy if there is only one."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)


def stacked(arrays: Sequence[NDArray[_Scalar]]) -> NDArray[_Scalar]:
    """Stack N arrays of equal shape along a new first axis.

    Returns:
        An array [N, ...]. For N = 1, which is the size of most batches, it is a view.
    """
    return arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)
