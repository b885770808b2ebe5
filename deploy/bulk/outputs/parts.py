"""Rows in a directory of Parquet files beside the final file.

A Parquet file cannot be read before its last bytes, and a run may be killed at any time. So rows are written as small
files, which get their names when they are complete, and which are joined when the run is complete.
"""

import contextlib
import fcntl
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deploy.bulk.errors import OutputError, UsageError
from deploy.bulk.outputs.arrow_columns import own_columns
from deploy.bulk.outputs.table_columns import OWN
from deploy.bulk.rows import Row, Run

ID: Final = "id"
EMBEDDING: Final = "embedding"
ERROR: Final = "error"
ROWS_AT_ONCE: Final = 8192


class PartsOutput(ABC):
    """An output that keeps its rows as parts until it is closed. See `Output`.

    Args:
        final: the file that `close` makes.
        run: what has to be the same when a run continues.

    Raises:
        UsageError: there are rows of another run, another process writes here, or the place cannot be written.

    Attributes:
        reserved: names that a source's further columns cannot have, because the files have columns of these names.
    """

    reserved: ClassVar[tuple[str, ...]] = OWN

    def __init__(self, final: Path, run: Run) -> None:
        self.final = final
        self.run = run
        self._parts = final.with_name(final.name + ".parts")
        self._joined = final.with_name(final.name + ".joined")
        self._only: set[str] | None = None
        # By id, whether the last row has an embedding.
        self._states: dict[str, bool] = {}
        try:
            self._parts.mkdir(exist_ok=True)
            self._lock = os.open(self._parts, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in self._parts.glob("*.tmp"):
                file.unlink()
        except BlockingIOError:
            raise UsageError(
                f"{final}: another pe-embed writes this file. Wait for it, or choose another name."
            ) from None
        except OSError as error:
            raise UsageError(f"{final} cannot be written: {error.strerror}.") from None
        try:
            self._open()
        except BaseException:
            self._leave()
            raise

    def _open(self) -> None:
        shutil.rmtree(self._joined, ignore_errors=True)
        parts = self._files()
        if not parts and self.final.exists():
            self._read_states(self.index)
        for part in parts:
            self._read_states(part)

    # -- what the kinds of files differ in

    @property
    @abstractmethod
    def index(self) -> Path:
        """The final Parquet file with the columns `id` and `error`, and the run in its metadata."""

    @abstractmethod
    def to_part(self, part: Path) -> None:
        """Write the final file's rows as a part."""

    @abstractmethod
    def join(self, batches: Iterator[Any], schema: Any, embedded: int) -> None:
        """Make the final file.

        Args:
            batches: record batches, from parts, without replaced rows.
            schema: of all of them.
            embedded: how many rows have an embedding.
        """

    # -- Output

    def finished(self) -> Collection[str]:
        """See `Output`."""
        return {item_id for item_id, embedded in self._states.items() if embedded}

    def failed(self) -> Collection[str]:
        """See `Output`."""
        return {item_id for item_id, embedded in self._states.items() if not embedded}

    def write(self, rows: Sequence[Row]) -> None:
        """See `Output`.

        Raises:
            OutputError: they cannot be written.
        """
        if not rows:
            return
        with self._errors():
            self._begin()
            self._write_part(rows)
        self._states.update((row.id, row.embedding is not None) for row in rows)

    def remove_others(self, ids: Collection[str]) -> int:
        """See `Output`."""
        self._only = set(ids)
        gone = [item_id for item_id in self._states if item_id not in self._only]
        if gone:
            with self._errors():
                self._begin()
        for item_id in gone:
            del self._states[item_id]
        return len(gone)

    def close(self) -> None:
        """Join the parts to the final file, and remove them.

        Raises:
            OutputError: it cannot be written.
        """
        with self._errors():
            if not self._files() and not self.final.exists():
                self._write_part([])
            if parts := self._files():
                kept = self._kept(parts)
                schema = self._schema(parts)
                self.join(self._batches(parts, kept, schema), schema, sum(self._states.values()))
                # Removing takes a while, and a process that is killed meanwhile must not leave some of the parts.
                self._parts.rename(self._joined)
                shutil.rmtree(self._joined)
        self._leave()

    # -- parts

    def _files(self) -> list[Path]:
        return sorted(self._parts.glob("part-*.parquet"))

    def _begin(self) -> None:
        """Make the rows of an earlier run's final file the first part. The joined parts replace that file."""
        if not self._files() and self.final.exists():
            temporary = self._parts / "final.tmp"
            self.to_part(temporary)
            commit(temporary, self._parts / "part-000000.parquet")

    def _write_part(self, rows: Sequence[Row]) -> None:
        name = f"part-{len(self._files()):06}.parquet"
        temporary = self._parts / f"{name}.tmp"
        pq.write_table(table_of(rows, self.run, self.reserved), temporary)
        commit(temporary, self._parts / name)

    def _read_states(self, path: Path) -> None:
        """Learn from a file which ids have an embedding. Raises UsageError: it is another run's, or damaged."""
        try:
            with pq.ParquetFile(path) as file:
                metadata, schema = file.schema_arrow.metadata or {}, file.schema_arrow
                self._check(path, metadata)
                if EMBEDDING in schema.names and (dtype := _dtype(schema)) != self.run.dtype:
                    raise self._differs(path, "embeddings in", dtype, self.run.dtype)
                for batch in file.iter_batches(ROWS_AT_ONCE, columns=[ID, ERROR]):
                    states = batch.column(1).is_null().to_pylist()
                    self._states.update(zip(batch.column(0).to_pylist(), states, strict=True))
        except (OSError, pa.ArrowException, KeyError) as error:
            raise UsageError(
                f"{path} cannot be read ({error}), so the run cannot continue. Remove it, or choose another name."
            ) from None

    def _check(self, path: Path, metadata: Mapping[bytes, bytes]) -> None:
        expected = _metadata(self.run)
        if b"embedding_space" not in metadata:
            raise UsageError(f"{path} exists, and pe-embed did not write it. Remove it, or choose another name.")
        for key, what in _CHECKED.items():
            if (found := metadata.get(key, b"").decode()) != (wanted := expected[key].decode()):
                raise self._differs(path, what, found, wanted)

    def _differs(self, path: Path, what: str, found: str, wanted: str) -> UsageError:
        where = self.final if path == self.index else path.parent
        return UsageError(
            f"{where} has {what} {found}, and this run has {what} {wanted}. Remove {where} to begin again, or choose "
            "another name."
        )

    def _kept(self, parts: Sequence[Path]) -> list[Any]:
        """For each part, a mask of its rows: the last row of each id."""
        seen: set[str] = set()
        masks = []
        for part in reversed(parts):
            ids = pq.read_table(part, columns=[ID]).column(0).to_pylist()
            mask = np.zeros(len(ids), bool)
            for at in range(len(ids) - 1, -1, -1):
                if ids[at] not in seen and (self._only is None or ids[at] in self._only):
                    mask[at] = True
                seen.add(ids[at])
            masks.append(mask)
        return masks[::-1]

    def _schema(self, parts: Sequence[Path]) -> Any:
        """One schema for all parts. A column that begins with nulls, or with whole numbers, gets its type later."""
        schemas = [pq.read_schema(part) for part in parts]
        try:
            schema = pa.unify_schemas(schemas, promote_options="permissive")
        except pa.ArrowException:  # numbers and texts in one column
            names = [name for name in schemas[0].names if name not in OWN]
            fixed = [schemas[0].field(name) for name in OWN]
            schema = pa.schema([*fixed, *((name, pa.string()) for name in names)])
        return schema.with_metadata(_metadata(self.run))

    def _batches(self, parts: Sequence[Path], masks: Sequence[Any], schema: Any) -> Iterator[Any]:
        """Yield the kept rows of all parts, in the columns of `schema`."""
        for part, mask in zip(parts, masks, strict=True):
            start = 0
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches(ROWS_AT_ONCE):
                    table = pa.table(batch).filter(pa.array(mask[start : start + batch.num_rows]))
                    start += batch.num_rows
                    columns = [
                        table.column(field.name).cast(field.type)
                        if field.name in table.column_names
                        else pa.nulls(table.num_rows, field.type)
                        for field in schema
                    ]
                    yield from pa.table(columns, schema=schema).to_batches()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"{self.final} cannot be written: {reason}. Rows written before are kept.") from None

    def _leave(self) -> None:
        """Remove the directory if it is empty, and let another process write this file."""
        with contextlib.suppress(OSError):
            self._parts.rmdir()
        os.close(self._lock)


