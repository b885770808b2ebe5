"""What numpy lacks."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)


def stacked(arrays: Sequence[NDArray[_Scalar]]) -> NDArray[_Scalar]:
    """N arrays of one shape as one with N in front; of a single one a view, since most batches are of one."""
    return arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)
