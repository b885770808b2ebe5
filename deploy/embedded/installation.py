"""Find the Triton environment, and where its parts lie in the wheel of nvidia-pytriton. Only its server is used."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.embedded import libpython
from deploy.embedded.engines import ENGINES, Engine
from deploy.embedded.errors import EngineMissing, InstallationBroken, InstallationMissing, LibpythonMissing
from deploy.embedded.repository_scan import Model

CHECKOUT: Final = Path(__file__).parents[2]
REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")


@dataclass(frozen=True)
class Installation:
    """Where the parts lie from which a Triton is started. All of them exist."""

    environment: Path
    server: Path  # the tritonserver binary
    libraries: Path  # what that binary links, besides the system's
    python_backend: Path  # libtriton_python.so and the module that models import
    stub: Path  # the process a Python model runs in, built for this environment's Python
    libpython: Path  # what the stub links: absolute, or a bare name if the system's serves
    engines: frozenset[str]  # the backends of the table whose package is installed
    cuda: bool  # whether onnxruntime is the build for NVIDIA GPUs


def places(cache: Path) -> tuple[Path, ...]:
    """List the places of the environment, in order of preference. PE_TRITON_ENVIRONMENT overrides them all."""
    if chosen := os.environ.get("PE_TRITON_ENVIRONMENT"):
        return (Path(chosen).absolute(),)
    return (CHECKOUT / ".venv-triton", cache / "venv-triton")


def find(looked_at: tuple[Path, ...]) -> Installation:
    """Find the first environment that exists, and check that it is whole.

    Raises:
        InstallationMissing: there is none.
        InstallationBroken: a file is missing.
        LibpythonMissing: no shared libpython fits its Python.
    """
    for environment in looked_at:
        if environment.is_dir():
            return _inspect(environment)
    raise InstallationMissing(looked_at, REQUIREMENTS)


def require_engines(installation: Installation, models: Sequence[Model], forced: Engine | None = None) -> None:
    """Insist that every model can be run.

    Args:
        forced: the engine that a person chose for all ONNX models.

    Raises:
        EngineMissing: the first engine that is not installed.
    """
    for model in models:
        for engine in (model.engine, forced):
            if engine is not None and engine.requirements and engine.backend not in installation.engines:
                raise EngineMissing(installation.environment, model.name, engine)


def _inspect(environment: Path) -> Installation:
    python = environment / "bin/python"
    try:
        interpreter = libpython.ask(python)
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallationBroken(environment, "a Python that runs (bin/python)") from error
    wheel = interpreter.site_packages / "pytriton/tritonserver"
    library = libpython.find(interpreter)
    installation = Installation(
        environment=environment,
        server=wheel / "bin/tritonserver",
        libraries=interpreter.site_packages / "nvidia_pytriton.libs",
        python_backend=wheel / "backends/python",
        stub=wheel / "python_backend_stubs" / interpreter.version / "triton_python_backend_stub",
        libpython=library or Path(),
        engines=frozenset(
            engine.backend
            for engine in ENGINES.values()
            if (interpreter.site_packages / engine.package / "__init__.py").exists()
        ),
        cuda=any(interpreter.site_packages.glob("onnxruntime_gpu-*.dist-info")),
    )
    # An interrupted installation most likely lacks what is installed last.
    packages = [
        interpreter.site_packages / engine.package / "__init__.py"
        for engine in ENGINES.values()
        if engine.requirements is None
    ]
    for needed in (installation.server, installation.libraries, installation.stub, *packages):
        if not needed.exists():
            raise InstallationBroken(environment, str(needed.relative_to(environment)))
    if library is None:
        raise LibpythonMissing(python, interpreter.library)
    return installation
