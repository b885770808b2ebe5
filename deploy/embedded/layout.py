"""A run's directory as Triton wants it: `models/`, `backends/` and `lib/`.

Triton looks for changes in `models/` every second (its control mode "poll"), and sees only what is shown to it there:
a model as it was when it was found whole, changed in one step. The other way to change what a running Triton serves,
requests to load models ("explicit"), would be open to every process of this machine, and can make Triton run code.
"""

import os
import shutil
from pathlib import Path

from deploy.embedded import warm_up
from deploy.embedded.engine import RunBy, configured
from deploy.embedded.installation import Installation
from deploy.embedded.repository import Model

# One for all engines, under each of their names.
BACKEND = Path(__file__).with_name("backend")


class Layout:
    """`run_by`: what ONNX models are run by, if not by onnxruntime."""

    def __init__(self, directory: Path, installation: Installation, run_by: RunBy | None = None) -> None:
        self._run_by = run_by or RunBy()
        self.models = directory / "models"
        self.backends = directory / "backends"
        self.libraries = directory / "lib"
        self._views = directory / "views"
        self._made = 0
        self.models.mkdir()
        self._views.mkdir()
        # Copies (3 MB): Triton refuses a library that a link leads out of the backend directory, and wants the stub
        # beside it.
        python = self.backends / "python"
        shutil.copytree(installation.python_backend, python, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(installation.stub, python)
        for name in ("onnxruntime", "openvino"):
            (self.backends / name).symlink_to(BACKEND)
        # A link of its own: the library's own directory may hold a whole distribution that must not take precedence.
        self.libraries.mkdir()
        if installation.libpython.is_absolute():
            (self.libraries / installation.libpython.name).symlink_to(installation.libpython)

    def show(self, model: Model) -> None:
        """Has Triton find this model, or these versions and this configuration of it, in one step."""
        self._made += 1
        # A copy of the configuration and links to the versions, so that what comes later (a half-made version, a
        # configuration for a version that is still on its way) is not seen before it is shown.
        view = self._views / f"{model.name}.{self._made}"
        view.mkdir()
        config = configured(model.config, choice) if (choice := self._run_by.of(model)) else model.config
        config = warm_up.smallest_alone(config)
        (view / "config.pbtxt").write_bytes(config)
        for version in model.versions:
            (view / str(version)).symlink_to(model.path / str(version))
        link = self._views / "next"
        link.symlink_to(view)
        before = self._view(model.name)
        os.replace(link, self.models / model.name)
        if before:
            shutil.rmtree(before)

    def hide(self, name: str) -> None:
        """Has Triton unload a model."""
        if before := self._view(name):
            (self.models / name).unlink()
            shutil.rmtree(before)

    def _view(self, name: str) -> Path | None:
        link = self.models / name
        return link.readlink() if link.is_symlink() else None
