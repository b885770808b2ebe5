"""A column of a Parquet or CSV file: image files, paths and URLs, or texts."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from deploy.bulk.errors import ItemError, UsageError
from deploy.bulk.rows import Value
from deploy.bulk.sources import files
from deploy.bulk.sources.item import Content, Item
from deploy.bulk.sources.listed import of_value

_ROWS_AT_ONCE: Final = 64  # each may be an image file
_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
SUFFIXES: Final = (".parquet", *_DELIMITERS)
# What to do about an error of PyArrow that has these words. The first one counts.
_ADVICE: Final = {
    "invalid UTF8": " Save the file as UTF-8.",
    "conversion error": " Give the column values of one type, or leave it out of --columns.",
    "CSV parse error: Expected": " Give each row a value for each column.",
}
_STRINGS: Final = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BINARY: Final = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)


class Table:
    """The rows of a table, in its order.

    Args:
        path: of a Parquet file, or of a CSV file with a head.
        column: of the values. Binary ones are image files, and so are those in a struct's field `bytes`, as Hugging
            Face's datasets have them. Strings are paths or URLs.
        id_column: of the ids. Default: the values if they are strings, else the numbers of the rows, from 0.
        columns: further columns to keep.
        root: the folder that relative paths begin in.
        text: values are texts.

    Raises:
        UsageError: it cannot be read, or has no such column.
    """

    def __init__(
        self, path: Path, column: str, id_column: str | None, columns: Sequence[str], root: Path, *, text: bool = False
    ) -> None:
        self._path = path
        self._column = column
        self._id_column = id_column
        self._columns = columns
        self._root = root
        self._text = text
        self._delimiter = _DELIMITERS.get(files.suffix(path.name))
        schema = self._schema()
        wanted = [column, *([id_column] if id_column else []), *columns]
        if missing := [name for name in wanted if name not in schema.names]:
            raise UsageError(f"{path} has no column {missing[0]!r}. It has: {', '.join(schema.names)}.")
        kind = schema.field(column).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if pa.types.is_dictionary(kind):  # a categorical column of pandas
            kind = kind.value_type
        self._strings = self._delimiter is not None or any(is_kind(kind) for is_kind in _STRINGS)
        if not self._strings and not any(is_kind(kind) for is_kind in _BINARY):
            raise UsageError(f"{path}: the column {column!r} is of type {kind}. Expected strings or binary values.")

    @property
    def description(self) -> str:
        """See `Source`."""
        kind = "texts" if self._text else "pictures"
        ids = f" by {self._id_column}" if self._id_column else ""
        return f"{kind} of the column {self._column}{ids} of {files.printable(str(self._path.resolve()))}"

    def ids(self) -> Iterator[str]:
        """See `Source`.

        Raises:
            UsageError: the file is damaged, or an id is missing.
        """
        # A CSV file is read with all columns, so that a value of a wrong type is found before anything is embedded.
        names = [self._id_column] if self._id_column else [self._column] if self._strings else []
        number = 0
        for batch in self._batches([*names, *self._columns] if self._delimiter else names):
            for row in batch.to_pylist() if names else [{}] * batch.num_rows:
                yield self._id(number, row)
                number += 1

    def __iter__(self) -> Iterator[Item]:
        """See `Source`. Errors: as for `ids`."""
        number = 0
        for batch in self._batches([self._column, *([self._id_column] if self._id_column else []), *self._columns]):
            for row in batch.to_pylist():
                columns = {name: _value(row[name]) for name in self._columns}
                yield Item(self._id(number, row), partial(self._load, row[self._column]), columns)
                number += 1

    def _id(self, number: int, row: dict[str, Any]) -> str:
        name = self._id_column or (self._column if self._strings else None)
        if name is None:
            return str(number)
        value = row[name]
        if value is None or value == "":
            raise UsageError(
                f"{self._path}: row {number} has no {name}, which is its id. Name a column with --id-column."
            )
        return str(_value(value))

    def _load(self, value: Any, max_bytes: int) -> Content:
        if isinstance(value, dict):
            value = value["bytes"]
        if value is None or value == "":
            raise ItemError(f"The row has no {self._column}.")
        if isinstance(value, bytes):
            return files.content(value, max_bytes, self._text)
        if self._text:
            return files.content(str(value).encode(), max_bytes, text=True)
        return of_value(value, self._root, max_bytes)

    def _schema(self) -> Any:
        try:
            if self._delimiter is None:
                return pq.read_schema(self._path)
            with pacsv.open_csv(self._path, parse_options=self._parse()) as reader:
                return reader.schema
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from None

    def _batches(self, names: Sequence[str]) -> Iterator[Any]:
        try:
            if self._delimiter is None:
                with pq.ParquetFile(self._path) as file:
                    yield from file.iter_batches(_ROWS_AT_ONCE, columns=list(dict.fromkeys(names)))
                return
            # Ids and values are strings: the id 007 is not 7.
            strings = {name: pa.string() for name in (self._column, self._id_column) if name}
            convert = pacsv.ConvertOptions(include_columns=list(dict.fromkeys(names)), column_types=strings)
            with pacsv.open_csv(self._path, parse_options=self._parse(), convert_options=convert) as reader:
                yield from reader
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from None

    def _parse(self) -> Any:
        return pacsv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True)

    def _unreadable(self, error: Exception) -> UsageError:
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        advice = next((advice for words, advice in _ADVICE.items() if words in reason), "")
        return UsageError(f"{self._path}: this table cannot be read: {reason}.{advice}")


def _value(value: Any) -> Value:
    """A value of a further column. Times, decimals and lists become texts, as do bytes: a CSV file may be no UTF-8."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, Value) else str(value)
