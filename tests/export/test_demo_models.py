"""Check that `pe-export PE-Demo-T8-64` makes the committed demo models from the committed checkpoint."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export import parity
from export.cli import main
from export.engines.onnx import onnxruntime_session
from export.samples import samples
from export.variants import TOWERS, find_variant

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "model_repository"
DEMO = find_variant("PE-Demo-T8-64")

# These fields describe the measurement, not the model.
MAY_DIFFER = ("exporter_version", "parity_min_cosine", "parity_max_abs_error")


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("again") / "models"
    assert main([DEMO.name, "--repository", str(repository)]) == 0
    return repository


def config_of(repository: Path, model: str) -> pb.ModelConfig:
    config = text_format.Parse((repository / model / "config.pbtxt").read_text(), pb.ModelConfig())
    for key in MAY_DIFFER:
        assert config.parameters.pop(key).string_value
    return config


@pytest.mark.parametrize("tower", TOWERS)
def test_outputs_are_the_same(again: Path, tower: str) -> None:
    model = f"{DEMO.name}-{tower}"
    inputs = samples(DEMO, "vision" if tower == "vision" else "text")
    with (
        onnxruntime_session(COMMITTED / model / "1" / "model.onnx") as embed_committed,
        onnxruntime_session(again / model / "1" / "model.onnx") as embed_again,
    ):
        committed, made = (parity.embed_all(embed, inputs) for embed in (embed_committed, embed_again))
    np.testing.assert_allclose(committed, made, atol=1e-5)


@pytest.mark.parametrize("tower", TOWERS)
def test_configurations_are_the_same(again: Path, tower: str) -> None:
    model = f"{DEMO.name}-{tower}"
    assert config_of(COMMITTED, model) == config_of(again, model)


def operators_of(repository: Path, model: str) -> Counter[tuple[str, str]]:
    """Count a graph's nodes by domain and operator."""
    graph = onnx.load(repository / model / "1" / "model.onnx").graph
    return Counter((node.domain, node.op_type) for node in graph.node)


def tensors_of(repository: Path, model: str) -> list[tuple[str, int, list[int | str]]]:
    """List name, data type and shape of each input and output. A dynamic axis is given by its name."""
    graph = onnx.load(repository / model / "1" / "model.onnx").graph
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    ]


def certificate_of(repository: Path, model: str) -> dict[str, Any]:
    certificate: dict[str, Any] = json.loads((repository / model / "1" / "parity.json").read_text())
    return certificate


@pytest.mark.parametrize("tower", TOWERS)
def test_graphs_have_the_same_operators(again: Path, tower: str) -> None:
    model = f"{DEMO.name}-{tower}"
    assert operators_of(COMMITTED, model) == operators_of(again, model)


@pytest.mark.parametrize("tower", TOWERS)
def test_graphs_take_and_give_the_same_tensors(again: Path, tower: str) -> None:
    model = f"{DEMO.name}-{tower}"
    assert tensors_of(COMMITTED, model) == tensors_of(again, model)


@pytest.mark.parametrize("tower", TOWERS)
def test_todays_code_and_libraries_made_them(again: Path, tower: str) -> None:
    """This fails if the exporter's code changed. Then run `pe-export` in an empty directory and commit its models."""
    committed, made = (certificate_of(repository, f"{DEMO.name}-{tower}") for repository in (COMMITTED, again))
    assert committed["inputs"] == made["inputs"]
    assert committed["command"] == "pe-export PE-Demo-T8-64"


def test_they_fit_the_repository() -> None:
    files = [path for path in COMMITTED.rglob("*") if path.is_file()]
    assert DEMO.bundled_checkpoint is not None
    assert sum(path.stat().st_size for path in [*files, DEMO.bundled_checkpoint]) < 25_000_000
