"""Choose the output that a command line names."""

import re
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from deploy.bulk.errors import UsageError
from deploy.bulk.rows import Output, Run

# The modules of outputs, by the suffix of `--out` and by the scheme of `--into`. Each has a function `open_output`, an
# `Opener`. A module is imported only when it is needed, because a database's client takes seconds.
FILES: Final = {".parquet": "deploy.bulk.outputs.parquet", ".npy": "deploy.bulk.outputs.npy"}
DATABASES: Final = {
    "lancedb": "deploy.bulk.outputs.lance_table",
    "postgresql": "deploy.bulk.outputs.postgres_table",
    "postgres": "deploy.bulk.outputs.postgres_table",
}


class Opener(Protocol):
    """The function `open_output` of an output's module."""

    def __call__(self, destination: str, run: Run) -> Output:
        """Open it for a new run, or to continue one.

        Args:
            destination: what the user gave as `--out` or `--into`.

        Raises:
            UsageError: it cannot be written, or has rows of another run.
        """


def check_destination(arguments: Namespace) -> tuple[str, str]:
    """Return the destination and its module.

    Args:
        arguments: with `out` and `into`. One of the two is None.

    Raises:
        UsageError: no output has this name.
    """
    if arguments.into is not None:
        scheme, colon, _ = arguments.into.partition(":")
        if not colon or scheme not in DATABASES:
            # The rest may hold a password, so it is not repeated.
            shown = f"{scheme}:..." if colon else scheme
            raise UsageError(
                f"--into {shown}: this is no database that is known. Expected lancedb:PATH or "
                "postgresql://USER@HOST/NAME?table=NAME."
            )
        return arguments.into, DATABASES[scheme]
    suffix = Path(arguments.out).suffix
    if suffix not in FILES:
        raise UsageError(f"--out {arguments.out}: the name must end with {' or '.join(FILES)}.")
    return arguments.out, FILES[suffix]


def without_password(destination: str) -> str:
    """The destination as a message may show it."""
    shown = re.sub(r"(://[^:/?#@]*:)[^@]*@", r"\1***@", destination)
    return re.sub(r"([?&](?:ssl)?password=)[^&]*", r"\1***", shown)


def open_output(arguments: Namespace, run: Run) -> Output:
    """Open the output of a command line. `arguments` and errors: as for `check_destination` and `Opener`."""
    destination, module = check_destination(arguments)
    opener = cast(Opener, import_module(module).open_output)
    return opener(destination, run)
