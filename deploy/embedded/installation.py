"""The Triton environment: where it is, and what lies where in the wheel of nvidia-pytriton; we use its server only."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded import libpython
from deploy.embedded.errors import EngineMissing, InstallationBroken, InstallationMissing, LibpythonMissing
from deploy.embedded.repository import Model

CHECKOUT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
OPENVINO_REQUIREMENTS = Path(__file__).with_name("requirements-openvino.txt")


@dataclass(frozen=True)
class Installation:
    """Where everything lies that a Triton is started from; all of it is there."""

    environment: Path
    server: Path  # the tritonserver binary
    libraries: Path  # what that binary links, besides the system's
    python_backend: Path  # libtriton_python.so and the module that models import
    stub: Path  # the process a Python model runs in, built for this environment's Python
    libpython: Path  # what the stub links: absolute, or a bare name if the system's serves
    openvino: bool  # whether models for it can be run; onnxruntime always is there
    cuda: bool  # whether that onnxruntime is the one for NVIDIA GPUs


def places(cache: Path) -> tuple[Path, ...]:
    """Where an environment is looked for, in order. PE_TRITON_ENVIRONMENT overrides them all."""
    if chosen := os.environ.get("PE_TRITON_ENVIRONMENT"):
        return (Path(chosen).absolute(),)
    return (CHECKOUT / ".venv-triton", cache / "venv-triton")


def find(looked_at: tuple[Path, ...]) -> Installation:
    """The first environment that is there, checked to be whole.

    Raises InstallationMissing, InstallationBroken or LibpythonMissing.
    """
    for environment in looked_at:
        if environment.is_dir():
            return _inspect(environment)
    raise InstallationMissing(looked_at, REQUIREMENTS)


def require_engines(installation: Installation, models: Sequence[Model], insisted: str | None = None) -> None:
    """Raises EngineMissing for the first of `models` that could not be run; `insisted`: as `RunBy` has it."""
    for model in models:
        if (model.engine == "openvino" or insisted) and not installation.openvino:
            raise EngineMissing(installation.environment, model.name, OPENVINO_REQUIREMENTS)


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
        openvino=(interpreter.site_packages / "openvino/__init__.py").exists(),
        cuda=any(interpreter.site_packages.glob("onnxruntime_gpu-*.dist-info")),
    )
    # The last to be installed are the likeliest to be missing after an interrupted installation.
    onnxruntime = interpreter.site_packages / "onnxruntime/__init__.py"
    for needed in (installation.server, installation.libraries, installation.stub, onnxruntime):
        if not needed.exists():
            raise InstallationBroken(environment, str(needed.relative_to(environment)))
    if library is None:
        raise LibpythonMissing(python, interpreter.library)
    return installation
