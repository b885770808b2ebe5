"""Run the real `make serve` in a copy of this checkout, whose set-up only writes down what it is asked for."""

import os
import shutil
import signal
from pathlib import Path
from typing import Final

from tests.running import PeServe

ROOT: Final = Path(__file__).parent.parent
_COPIED: Final = ("Makefile", "deploy", "export", "gateway", "pyproject.toml")
# The environments belong to the real checkout, and setup.sh would make them again for another directory.
_SETUP: Final = '#!/bin/sh\necho "$@" >>"$(dirname "$0")/set-up"\n'


class CheckoutCopy:
    """A copy of the checkout with the environments of the original.

    Args:
        path: the directory to make.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, path / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, path / name)
        for environment in (".venv", ".venv-triton", ".venv-export"):
            (path / environment).symlink_to(ROOT / environment)
        (path / "deploy/setup.sh").write_text(_SETUP)

    @property
    def models(self) -> Path:
        """The directory for exported models."""
        return self.path / "models"

    def make_serve(self, *variables: str, **environment: str) -> PeServe:
        """Start `make serve` with these words on its command line."""
        return PeServe(
            self.path.parent,
            *variables,
            # A process group of its own, as a shell gives to each command.
            command=("setsid", "make", "-C", str(self.path), "--no-print-directory", "serve"),
            PYTHONPATH=str(self.path),
            PORT="0",
            **environment,
        )

    def set_up(self) -> list[str]:
        """Return what set-up was asked for since the last call."""
        file = self.path / "deploy/set-up"
        asked = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return asked

    def forget_export(self) -> None:
        """Remove the environment with torch."""
        (self.path / ".venv-export").unlink()


def press_ctrl_c(stack: PeServe) -> int:
    """Send SIGINT to the whole process group of `make`, as a terminal does, and return make's exit status."""
    os.killpg(stack.process.pid, signal.SIGINT)
    return stack.wait()
