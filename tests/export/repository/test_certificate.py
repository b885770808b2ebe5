"""Check which changes make pe-export export a model again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from export.cli import main
from export.engines import ENGINES
from export.errors import RepositoryError
from export.repository import certificate as certificates
from export.repository.certificate import Certificate, EmbeddingSpace, Inputs
from tests.export.graph_replay import GraphReplay

pytestmark = pytest.mark.export

VARIANT, TEXT = "PE-Demo-T8-64", "PE-Demo-T8-64-text"
# The certificate of 0.1 has the variant and the weights' digest beside the other inputs, and no digest of the code.
INPUTS_OF_0_1 = {
    "variant": VARIANT,
    "tower": "text",
    "checkpoint_sha256": "0" * 64,
    "engine": "onnx",
    "precision": "fp32",
    "graph": 1,
    "target": "",
}


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    """A copy of the repository that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "models"))


def change(repository: Path, **values: Any) -> None:
    """Change fields of the text model's certificate."""
    path = repository / TEXT / "1" / "parity.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def export(repository: Path, checkpoint: Path, *options: str) -> int:
    arguments = [VARIANT, "--checkpoint", str(checkpoint), "--repository", str(repository), "--towers", "text"]
    return main([*arguments, *options])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("code_sha256", "0" * 64, "exporter's code"),
        ("libraries", {"torch": "1.0"}, "library versions"),
        ("precision", "fp16", "precision"),
        ("opset", 19, "opset"),
        ("architecture_sha256", "0" * 64, "architecture"),
        ("token_lengths", [8, 32], "token lengths"),
        ("space", {"variant": VARIANT, "checkpoint_sha256": "0" * 64}, "weights"),
    ],
)
def test_another_input_makes_pe_export_export_again(
    repository: Path,
    random_checkpoint: Path,
    replay: GraphReplay,
    capsys: pytest.CaptureFixture[str],
    field: str,
    value: Any,
    words: str,
) -> None:
    inputs = json.loads((repository / TEXT / "1" / "parity.json").read_text())["inputs"]
    change(repository, inputs={**inputs, field: value})
    assert export(repository, random_checkpoint) == 0
    said = capsys.readouterr().err
    assert f"{TEXT}/1  exporting again, changed: {words}\n" in said
    assert (f"{TEXT}  warning: a Triton of this folder serves the new embeddings" in said) is (words == "weights")
    assert replay.exports == 1
    read = {"space": EmbeddingSpace(**inputs["space"]), "token_lengths": tuple(inputs["token_lengths"])}
    assert Certificate.read(repository / TEXT / "2").inputs == Inputs(**{**inputs, **read})


def test_another_release_with_equal_code_exports_nothing(
    repository: Path, random_checkpoint: Path, replay: GraphReplay, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = json.loads((repository / TEXT / "1" / "parity.json").read_text())["versions"]
    change(repository, versions={**versions, "perception-encoder-server": "0.0.7", "numpy": "1.0"})
    assert export(repository, random_checkpoint) == 0
    assert f"{TEXT}/1  configuration rewritten" in capsys.readouterr().err
    assert replay.exports == 0
    assert not (repository / TEXT / "2").exists()
    # The configuration names the version of pe-export that made the artifact, not the version that reads it.
    assert '"0.0.7"' in (repository / TEXT / "config.pbtxt").read_text()


def test_a_certificate_of_0_1_is_reported_and_then_replaced(
    repository: Path, random_checkpoint: Path, replay: GraphReplay, capsys: pytest.CaptureFixture[str]
) -> None:
    change(repository, inputs=INPUTS_OF_0_1)
    assert main(["check", "--repository", str(repository)]) == 1
    assert "was not written by this version of pe-export: export the model again" in capsys.readouterr().out
    assert main(["list", "--repository", str(repository)]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{TEXT}/1")]
    assert "unreadable: export again" in line
    assert export(repository, random_checkpoint) == 0
    assert replay.exports == 1
    assert (repository / TEXT / "2").is_dir()
    capsys.readouterr()
    assert main(["check", "--repository", str(repository)]) == 0


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["files"], {}),
        (["files"], ["model.onnx"]),
        (["files", "model.onnx"], None),
        (["versions"], {}),
        (["logit_scale"], "100"),
        (["parity"], "x"),
        (["parity", "min_cosine"], None),
        (["inputs"], None),
        (["inputs", "tower"], "audio"),
        (["inputs", "precision"], "fp8"),
        (["inputs", "precision"], ["fp32"]),
        (["inputs", "engine"], {}),
        (["inputs", "token_lengths"], None),
        (["inputs", "space", "checkpoint_sha256"], None),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, list) else None,
)
def test_a_certificate_with_values_that_no_export_writes_is_refused(
    exported: Path, tmp_path: Path, keys: list[str], value: Any
) -> None:
    values = json.loads((exported / TEXT / "1" / "parity.json").read_text())
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (tmp_path / "parity.json").write_text(json.dumps(values))
    with pytest.raises(RepositoryError, match="was not written by this version of pe-export: export the model again"):
        Certificate.read(tmp_path)


def test_a_certificate_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "parity.json").mkdir()
    with pytest.raises(RepositoryError, match=r"parity\.json cannot be read: Is a directory"):
        Certificate.read(tmp_path)


def test_the_embedding_space_is_variant_and_weights_alone(exported: Path) -> None:
    made = Certificate.read(exported / TEXT / "1").inputs
    other = replace(made, precision="bf16", engine="openvino", form="elementary", code_sha256="", libraries={})
    assert other != made
    assert other.space == made.space
    assert Certificate.read(exported / f"{VARIANT}-vision" / "1").inputs.space == made.space
    assert EmbeddingSpace(VARIANT, "0" * 64) != made.space


@pytest.mark.parametrize("engine", ENGINES)
def test_the_code_of_graph_checkpoint_and_engine_is_in_the_digest(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "digest_of_modules", " ".join)
    digested = certificates.code_digest(engine).split(" ")
    assert digested == ["export.graph", "export.weights.checkpoint", *ENGINES[engine].sources]


def test_another_engines_own_code_changes_only_its_digest() -> None:
    assert certificates.code_digest("onnx") == certificates.code_digest("openvino")
    assert certificates.code_digest("onnx") != certificates.code_digest("tensorrt")
