"""Fixtures, made once for all tests: a small checkpoint (demo architecture, random weights) and its exported models."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.export.graph_replay import GraphReplay

VARIANT = "PE-Demo-T8-64"

# Test modules that need torch cannot be imported without torch, so they are not collected.
if find_spec("torch") is None:
    collect_ignore = [
        str(path)
        for path in Path(__file__).parent.rglob("test_*.py")
        if re.search(r"^pytestmark = .*\bmark\.export\b", path.read_text("utf-8"), re.MULTILINE)
    ]


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.weights.random_checkpoint import write

    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    write(VARIANT, path)
    return path


@pytest.fixture(scope="session")
def exported(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with both towers. Tests must not change it."""
    from export.cli import main

    repository = tmp_path_factory.mktemp("exported") / "models"
    assert main([VARIANT, "--checkpoint", str(random_checkpoint), "--repository", str(repository)]) == 0
    return repository


@pytest.fixture
def replay(exported: Path, monkeypatch: pytest.MonkeyPatch) -> "GraphReplay":
    """Let FP32 onnxruntime exports of `random_checkpoint` reuse the graphs of `exported`, because tracing is slow."""
    from export.graph import onnx_graph
    from tests.export.graph_replay import GraphReplay

    stand_in = GraphReplay(exported)
    monkeypatch.setattr(onnx_graph, "export_graph", stand_in)
    return stand_in
