"""The directory tree that one Triton runs from: `models/`, `backends/` and `lib/`.

Triton does not read the model repository directly. Each model that it sees is a snapshot: a `config.pbtxt` of our own
(`served_config.py`) and links to the versions that a scan found complete. Triton polls `models/` every second (control
mode "poll"), and a snapshot appears there by one rename. Control mode "explicit" would let whoever can connect to
Triton request a load, and a load request can bring along code that Triton runs.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.embedded.engine_choice import EngineChoice, on_gpu
from deploy.embedded.engines import ENGINES
from deploy.embedded.errors import RunDirectoryUnusable
from deploy.embedded.installation import Installation
from deploy.embedded.model_scan import Model
from deploy.embedded.served_config import served_config
from export.repository import config_pbtxt

# One Python-based backend implements every engine. Triton finds it under each engine's backend name.
BACKEND: Final = Path(__file__).with_name("backend")


class Layout:
    """The directory tree of one run.

    Args:
        directory: an empty directory of the run.
        installation: the Triton environment.
        choice: the engine of each model; by default the engine that its `config.pbtxt` names.

    Raises:
        RunDirectoryUnusable: the directory cannot be written.
    """

    def __init__(self, directory: Path, installation: Installation, choice: EngineChoice | None = None) -> None:
        self._choice = choice or EngineChoice()
        self._on_gpu = on_gpu(installation.cuda)
        self.models = directory / "models"
        self.backends = directory / "backends"
        self.libraries = directory / "lib"
        self._snapshots = directory / "snapshots"
        self._count = 0
        with _writing(directory):
            self._create(installation)

    def _create(self, installation: Installation) -> None:
        """Make the directories, and put the backends and libpython there."""
        self.models.mkdir()
        self._snapshots.mkdir()
        # These are copies (3 MB), because Triton refuses a library behind a link out of the backend directory, and
        # requires the stub beside the library.
        python = self.backends / "python"
        shutil.copytree(installation.python_backend, python, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(installation.stub, python)
        for engine in ENGINES:
            if engine.backend_class:
                (self.backends / engine.backend).symlink_to(BACKEND)
        # The loader gets a directory with this one library, because the library's own directory may hold a whole
        # distribution, which must not take precedence.
        self.libraries.mkdir()
        if installation.libpython.is_absolute():
            (self.libraries / installation.libpython.name).symlink_to(installation.libpython)

    def publish(self, model: Model) -> None:
        """Let Triton see a model as the scan found it, in one step. It replaces what was published of that name.

        Raises:
            RunDirectoryUnusable: the disk is full, for example. Triton sees what it saw before.
        """
        self._count += 1
        snapshot, link = self._snapshots / f"{model.name}.{self._count}", self._snapshots / "next"
        config = served_config(model.config, self._choice.substitution_for(model), self._on_gpu)
        before = self._published(model.name)
        try:
            with _writing(self._snapshots):
                snapshot.mkdir()
                (snapshot / "config.pbtxt").write_text(config_pbtxt.to_text(config), encoding="utf-8")
                for version in model.versions:
                    (snapshot / str(version)).symlink_to(model.path / str(version))
                link.symlink_to(snapshot)
                os.replace(link, self.models / model.name)
        except RunDirectoryUnusable:
            shutil.rmtree(snapshot, ignore_errors=True)
            link.unlink(missing_ok=True)
            raise
        if before:
            shutil.rmtree(before)

    def withdraw(self, name: str) -> None:
        """Let Triton unload a model."""
        if before := self._published(name):
            (self.models / name).unlink()
            shutil.rmtree(before)

    def _published(self, name: str) -> Path | None:
        link = self.models / name
        return link.readlink() if link.is_symlink() else None


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except shutil.Error as error:  # one of several files: source, destination, reason
        raise RunDirectoryUnusable({directory: str(error.args[0][0][2])}) from error
    except OSError as error:
        raise RunDirectoryUnusable({directory: error.strerror or str(error)}) from error
