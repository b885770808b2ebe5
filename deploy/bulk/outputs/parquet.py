"""A Parquet file: `id`, `embedding` as a fixed-size list, `error`, and further columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from deploy.bulk.outputs.parts import PartsOutput, commit
from deploy.bulk.rows import Output, Run


class ParquetOutput(PartsOutput):
    """Rows in one Parquet file. Its schema's metadata names the embedding space."""

    @property
    def index(self) -> Path:
        """See `PartsOutput`."""
        return self.final

    def to_part(self, part: Path) -> None:
        """See `PartsOutput`. A second name is enough: the file is never changed, but replaced."""
        try:
            part.hardlink_to(self.final)
        except OSError:
            part.write_bytes(self.final.read_bytes())

    def join(self, batches: Iterator[Any], schema: Any, embedded: int) -> None:
        """See `PartsOutput`."""
        temporary = self.final.with_name(self.final.name + ".tmp")
        with pq.ParquetWriter(temporary, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        commit(temporary, self.final)


def open_output(destination: str, run: Run) -> Output:
    """See `Opener`."""
    return ParquetOutput(Path(destination), run)
