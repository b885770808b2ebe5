import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export import parity
from export.cli import main
from export.engines.onnx import onnxruntime_session
from export.files import sha256_of
from export.parity import torch_reference
from export.samples import samples
from export.variants import TOWERS, find_variant
from export.weights.checkpoint import load_tower, open_checkpoint

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

VARIANT = find_variant("PE-Demo-T8-64")


def config_of(repository: Path, model: str) -> pb.ModelConfig:
    return text_format.Parse((repository / model / "config.pbtxt").read_text(), pb.ModelConfig())


def tree(root: Path) -> dict[str, float]:
    return {str(path.relative_to(root)): path.stat().st_mtime for path in root.rglob("*") if path.is_file()}


def test_each_tower_has_config_graph_and_certificate(exported: Path) -> None:
    assert sorted(tree(exported)) == [
        f"PE-Demo-T8-64-{tower}/{file}"
        for tower in sorted(TOWERS)
        for file in ("1/model.onnx", "1/parity.json", "1/parity.npz", "config.pbtxt")
    ]
    assert [entry.name for entry in exported.parent.iterdir()] == [exported.name]


def test_the_models_embed_as_the_checkpoint_does(exported: Path, random_checkpoint: Path) -> None:
    opened = open_checkpoint(random_checkpoint)
    for tower in TOWERS:
        inputs = samples(VARIANT, tower)
        expected = parity.embed_all(torch_reference(load_tower(VARIANT, tower, opened)), inputs)
        path = exported / VARIANT.model_name(tower) / "1" / "model.onnx"
        with onnxruntime_session(path) as embed:
            np.testing.assert_allclose(parity.embed_all(embed, inputs), expected, atol=1e-5)


def test_parameters_say_what_the_model_is(exported: Path, random_checkpoint: Path) -> None:
    for tower in TOWERS:
        parameters = {k: v.string_value for k, v in config_of(exported, VARIANT.model_name(tower)).parameters.items()}
        assert parameters["variant"] == "PE-Demo-T8-64"
        assert parameters["tower"] == tower
        assert parameters["checkpoint_source"] == "random.safetensors"
        assert parameters["checkpoint_sha256"] == sha256_of(random_checkpoint)
        assert parameters["precision"] == "fp32"
        assert parameters["engine"] == "onnx"
        assert float(parameters["logit_scale"]) == pytest.approx(100)
        assert float(parameters["parity_min_cosine"]) >= 0.99999
        assert float(parameters["parity_max_abs_error"]) < 1e-5
        assert parameters["exporter_version"]
        lengths = (parameters.get("context_length"), parameters.get("token_lengths"))
        assert lengths == {"vision": (None, None), "text": ("32", "8 16 24 32")}[tower]
        assert "not Meta's" in parameters["notice"]


def test_the_certificate_names_and_hashes_every_file(exported: Path) -> None:
    for tower in TOWERS:
        directory = exported / VARIANT.model_name(tower) / "1"
        certificate = json.loads((directory / "parity.json").read_text())
        assert certificate["files"] == {name: sha256_of(directory / name) for name in ("model.onnx", "parity.npz")}
        parts = parity.Answers.read(directory).parts()
        assert certificate["parity"]["samples"] == sum(len(inputs) for inputs, _ in parts)
        assert tuple(certificate["inputs"]["token_lengths"]) == {"vision": (), "text": (8, 16, 24, 32)}[tower]
        assert certificate["parity"]["min_cosine"] >= certificate["min_cosine_required"] == 0.99999
        assert certificate["command"].startswith("pe-export PE-Demo-T8-64 ")


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    """A copy of the repository that a test may change."""
    import shutil

    return Path(shutil.copytree(exported, tmp_path / "models"))


def run(repository: Path, checkpoint: Path, *options: str) -> int:
    return main([VARIANT.name, "--checkpoint", str(checkpoint), "--repository", str(repository), *options])


