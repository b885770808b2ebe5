"""A `.npy` file [N, D] with a Parquet file beside it: row `row` of the array is the embedding of `id`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deploy.bulk.outputs.parts import EMBEDDING, ROWS_AT_ONCE, PartsOutput, commit
from deploy.bulk.outputs.table_columns import OWN
from deploy.bulk.rows import Output, Run

ROW: Final = "row"


class NpyOutput(PartsOutput):
    """Embeddings in an array file, and `id`, `row`, `error` and further columns in `NAME.ids.parquet`.

    Items without an embedding have no row in the array: their `row` is null.
    """

    reserved = (*OWN, ROW)

    @property
    def index(self) -> Path:
        """See `PartsOutput`."""
        return self.final.with_name(f"{self.final.stem}.ids.parquet")

    def to_part(self, part: Path) -> None:
        """See `PartsOutput`."""
        array = np.load(self.final, mmap_mode="r")
        with pq.ParquetFile(self.index) as file:
            kept = [field for field in file.schema_arrow if field.name != ROW]
            embedding = pa.field(EMBEDDING, pa.list_(pa.from_numpy_dtype(array.dtype), array.shape[1]))
            schema = pa.schema([kept[0], embedding, *kept[1:]], file.schema_arrow.metadata)
            with pq.ParquetWriter(part, schema) as writer:
                for batch in file.iter_batches(ROWS_AT_ONCE):
                    rows = batch.column(ROW)
                    flat = array[rows.fill_null(0).to_numpy()].reshape(-1) if len(array) else _zeros(batch, array)
                    found = pa.FixedSizeListArray.from_arrays(
                        pa.array(flat), array.shape[1], mask=rows.is_null() if rows.null_count else None
                    )
                    columns = [found if field.name == EMBEDDING else batch.column(field.name) for field in schema]
                    writer.write_batch(pa.record_batch(columns, schema=schema))

    def join(self, batches: Iterator[Any], schema: Any, embedded: int) -> None:
        """See `PartsOutput`."""
        kept = [field for field in schema if field.name != EMBEDDING]
        ids = pa.schema([kept[0], pa.field(ROW, pa.int64()), *kept[1:]], schema.metadata)
        array, index = (path.with_name(f"{path.name}.tmp") for path in (self.final, self.index))
        head = {
            "descr": np.dtype(self.run.dtype).str,
            "fortran_order": False,
            "shape": (embedded, self.run.space.dimension),
        }
        written = 0
        with array.open("wb") as file, pq.ParquetWriter(index, ids) as writer:
            np.lib.format.write_array_header_1_0(file, head)  # type: ignore[no-untyped-call]
            for batch in batches:
                embeddings = batch.column(EMBEDDING)
                there = embeddings.is_valid().to_numpy(zero_copy_only=False)
                file.write(embeddings.drop_null().flatten().to_numpy().tobytes())
                numbers = np.where(there, written + np.cumsum(there) - 1, 0)
                rows = pa.array(numbers, pa.int64(), mask=~there)
                written += int(there.sum())
                writer.write_batch(
                    pa.record_batch([rows if f.name == ROW else batch.column(f.name) for f in ids], schema=ids)
                )
        assert written == embedded, (written, embedded)
        commit(array, self.final)
        commit(index, self.index)


def _zeros(batch: Any, array: Any) -> Any:
    return np.zeros(batch.num_rows * array.shape[1], array.dtype)


def open_output(destination: str, run: Run) -> Output:
    """See `Opener`."""
    return NpyOutput(Path(destination), run)
