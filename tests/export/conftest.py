"""A tiny checkpoint (the demo's architecture, random weights) and what pe-export makes of it, once for all tests."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.export.graph_replay import GraphReplay

VARIANT = "PE-Demo-T8-64"

# Without torch the modules that need it cannot even be imported, so they are not collected.
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
    """A model repository with both towers; treat it as read-only."""
    from export.cli import main

    repository = tmp_path_factory.mktemp("exported") / "models"
    assert main([VARIANT, "--checkpoint", str(random_checkpoint), "--repository", str(repository)]) == 0
    return repository


@pytest.fixture
def replay(exported: Path, monkeypatch: pytest.MonkeyPatch) -> "GraphReplay":
    """Exports of `random_checkpoint` in FP32 for onnxruntime take the graphs of `exported` instead of tracing anew."""
    from export.graph import onnx_graph
    from tests.export.graph_replay import GraphReplay

    stand_in = GraphReplay(exported)
    monkeypatch.setattr(onnx_graph, "export_graph", stand_in)
    return stand_in
