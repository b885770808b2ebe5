"""The Triton environment: where it lies, and where the wheel of `nvidia-pytriton` keeps the server and its parts.

Only the server of that wheel is used, not its Python API.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.embedded import libpython
from deploy.embedded.engines import ENGINES, Engine
from deploy.embedded.errors import EngineMissing, InstallationBroken, InstallationMissing, LibpythonMissing

CHECKOUT: Final = Path(__file__).parents[2]
REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
CUDA_REQUIREMENTS: Final = Path(__file__).with_name("requirements-cuda.txt")


@dataclass(frozen=True)
class Installation:
    """The paths that a Triton is started from. Each path exists."""

    environment: Path
    server: Path  # the tritonserver binary
    libraries: Path  # the libraries that the binary links, besides the system's
    python_backend: Path  # the directory of libtriton_python.so and of the module that models import
    stub: Path  # the program that runs a Python model, built for this environment's Python
    libpython: Path  # the library that the stub links: absolute, or a bare name if the system has it
    engines: frozenset[str]  # the backends whose engine is installed
    cuda: bool  # whether an engine is installed in its build for NVIDIA GPUs

    def require_engine(self, engine: Engine, model: str) -> None:
        """Check that an engine is installed.

        Args:
            engine: the engine that is to run a model.
            model: the model's name, for the error.

        Raises:
            EngineMissing: the engine's package is not installed.
        """
        if engine.backend not in self.engines:
            raise EngineMissing(self.environment, model, engine)


def candidate_environments(cache: Path) -> tuple[Path, ...]:
    """Return the directories to look for an environment in, in order; `PE_TRITON_ENVIRONMENT` replaces them all."""
    if chosen := os.environ.get("PE_TRITON_ENVIRONMENT"):
        return (Path(chosen).absolute(),)
    return (CHECKOUT / ".venv-triton", cache / "venv-triton")


def find(candidates: tuple[Path, ...]) -> Installation:
    """Return the first environment that exists, after a check that it is complete.

    Raises:
        InstallationMissing: none of the directories exists.
        InstallationBroken: a file is missing in it.
        LibpythonMissing: its Python has no shared library.
    """
    for environment in candidates:
        if environment.is_dir():
            return _inspect(environment)
    raise InstallationMissing(candidates, REQUIREMENTS)


def _inspect(environment: Path) -> Installation:
    """Find the parts of an environment, and check that none is missing. Raises the errors of `find`."""
    python = environment / "bin/python"
    try:
        interpreter = libpython.inspect_interpreter(python)
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallationBroken(environment, "a Python that runs (bin/python)") from error
    packages = interpreter.site_packages
    wheel = packages / "pytriton/tritonserver"
    library = libpython.find(interpreter)
    module = {engine: packages / (engine.package or "") / "__init__.py" for engine in ENGINES if engine.package}
    installation = Installation(
        environment=environment,
        server=wheel / "bin/tritonserver",
        libraries=packages / "nvidia_pytriton.libs",
        python_backend=wheel / "backends/python",
        stub=wheel / "python_backend_stubs" / interpreter.version / "triton_python_backend_stub",
        libpython=library or Path(),
        engines=frozenset(e.backend for e in ENGINES if e not in module or module[e].exists()),
        cuda=any(any(packages.glob(f"{e.gpu_distribution}-*.dist-info")) for e in ENGINES if e.gpu_distribution),
    )
    # An interrupted installation most likely lacks what is installed last.
    required = [path for engine, path in module.items() if engine.requirements is None]
    for needed in (installation.server, installation.libraries, installation.stub, *required):
        if not needed.exists():
            raise InstallationBroken(environment, str(needed.relative_to(environment)))
    if library is None:
        raise LibpythonMissing(python, interpreter.library)
    return installation
