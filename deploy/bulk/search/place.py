"""The protocol of the places where a search looks, and the choice of the one that `--in` names."""

from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from deploy.bulk.errors import UsageError
from deploy.bulk.rows import EmbeddingSpace
from deploy.bulk.search.match import Match

# Imported when they are needed: a database's client takes seconds. Each has a function `open_place`.
_DATABASES: Final = {
    "lancedb": "deploy.bulk.search.lance_search",
    "postgresql": "deploy.bulk.search.postgres_search",
    "postgres": "deploy.bulk.search.postgres_search",
}
_FILES: Final = "deploy.bulk.search.file_search"
_SUFFIXES: Final = (".parquet", ".npy")


class Place(Protocol):
    """Embeddings that pe-embed wrote.

    Attributes:
        space: of the embeddings.
    """

    space: EmbeddingSpace

    def search(self, query: NDArray[np.float32], top: int, where: str | None) -> list[Match]:
        """Find the rows that are most similar to a query, most similar first.

        Args:
            query: float32 [D], unit length.
            top: how many rows to find, at most.
            where: an SQL expression that is true of the rows to search. None: all rows.

        Raises:
            UsageError: the expression is wrong.
            OutputError: the place cannot be read.
        """

    def close(self) -> None:
        """Release connections and files."""


class _Opener(Protocol):
    def __call__(self, name: str) -> Place: ...


def open_place(name: str) -> Place:
    """Open `lancedb:PATH`, `postgresql://...`, `FILE.parquet` or `FILE.npy`.

    Raises:
        UsageError: there is no such place, or pe-embed did not write it.
    """
    scheme, colon, _ = name.partition(":")
    module = _DATABASES.get(scheme) if colon else None
    if module is None and Path(name).suffix in _SUFFIXES:
        module = _FILES
    if module is None:
        # It may hold a password, so it is not repeated.
        raise UsageError(
            "--in: expected lancedb:PATH, postgresql://USER@HOST/DATABASE?table=NAME, FILE.parquet or FILE.npy."
        )
    return cast(_Opener, import_module(module).open_place)(name)
