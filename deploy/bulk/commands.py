"""The entry points of `pe-embed` and `pe-search`. Every environment has both, but only some have their packages."""

import sys
from importlib import import_module
from typing import Final

_EXTRA: Final = {"av", "httpx2", "lancedb", "numpy", "pgvector", "PIL", "psycopg", "pyarrow", "tqdm"}


def embed() -> int:
    """Run `pe-embed`, and return its exit status."""
    return _run("pe-embed", "deploy.bulk.cli")


def search() -> int:
    """Run `pe-search`, and return its exit status."""
    return _run("pe-search", "deploy.bulk.search.cli")


def _run(command: str, module: str) -> int:
    """Run the function `main` of a module. Without the packages of the extra `bulk`, say how to get them."""
    try:
        status: int = import_module(module).main()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        sys.stderr.write(
            f"{command}: {package} is not installed in this environment. In a checkout, `make bulk` makes "
            f".venv-bulk/bin/{command}. Elsewhere, install this package with the extra `bulk`.\n"
        )
        return 2
    return status
