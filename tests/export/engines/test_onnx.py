import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import gpu_memory
from export.engines.onnx import OnnxEngine, onnxruntime_session
from export.errors import ParityError
from tests.export.model_config import VARIANT, parsed

pytestmark = pytest.mark.export

TOKENS = np.zeros((1, 32), np.int32)


def test_a_file_that_the_runtime_refuses_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with (
        pytest.raises(ParityError, match=r"onnxruntime cannot run model\.onnx") as raised,
        onnxruntime_session(path),
    ):
        pass
    assert "\n" not in str(raised.value)


def test_an_input_that_the_graph_refuses_is_one_line(exported: Path) -> None:
    path = exported / "PE-Demo-T8-64-text" / "1" / "model.onnx"
    with pytest.raises(ParityError, match="onnxruntime cannot run"), onnxruntime_session(path) as embed:
        embed(TOKENS.astype(np.int64))


def test_other_errors_pass_unchanged(exported: Path) -> None:
    path = exported / "PE-Demo-T8-64-text" / "1" / "model.onnx"
    with pytest.raises(ZeroDivisionError), onnxruntime_session(path):
        _ = 1 / 0


def test_nothing_ties_the_model_to_a_device() -> None:
    for tower in ("vision", "text"):
        config = parsed(tower)
        assert [(group.count, group.kind) for group in config.instance_group] == [(1, 0)]  # KIND_AUTO
        assert not config.HasField("version_policy")


def test_triton_gets_cuda_options_where_it_keeps_them() -> None:
    """Triton's backend resets `gpu_mem_limit` and `arena_extend_strategy` of an execution accelerator."""
    for tower in ("vision", "text"):
        config = parsed(tower, precision="fp16")
        assert not config.HasField("optimization")
        assert not config.default_model_filename
        assert config.parameters["arena_extend_strategy"].string_value == "1"
        memory = gpu_memory.estimate(VARIANT, "vision" if tower == "vision" else "text", "fp16", 32)
        assert int(config.parameters["gpu_mem_limit"].string_value) == memory.limit


def test_bf16_cannot_be_proven_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    engine = OnnxEngine()
    assert engine.runtime("bf16") is None
    assert engine.missing_runtime("bf16").startswith("onnxruntime has no bf16 on a CPU: ")
    runtime = engine.runtime("fp32")
    assert runtime is not None
    assert runtime.description.endswith("CPUExecutionProvider")


@pytest.mark.parametrize(("told", "kept"), [(None, "1"), ("0", "0")])
def test_onnxruntime_keeps_no_telemetry_unless_told(told: str | None, kept: str) -> None:
    """onnxruntime reads the variable when it is imported. Whether it then writes a file depends on the machine."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    if told is not None:
        environment["ORT_DISABLE_TELEMETRY"] = told
    code = "import os, export.engines.onnx; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    process = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert process.stdout.strip() == kept