def test_the_same_inputs_again_change_nothing(
    repository: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(repository)
    assert run(repository, random_checkpoint) == 0
    assert tree(repository) == before
    assert capsys.readouterr().err.count("up to date") == 2


def test_another_batch_size_changes_the_configuration_alone(repository: Path, random_checkpoint: Path) -> None:
    before = tree(repository)
    assert run(repository, random_checkpoint, "--max-batch-size", "3") == 0
    assert {name for name, when in tree(repository).items() if before[name] != when} == {
        f"PE-Demo-T8-64-{tower}/config.pbtxt" for tower in TOWERS
    }
    assert config_of(repository, "PE-Demo-T8-64-vision").max_batch_size == 3


@pytest.mark.usefixtures("replay")
@pytest.mark.parametrize("certificate", ["", '{"inputs": {}}'], ids=["torn", "another release's"])
def test_a_model_without_a_certificate_to_trust_is_exported_anew(
    repository: Path, random_checkpoint: Path, certificate: str
) -> None:
    (repository / "PE-Demo-T8-64-text" / "1" / "parity.json").write_text(certificate)
    assert run(repository, random_checkpoint, "--towers", "text") == 0
    assert (repository / "PE-Demo-T8-64-text" / "2" / "parity.json").is_file()


@pytest.mark.usefixtures("replay")
def test_a_damaged_model_is_replaced_by_a_new_version(repository: Path, random_checkpoint: Path) -> None:
    graph = repository / "PE-Demo-T8-64-text" / "1" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    assert run(repository, random_checkpoint, "--towers", "text") == 0
    assert sorted(path.name for path in (repository / "PE-Demo-T8-64-text").iterdir()) == ["1", "2", "config.pbtxt"]
    assert (repository / "PE-Demo-T8-64-text" / "2" / "model.onnx").is_file()


def test_half_precision_is_half_the_size_and_says_so(
    tmp_path: Path, random_checkpoint: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "models", random_checkpoint, "--precision", "fp16", "--towers", "text") == 0
    half, full = (root / "PE-Demo-T8-64-text" / "1" / "model.onnx" for root in (tmp_path / "models", exported))
    assert half.stat().st_size < 0.55 * full.stat().st_size
    assert config_of(tmp_path / "models", "PE-Demo-T8-64-text").parameters["precision"].string_value == "fp16"
    assert main(["check", "--repository", str(tmp_path / "models")]) == 0
    assert "ok  onnx fp16, minimum cosine" in capsys.readouterr().out


def test_openvino_is_proven_by_openvino_in_bf16(
    tmp_path: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert run(tmp_path / "models", random_checkpoint, "--engine", "openvino") == 1
        assert "this CPU has no bf16: export on one that has (AMX), take --precision fp32" in capsys.readouterr().err
        return
    assert run(tmp_path / "models", random_checkpoint, "--engine", "openvino") == 0
    for tower in TOWERS:
        config = config_of(tmp_path / "models", VARIANT.model_name(tower))
        assert config.backend == "openvino"
        assert config.parameters["precision"].string_value == "bf16"
        assert 0.999 < float(config.parameters["parity_min_cosine"].string_value) < 0.9999999
    assert main(["check", "--repository", str(tmp_path / "models")]) == 0
    assert "ok  openvino bf16, minimum cosine 0.999" in capsys.readouterr().out


def test_tensorrt_without_a_gpu_says_what_it_needs(
    tmp_path: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert run(tmp_path / "models", random_checkpoint, "--engine", "tensorrt") == 1
    error = capsys.readouterr().err
    assert error.startswith("pe-export: torch cannot use an NVIDIA GPU, on which a TensorRT plan is built")
    assert error.count("\n") == 1


def test_an_engine_is_exported_only_in_what_it_has(
    tmp_path: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "models", random_checkpoint, "--engine", "openvino", "--precision", "fp16") == 1
    assert capsys.readouterr().err == (
        "pe-export: the engine openvino does not support fp16: choose --precision from bf16, fp32\n"
    )


@pytest.mark.usefixtures("replay")
def test_what_nothing_here_can_run_is_published_only_when_told(
    tmp_path: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--precision", "bf16", "--towers", "text")
    assert run(tmp_path / "models", random_checkpoint, *options) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "pe-export: no runtime on this machine can check onnx in bf16: onnxruntime has no bf16 on a CPU: export"
    )
    assert error.endswith("or publish it unproven with --unverified\n")
    assert tree(tmp_path) == {}
    assert run(tmp_path / "models", random_checkpoint, *options, "--unverified") == 0
    parameters = config_of(tmp_path / "models", "PE-Demo-T8-64-text").parameters
    assert parameters["parity_min_cosine"].string_value == "unverified"
    certificate = json.loads((tmp_path / "models" / "PE-Demo-T8-64-text" / "1" / "parity.json").read_text())
    assert certificate["parity"] is None
    assert certificate["runtime"] == ""


@pytest.mark.usefixtures("replay")
def test_below_the_tolerance_nothing_is_published(
    tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(parity.MIN_COSINE, "fp32", 1.1)
    assert run(tmp_path / "models", random_checkpoint, "--towers", "text") == 1
    assert "below 1.1 for fp32" in capsys.readouterr().err
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ViT-B-32"], "unknown variant 'ViT-B-32': choose from PE-Core-T16-384"),
        ([], "no weights given for PE-Core-L14-336: download them with --from hub"),
        (["PE-Demo-T8-64", "--from", "hub"], "PE-Demo-T8-64 is not on the hub"),
        (["PE-Core-B16-224", "--checkpoint", "absent.pt"], "no checkpoint file at absent.pt"),
        (["PE-Core-B16-224", "--checkpoint", "."], ". is a directory: name the file in it with --checkpoint FILE"),
        (["PE-Demo-T8-64", "--revision", "main"], "--revision chooses a commit on the hub: add --from hub, or omit"),
        (["lst"], "there is no command or variant 'lst'; did you mean pe-export list?"),
        (["--force", "check"], "put the command first: pe-export check --repository "),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--repository", str(tmp_path / "models")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"pe-export: {message}")
    assert error.count("\n") == 1
    assert not (tmp_path / "models").exists()


def test_the_wrong_checkpoint_leaves_the_repository_alone(
    tmp_path: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    assert main(["PE-Core-T16-384", "--checkpoint", str(random_checkpoint), "--repository", str(models)]) == 1
    assert "random.safetensors is not a PE-Core-T16-384 checkpoint: " in capsys.readouterr().err
    assert tree(tmp_path) == {}


def test_a_repository_that_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").write_text("in the way")
    assert run(tmp_path / "models", random_checkpoint) == 1
    assert "cannot create the repository" in capsys.readouterr().err


def test_an_export_again_needs_space_again(
    exported: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("export.free_space.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    assert run(exported, random_checkpoint) == 0  # Both towers are up to date.
    assert run(exported, random_checkpoint, "--force") == 1
    assert "too little disk space: " in capsys.readouterr().err


def test_what_this_machine_cannot_do_is_said_before_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("export.weights.hub.fetch", lambda *_, **__: pytest.fail("this would be a download"))
    (tmp_path / "file").write_text("in the way")
    for options, message in (
        (("--repository", str(tmp_path / "file")), "cannot create the repository"),
        (("--repository", str(tmp_path / "models"), "--precision", "bf16"), "no runtime on this machine can check"),
    ):
        assert main(["PE-Core-B16-224", "--from", "hub", *options]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.onnx", None])  # A library may write by a handle alone.
def test_a_full_disk_is_one_line(
    tmp_path: Path,
    random_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str | None,
) -> None:
    def full(*_: object, **__: object) -> Callable[..., None]:
        raise OSError(28, os.strerror(28), name)

    monkeypatch.setattr("export.graph.onnx_graph.onnx_ir.save", full)
    assert run(tmp_path / "models", random_checkpoint, "--towers", "text") == 1
    assert capsys.readouterr().err.endswith(f"pe-export: No space left on device ({name or tmp_path / 'models'})\n")
    assert tree(tmp_path) == {}
