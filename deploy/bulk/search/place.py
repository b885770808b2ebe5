"""Open the place that `--in` names."""

from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from deploy.bulk.errors import UsageError
from deploy.bulk.search.match import Place

# Imported when they are needed: a database's client takes seconds. Each has a function `open_place`.
_DATABASES: Final = {
    "lancedb": "deploy.bulk.search.lance_search",
    "postgresql": "deploy.bulk.search.postgres_search",
    "postgres": "deploy.bulk.search.postgres_search",
}
_FILES: Final = "deploy.bulk.search.file_search"
_SUFFIXES: Final = (".parquet", ".npy")


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
