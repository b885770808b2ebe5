"""Shell commands that messages of `pe-serve` suggest, for a person to copy."""

import shlex
import sys
from pathlib import Path

from deploy.embedded.engines import Engine
from deploy.embedded.installation import CHECKOUT, CUDA_REQUIREMENTS


def serve_command(repository: Path | None) -> str:
    """Return the command that serves the same models: .venv/bin/pe-serve after `make serve`.

    Args:
        repository: the value of `--repository`; None if it was not given.
    """
    program = sys.argv[0] if Path(sys.argv[0]).name == "pe-serve" else "pe-serve"
    return shlex.join([program, *(("--repository", str(repository)) if repository else ())])


def install_command(environment: Path, engine: Engine) -> str:
    """Return the shell command that adds an optional engine to Triton's environment."""
    if environment == CHECKOUT / ".venv-triton":
        return shlex.join([str(CHECKOUT / "deploy/setup.sh"), engine.backend])
    return shlex.join([str(environment / "bin/pip"), "install", "--no-deps", "-r", str(engine.requirements)])


def cuda_command(environment: Path) -> str:
    """Return the shell command that replaces onnxruntime in Triton's environment by its build for NVIDIA GPUs."""
    if environment == CHECKOUT / ".venv-triton":
        return shlex.join([str(CHECKOUT / "deploy/setup.sh"), "cuda"])
    pip = str(environment / "bin/pip")
    # The two builds have the same module, so that one must be removed before the other is installed.
    remove = shlex.join([pip, "uninstall", "--yes", "onnxruntime"])
    return f"{remove} && {shlex.join([pip, 'install', '--no-deps', '-r', str(CUDA_REQUIREMENTS)])}"
