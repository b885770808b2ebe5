import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export import parity
from export.cli import main
from export.files import sha256_of

pytestmark = pytest.mark.export

TEXT = "PE-Demo-T8-64-text"


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    """A copy of the repository that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "models"))


def check(repository: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """Run `pe-export check`. Return the exit status and the line of each model."""
    status = main(["check", "--repository", str(repository)])
    said = (line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    return status, {model: verdict for model, verdict in said}  # noqa: C416 - dict() would lose the types


def test_a_repository_as_exported_is_sound(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = check(repository, capsys)
    assert status == 0
    assert list(said) == ["PE-Demo-T8-64-text/1", "PE-Demo-T8-64-vision/1"]
    assert all(line.startswith("ok  onnx fp32, minimum cosine 1.0000") for line in said.values())


def test_tuning_the_configuration_is_allowed(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = repository / TEXT / "config.pbtxt"
    tuned = config.read_text().replace("max_batch_size: 64", "max_batch_size: 8") + "\ninstance_group { count: 2 }\n"
    config.write_text(tuned)
    assert check(repository, capsys)[0] == 0


@pytest.mark.parametrize("file", ["model.onnx", "parity.npz"])
def test_one_changed_byte_is_found(repository: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    path = repository / TEXT / "1" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    status, said = check(repository, capsys)
    assert status == 1
    assert said[f"{TEXT}/1"] == f"FAILED  {file}: missing, or changed since the export"
    assert said["PE-Demo-T8-64-vision/1"].startswith("ok")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name: "tokens"', 'name: "input_ids"', "the field input differs from the export"),
        ("dims: -1", "dims: 32", "the field input differs from the export"),
        ('string_value: "8 16 24 32"', 'string_value: "8 32"', "the field parameters differs from the export"),
        ('string_value: "fp32"', 'string_value: "fp16"', "the field parameters differs from the export"),
        ('backend: "onnxruntime"', 'backend: "tensorrt"', "the field backend differs from the export"),
        ("max_batch_size", "max_bach_size", "is not a Triton configuration"),
    ],
)
def test_a_configuration_that_no_longer_fits_is_found(
    repository: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, problem: str
) -> None:
    config = repository / TEXT / "config.pbtxt"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new, 1))
    status, said = check(repository, capsys)
    assert status == 1
    assert problem in said[f"{TEXT}/1"]


def test_answers_other_than_the_recorded_are_found(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Matching hashes do not show what the graph computes, so the check runs the graph."""
    directory = repository / TEXT / "1"
    answers = parity.Answers.read(directory)
    parity.Answers(answers.inputs, answers.expected[::-1], answers.token_lengths).write(directory)
    certificate = json.loads((directory / "parity.json").read_text())
    certificate["files"]["parity.npz"] = sha256_of(directory / "parity.npz")
    (directory / "parity.json").write_text(json.dumps(certificate))
    status, said = check(repository, capsys)
    assert status == 1
    assert "minimum cosine to torch FP32" in said[f"{TEXT}/1"]


def test_a_graph_that_is_wrong_at_one_length_only_is_found(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = repository / TEXT / "1"
    _spoil_length(directory / "model.onnx", of_length=16)
    certificate = json.loads((directory / "parity.json").read_text())
    certificate["files"]["model.onnx"] = sha256_of(directory / "model.onnx")
    (directory / "parity.json").write_text(json.dumps(certificate))
    status, said = check(repository, capsys)
    assert status == 1
    assert "minimum cosine to torch FP32" in said[f"{TEXT}/1"]


def _spoil_length(path: Path, of_length: int) -> None:
    """Change a graph so that it adds 1 to each number of the embedding, before the L2 norm, at one token length."""
    model = onnx.load(path)
    graph = model.graph
    norm = next(node for node in graph.node if node.op_type == "ReduceL2")
    rows = norm.input[0]
    for node in graph.node:
        node.input[:] = [f"{rows}_wrong" if name == rows else name for name in node.input]
    place = list(graph.node).index(norm)
    nodes = [
        helper.make_node("Shape", ["tokens"], ["length"], start=1, end=2),
        helper.make_node("Equal", ["length", "wrong_length"], ["is_wrong"]),
        helper.make_node("Cast", ["is_wrong"], ["offset"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Add", [rows, "offset"], [f"{rows}_wrong"]),
    ]
    for node in reversed(nodes):
        graph.node.insert(place, node)
    graph.initializer.append(numpy_helper.from_array(np.array([of_length]), "wrong_length"))
    onnx.save(model, path)


def test_what_pe_export_did_not_make_is_pointed_at(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "resnet" / "1").mkdir(parents=True)
    (repository / TEXT / "1" / "parity.json").write_text("{}")
    status, said = check(repository, capsys)
    assert status == 1
    assert "no certificate" in said["resnet"]
    assert "was not written by this version of pe-export: export the model again" in said[f"{TEXT}/1"]


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("config.pbtxt", b"\xff\xfe\0name", "config.pbtxt is not a Triton configuration"),
        ("config.pbtxt", b"", "config.pbtxt is missing or empty: the command of the export writes it again"),
        ("config.pbtxt", None, "config.pbtxt is missing or empty: the command of the export writes it again"),
        ("1/parity.json", b"\xff\xfe\0", "was not written by this version of pe-export: export the model again"),
        ("1/parity.json", b"[" * 100_000, "was not written by this version of pe-export: export the model again"),
        ("1/parity.json", None, "no certificate: pe-export did not make version 1"),
    ],
)
def test_a_damaged_file_is_one_readable_line(
    repository: Path, capsys: pytest.CaptureFixture[str], file: str, content: bytes | None, problem: str
) -> None:
    path = repository / TEXT / file
    path.unlink() if content is None else path.write_bytes(content)
    status, said = check(repository, capsys)
    assert status == 1
    [found] = [line for name, line in said.items() if name.startswith(TEXT)]
    assert problem in found
    assert found.isprintable()
    assert said["PE-Demo-T8-64-vision/1"].startswith("ok")


def test_answers_that_were_cut_before_they_were_hashed_are_found(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, certificate = (repository / TEXT / "1" / name for name in ("parity.npz", "parity.json"))
    digest = sha256_of(answers)
    answers.write_bytes(answers.read_bytes()[:1000])
    certificate.write_text(certificate.read_text().replace(digest, sha256_of(answers)))
    assert check(repository, capsys)[1][f"{TEXT}/1"].startswith(f"FAILED  {answers} cannot be read: ")


def test_a_model_without_a_version_is_pointed_at(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "PE-Core-B16-224-vision").mkdir()
    assert check(repository, capsys)[1]["PE-Core-B16-224-vision"] == "FAILED  no certificate: it has no version"


def test_a_model_moved_under_another_name_is_found(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / TEXT).rename(repository / "mine")
    status, said = check(repository, capsys)
    assert status == 1
    assert said["mine/1"] == f"FAILED  the directory contains another model, {TEXT}"


def test_a_repository_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--repository", str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err == (
        f"pe-export: there is no model repository at {tmp_path / 'absent'}: export a model to it, or name another with "
        "--repository\n"
    )
