"""A Triton environment of empty files."""

from pathlib import Path

import pytest

from deploy.embedded.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    wheel = tmp_path / "wheel"
    (wheel / "backend/__pycache__").mkdir(parents=True)
    for name in ("backend/libtriton_python.so", "triton_python_backend_stub", "libpython3.11.so.1.0"):
        (wheel / name).touch()
    return Installation(
        tmp_path / ".venv-triton",
        wheel / "tritonserver",
        wheel / "libs",
        wheel / "backend",
        wheel / "triton_python_backend_stub",
        wheel / "libpython3.11.so.1.0",
        engines=frozenset({"onnxruntime", "python"}),
        cuda=False,
    )
