"""The columns that every output has, `table_columns.OWN`, as Arrow arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from deploy.bulk.rows import Row, Run


def own_columns(rows: Sequence[Row], run: Run) -> dict[str, Any]:
    """Make the arrays `id`, `embedding` (a fixed-size list of D numbers, null for a row with an error) and `error`."""
    flat = np.zeros((len(rows), run.space.dimension), run.dtype)
    for at, row in zip(flat, rows, strict=True):
        if row.embedding is not None:
            at[:] = row.embedding
    missing = pa.array([row.embedding is None for row in rows], pa.bool_())
    return {
        "id": pa.array([row.id for row in rows], pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), run.space.dimension, mask=missing),
        "error": pa.array([row.error for row in rows], pa.string()),
    }
