"""The columns of a table in a database: their names, and the type that each of them gets from its values."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Literal

from deploy.bulk.errors import OutputError, UsageError
from deploy.bulk.rows import EmbeddingSpace, Row, Value

OWN: Final = ("id", "embedding", "error")
"""The columns that every table has. A source's further columns come after them."""

Kind = Literal["bool", "int", "float", "text"]
_INT64: Final = range(-(2**63), 2**63)


def kind_of(value: Value) -> Kind:
    """Return the kind of a value that is not None. An integer of more than 64 bits is text."""
    match value:
        case bool():
            return "bool"
        case int() if value in _INT64:
            return "int"
        case float():
            return "float"
    return "text"


def new_columns(rows: Sequence[Row], existing: Mapping[str, Kind | None]) -> dict[str, Kind]:
    """Choose kinds for the columns of `rows` that a table does not have yet. A column of nothing but None waits.

    Args:
        existing: the table's further columns. None: a type that pe-embed does not write.

    Raises:
        OutputError: a value does not fit into its column.
    """
    kinds: dict[str, set[Kind]] = {}
    for row in rows:
        for name, value in row.columns.items():
            if value is not None:
                kinds.setdefault(name, set()).add(kind_of(value))
                if name in existing and not _fits(kind_of(value), existing[name]):
                    raise OutputError(
                        f"{row.id}: {name} is {value!r}, and the table's column {name} holds "
                        f"{existing[name] or 'another type'}. Finished rows are kept. Give the column one type, or "
                        "name another table."
                    )
    return {name: _common(found) for name, found in kinds.items() if name not in existing}


def fitted(value: Value, kind: Kind | None) -> Value:
    """Return a value in the type of its column."""
    if value is None or kind is None:
        return None
    if kind == "text":
        return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return float(value) if kind == "float" else value


def check_names(names: Iterable[str], reserved: Collection[str], longest: int) -> None:
    """Refuse columns that the database cannot have.

    Args:
        reserved: names that the database uses itself, in lower case.
        longest: bytes of a name in UTF-8, at most.

    Raises:
        OutputError: the source has such a column.
    """
    for name in names:
        if name.lower() in (*OWN, *reserved):
            reason = "the table has a column of its own with this name"
        elif not name or not name.isprintable() or "." in name or "%" in name:
            reason = "it is empty, or has a dot, a percent sign or an unprintable character"
        elif len(name.encode("utf-8", "replace")) > longest:
            reason = f"it is longer than {longest} bytes"
        else:
            continue
        raise OutputError(f"The source's column {name!r} cannot be a column of the table: {reason}. Rename the column.")


def check_ids(rows: Sequence[Row]) -> None:
    """Refuse ids that no database stores.

    Raises:
        OutputError: an id has a NUL, or is not Unicode.
    """
    for row in rows:
        if "\0" in row.id or not _is_unicode(row.id):
            raise OutputError(f"The id {row.id!r} is no text that a database can store. Finished rows are kept.")


def last_of_each_id(rows: Sequence[Row]) -> list[Row]:
    """Drop rows whose id comes again later, and sort by id: two runs that lock rows in one order cannot deadlock."""
    return [row for _, row in sorted({row.id: row for row in rows}.items())]


def check_space(table: str, found: EmbeddingSpace | None, expected: EmbeddingSpace) -> None:
    """Refuse a table whose embeddings cannot be compared with those of a server.

    Args:
        table: what to call it in a message.
        found: the table's. None: pe-embed did not make it.
        expected: the server's.

    Raises:
        UsageError: the two differ.
    """
    if found is None:
        raise UsageError(f"{table} was not made by pe-embed, so it is left as it is. Name another table.")
    if found != expected:
        raise UsageError(
            f"{table} holds embeddings of {found.name} ({found.dimension} numbers). The server makes those of "
            f"{expected.name} ({expected.dimension} numbers). The two cannot be compared. Name another table, drop "
            f"this one and embed again, or use a server of {found.name}."
        )


def _fits(kind: Kind, column: Kind | None) -> bool:
    return kind == column or column == "text" or (kind, column) == ("int", "float")


def _common(kinds: set[Kind]) -> Kind:
    """Return the kind that holds values of all these kinds."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return "float" if kinds == {"int", "float"} else "text"


def _is_unicode(text: str) -> bool:
    """Whether it has no lone surrogates, which Python makes of a file name that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
