import importlib.util
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tritonclient.grpc import model_config_pb2 as pb

from export import preflight
from export.engines import tensorrt
from export.engines.engine import BuildRequest
from export.engines.tensorrt import TensorRtEngine
from export.errors import TargetError
from export.files import sha256_of
from export.preflight import Gpu
from export.progress import Progress
from tests.export.engines.small_graph import small_graph
from tests.export.model_config import parsed

pytestmark = pytest.mark.export

RTX = importlib.import_module("tensorrt_rtx_bindings")


def test_without_a_gpu_or_tensorrt_there_is_no_target_and_no_runtime() -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    with pytest.raises(TargetError):
        TensorRtEngine().target(8)
    assert TensorRtEngine().runtime("fp16") is None
    assert "no GPU or no TensorRT" in TensorRtEngine().missing_runtime("fp16")


@pytest.mark.parametrize(
    ("driver", "said"), [("", "There is no NVIDIA driver"), ("12.8", r"The driver supports CUDA 12\.8")]
)
def test_without_a_gpu_it_says_why_and_where_to_go(monkeypatch: pytest.MonkeyPatch, driver: str, said: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, and torch says nothing against it")
    monkeypatch.setattr(preflight, "driver_cuda_version", lambda: driver)
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        reason = re.escape(str(error).split(". ")[0])
    with pytest.raises(TargetError, match=f"{said}, torch has CUDA .*, and torch says: {reason}.* inside the serving"):
        TensorRtEngine().target(8)


def test_the_code_that_builds_plans_is_in_the_digest() -> None:
    sources = {path.stem for path in Path(tensorrt.__file__).parent.glob("tensorrt_*.py")}
    # `tensorrt_library` decides no content of a plan.
    assert set(TensorRtEngine.sources) == {f"export.engines.{name}" for name in sources - {"tensorrt_library"}}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """A machine with two GPUs as the driver describes them, and TensorRT for RTX in place of TensorRT."""
    gpus = [Gpu("NVIDIA L40S", "89", 142, 47_697_362_944), Gpu("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "90", 16, 10**10)]
    monkeypatch.setattr(preflight, "gpus", lambda: tuple(gpus))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(tensorrt, "load_library", lambda: RTX)
    return gpus


def test_the_target_names_library_and_device_and_preflight_reads_it(gpus: list[Gpu], tmp_path: Path) -> None:
    target = TensorRtEngine().target(32)
    version = RTX.__version__
    assert target == f"tensorrt {version} sm90 batch 32 on NVIDIA H100 80GB HBM3 MIG 1g.10gb, 16 SMs, 9 GiB"
    runtime = TensorRtEngine().runtime("fp16")
    assert runtime is not None
    assert runtime.description == f"tensorrt {version} on NVIDIA H100 80GB HBM3 MIG 1g.10gb, 16 SMs, 9 GiB"
    version_directory = tmp_path / "V-vision" / "1"
    version_directory.mkdir(parents=True)
    (tmp_path / "V-vision" / "config.pbtxt").write_text('backend: "tensorrt"')
    certificate = {"inputs": {"target": target}, "files": {}, "command": "pe-export V"}
    (version_directory / "parity.json").write_text(json.dumps(certificate))
    same = preflight.Machine(version, (gpus[1],))
    assert not [*preflight.misfits(tmp_path, same), *preflight.cautions(tmp_path, same)]
    assert (
        len(list(preflight.cautions(tmp_path, preflight.Machine(version, (replace(gpus[1], multiprocessors=14),)))))
        == 1
    )
    assert len(list(preflight.misfits(tmp_path, preflight.Machine("1.2.3.4", (gpus[1],))))) == 1


def test_a_gpu_that_the_driver_does_not_describe_is_an_error(gpus: list[Gpu]) -> None:
    gpus.clear()
    with pytest.raises(TargetError, match="driver does not describe GPU 1"):
        TensorRtEngine().target(32)


def test_a_library_without_a_version_gives_no_target(gpus: list[Gpu], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda path: object())
    with pytest.raises(TargetError, match="reports no version"):
        TensorRtEngine().target(32)


@pytest.mark.slow
def test_a_plan_is_built_for_all_batches_and_named_for_its_machine(
    gpus: list[Gpu], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = small_graph(tmp_path / "model.onnx")
    output = tmp_path / "1"
    output.mkdir()
    target = TensorRtEngine().target(32)
    request = BuildRequest(
        tower="text",
        graph=file,
        files=(file,),
        output=output,
        input_name="x",
        input_shapes=((64,),),
        max_batch_size=32,
        target=target,
    )
    stream = io.StringIO()
    built, kernels = TensorRtEngine().build(request, Progress(stream))
    version = RTX.__version__
    assert built.name == f"tensorrt-{version}-sm90-batch-32-{sha256_of(file)[:12]}.plan"
    assert {path.name for path in output.iterdir()} == {built.name, kernels.name}
    assert json.loads(kernels.read_text())["kernels"]["fp32_products"] == 0
    assert stream.getvalue().endswith(f"{target}\n")
    [timings] = (tmp_path / "cache").rglob("*.timings")
    device = "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb,-16-SMs,-9-GiB"
    assert timings.name == f"tensorrt-{version}-sm90-on-{device}.timings"


def test_a_plan_is_named_and_gets_cuda_graphs_and_a_warm_up_of_one_and_full_batches() -> None:
    config = parsed("vision", engine="tensorrt")
    assert config.backend == "tensorrt"
    assert config.default_model_filename == "the.plan"
    [group] = config.instance_group
    assert (group.kind, group.count) == (pb.ModelInstanceGroup.KIND_GPU, 2)
    cuda = config.optimization.cuda
    assert cuda.graphs
    assert cuda.output_copy_stream
    assert [spec.batch_size for spec in cuda.graph_spec] == [1, 2, 4, 8, 32]
    assert [warm_up.batch_size for warm_up in config.model_warmup] == [1, 32]
    assert not config.HasField("response_cache")


def test_cuda_graphs_are_captured_for_each_token_length() -> None:
    specs = parsed("text", engine="tensorrt").optimization.cuda.graph_spec
    captured = [(spec.batch_size, *spec.input["tokens"].dim) for spec in specs]
    assert captured == [(size, length) for size in (1, 2, 4, 8, 32) for length in (8, 16, 24, 32)]
