"""A tiny checkpoint (the demo's architecture, random weights) and what pe-export makes of it, once for all tests."""

from importlib.util import find_spec
from pathlib import Path

import pytest

VARIANT = "PE-Demo-T8-64"

# What needs torch is not even imported in an environment that serves.
if find_spec("torch") is None:
    collect_ignore = [
        "test_attention.py",
        "test_check.py",
        "test_checkpoint.py",
        "test_cli.py",
        "test_demo_models.py",
        "test_demo_pictures.py",
        "test_forms.py",
        "test_hub.py",
        "test_interrupted.py",
        "test_onnx_graph.py",
        "test_random_checkpoint.py",
        "test_runtimes.py",
        "test_samples.py",
        "test_tensorrt_plan.py",
        "test_towers.py",
        "test_typed_towers.py",
    ]


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.weights.random_checkpoint import write

    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    write(VARIANT, path)
    return path


@pytest.fixture(scope="session")
def exported(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with both towers; treat it as read-only."""
    from export.cli import main

    repository = tmp_path_factory.mktemp("exported") / "models"
    assert main([VARIANT, "--checkpoint", str(random_checkpoint), "--repository", str(repository)]) == 0
    return repository