def table_of(rows: Sequence[Row], run: Run, reserved: Collection[str] = OWN) -> Any:
    """Make an Arrow table of rows: `id`, `embedding` (a list of D), `error`, and further columns.

    Raises:
        UsageError: a further column has a name of `reserved`.
    """
    columns = own_columns(rows, run)
    for name in rows[0].columns if rows else ():
        if name in reserved:
            raise UsageError(f"A column may not be called {name!r}, as a column of the embeddings is.")
        columns[name] = pa.array([row.columns[name] for row in rows])
    return pa.table(columns).replace_schema_metadata(_metadata(run))


def commit(temporary: Path, path: Path) -> None:
    """Give a complete file its name. It is on disk when this returns."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


_CHECKED: Final = {
    b"embedding_space": "embeddings of",
    b"dtype": "embeddings in",
    b"source": "the source:",
    b"shard": "the shard",
}


def _metadata(run: Run) -> dict[bytes, bytes]:
    return {
        b"embedding_space": run.space.name.encode(),
        b"dtype": run.dtype.encode(),
        b"source": run.source.encode(),
        b"shard": run.shard.encode(),
    }


def _dtype(schema: Any) -> str:
    return str(np.dtype(schema.field(EMBEDDING).type.value_type.to_pandas_dtype()))
