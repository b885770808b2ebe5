"""The variables of `make serve`: which model is wanted.

    python -m deploy.real_model.variables

checks them. `deploy/setup.sh` runs this before it installs anything, so this file needs only the standard library.
"""

import difflib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from export.errors import UnknownVariant
from export.variants import Variant, find_variant

CHECKOUT: Final = Path(__file__).parents[2]
_MEANING: Final = {
    "VARIANT": "a variant's name, whose published weights are downloaded",
    "CHECKPOINT": "a file of weights",
    "PE_MODELS": "the directory for exported models",
}


class Mistake(Exception):
    """A variable is wrong. `str()` says what is wrong and what to do next."""


@dataclass(frozen=True)
class Wanted:
    """The model to serve; the repository's own models if it names neither a variant nor a checkpoint."""

    variant: Variant | None
    checkpoint: Path | None
    """An existing file."""
    models: Path
    """The directory that holds one repository for each model."""


def read(environment: Mapping[str, str]) -> Wanted:
    """Read the variables. `make` puts those of its command line into the environment.

    Raises:
        Mistake: a variable has a wrong value, or one of make's command line is misspelled.
    """
    _require_known(environment.get("MAKEFLAGS", ""))
    name, file = environment.get("VARIANT", "").strip(), environment.get("CHECKPOINT", "").strip()
    try:
        variant = find_variant(name) if name else None
    except UnknownVariant as error:
        raise Mistake(f"VARIANT={name}: {error}") from None
    checkpoint = Path(file).expanduser() if file else None
    if checkpoint is not None and not checkpoint.is_file():
        what = "is a directory: name the file in it" if checkpoint.is_dir() else "does not exist"
        raise Mistake(f"CHECKPOINT={file} {what}")
    models = Path(environment.get("PE_MODELS") or CHECKOUT / "models").expanduser()
    return Wanted(variant, checkpoint, models)


def _require_known(flags: str) -> None:
    """Refuse misspelled variables of make's command line, which make would ignore.

    Others are settings of the server, such as `PORT`.
    """
    # GNU make's manual, "Communicating Options to a Sub-make": options, then "--" and the variables.
    for name in re.findall(r"(?:^|(?<!\\)\s)(\w+)[:+?]*=", flags.partition("-- ")[2]):
        if name not in _MEANING and difflib.get_close_matches(name.upper(), _MEANING, cutoff=0.7):
            known = ", ".join(f"{variable} ({meaning})" for variable, meaning in _MEANING.items())
            raise Mistake(f"there is no variable {name}. Letter case counts. There are {known}")


def main() -> int:
    """Check the variables of this process.

    Returns:
        The exit status: 0, or 2 if one is wrong.
    """
    try:
        read(os.environ)
    except Mistake as mistake:
        sys.stderr.write(f"make serve: {mistake}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
