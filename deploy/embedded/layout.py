"""The directory of one run as Triton wants it: `models/`, `backends/` and `lib/`.

Triton polls `models/` every second (model control mode "poll"), and finds there only what `publish` put there: a model
as the scan found it whole, replaced in one step. The other way to change what a running Triton serves, load requests
(mode "explicit"), would be open to every process of this machine, and can make Triton run code.

Triton's polling of the user's repository itself would do without this module, but it was kept: Triton would load
half-copied models, and the engine choice and the warm-ups need a configuration of their own.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Final

from deploy.embedded import engine_choice
from deploy.embedded.engine_choice import EngineChoice
from deploy.embedded.engines import ENGINES
from deploy.embedded.installation import Installation
from deploy.embedded.repository_scan import Model
from export.repository import config_pbtxt

# One Python-based backend serves all engines, under each engine's name.
BACKEND: Final = Path(__file__).with_name("backend")


class Layout:
    """The directory, made from an installation.

    Args:
        choice: the engine of each ONNX model.
    """

    def __init__(self, directory: Path, installation: Installation, choice: EngineChoice | None = None) -> None:
        self._choice = choice or EngineChoice()
        self.models = directory / "models"
        self.backends = directory / "backends"
        self.libraries = directory / "lib"
        self._views = directory / "views"
        self._made = 0
        self.models.mkdir()
        self._views.mkdir()
        # Copies (3 MB), because Triton refuses a library outside the backend directory, even through a link. It wants
        # the stub beside the library.
        python = self.backends / "python"
        shutil.copytree(installation.python_backend, python, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(installation.stub, python)
        for name in ENGINES:
            (self.backends / name).symlink_to(BACKEND)
        # A link to the file alone: its directory may hold a whole distribution, which must not take precedence.
        self.libraries.mkdir()
        if installation.libpython.is_absolute():
            (self.libraries / installation.libpython.name).symlink_to(installation.libpython)

    def publish(self, model: Model) -> None:
        """Show a model to Triton: these versions, with this configuration, in one step."""
        self._made += 1
        # The configuration is a copy and the versions are links. So Triton does not see what comes later (a version
        # that is still being copied, a configuration for it) before it is published.
        view = self._views / f"{model.name}.{self._made}"
        view.mkdir()
        (view / "config.pbtxt").write_text(config_pbtxt.to_text(self._configured(model)), "utf-8")
        for version in model.versions:
            (view / str(version)).symlink_to(model.path / str(version))
        link = self._views / "next"
        link.symlink_to(view)
        before = self._view(model.name)
        os.replace(link, self.models / model.name)
        if before:
            shutil.rmtree(before)

    def withdraw(self, name: str) -> None:
        """Have Triton unload a model."""
        if before := self._view(name):
            (self.models / name).unlink()
            shutil.rmtree(before)

    def _configured(self, model: Model) -> Any:
        """Copy the model's configuration, and change it to how this server runs the model."""
        config = config_pbtxt.ModelConfig()
        config.CopyFrom(model.config)
        if choice := self._choice.for_model(model):
            engine_choice.apply(config, choice)
        if model.engine.backend in ENGINES and not config.default_model_filename:
            config.default_model_filename = model.engine.default_file
        # A full batch, which exported configurations infer for GPUs, prepares nothing on a CPU: it took as long the
        # second time. For PE-Core-L14-336 that is minutes in which nothing is served.
        smallest = min((entry.batch_size for entry in config.model_warmup), default=0)
        for index in reversed(range(len(config.model_warmup))):
            if config.model_warmup[index].batch_size > smallest:
                del config.model_warmup[index]
        return config

    def _view(self, name: str) -> Path | None:
        link = self.models / name
        return link.readlink() if link.is_symlink() else None
