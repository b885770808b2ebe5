"""`pe-serve` with a Triton environment of another Python version, whose own libpython must be loaded."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.embedded.installation import CHECKOUT
from tests.running import PeServe

OTHER = "3.11" if sys.version_info[:2] == (3, 12) else "3.12"


@pytest.fixture
def other_python() -> str:
    """PE_TEST_OTHER_PYTHON, or the one on the PATH, or one that pyenv has."""
    name = f"python{OTHER}"
    found = [os.environ.get("PE_TEST_OTHER_PYTHON"), shutil.which(name)]
    if pyenv := shutil.which("pyenv"):
        asked = subprocess.run([pyenv, "whence", "--path", name], capture_output=True, text=True, check=False)
        found += asked.stdout.split()
    for python in filter(None, found):
        if subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip(f"no Python {OTHER} here; PE_TEST_OTHER_PYTHON may name one")


@pytest.mark.triton
def test_serves_from_an_environment_for_the_other_python(
    other_python: str, tmp_path: Path, pe_serve: Callable[..., PeServe], make_repository: Callable[..., Path]
) -> None:
    environment = tmp_path / "venv-triton"
    uv = CHECKOUT / ".tools/uv/bin/uv"
    subprocess.run([uv, "--quiet", "venv", "--python", other_python, environment], check=True)
    sync = ["--quiet", "pip", "sync", "--require-hashes", "--python", str(environment / "bin/python")]
    subprocess.run([uv, *sync, CHECKOUT / "constraints/triton.txt"], check=True)
    run = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text"), PE_TRITON_ENVIRONMENT=str(environment))
    run.wait_until_ready()
    stubs = [pid for pid, command in run.processes().items() if "python_backend_stub" in command]
    for pid in stubs:
        assert f"libpython{OTHER}.so" in Path(f"/proc/{pid}/maps").read_text()
    assert len(stubs) == 2
