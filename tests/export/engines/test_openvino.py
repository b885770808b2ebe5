from pathlib import Path

import pytest
from tritonclient.grpc import model_config_pb2 as pb

from export.engines.openvino import OpenVinoEngine, openvino_model
from export.errors import ParityError
from tests.export.model_config import parsed

pytestmark = pytest.mark.export


def test_the_graph_is_fp32_whatever_openvino_computes_in() -> None:
    assert OpenVinoEngine().graph_precision("bf16") == "fp32"


def test_bf16_is_proven_only_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")
    capabilities: list[str] = ["FP32"]
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: capabilities)
    engine = OpenVinoEngine()
    assert engine.runtime("bf16") is None
    assert engine.missing_runtime("bf16").startswith("this CPU has no bf16: ")
    assert engine.runtime("fp32") is not None
    capabilities.append("BF16")
    runtime = engine.runtime("bf16")
    assert runtime is not None
    assert runtime.description.endswith(" CPU bf16")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert OpenVinoEngine().runtime("fp32") is None
    assert "the openvino package is not installed" in OpenVinoEngine().missing_runtime("fp32")


def test_a_file_that_openvino_refuses_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ParityError, match=r"OpenVINO cannot run model\.onnx") as raised, openvino_model(path, "fp32"):
        pass
    assert "\n" not in str(raised.value)


def test_openvino_is_told_file_device_and_precision() -> None:
    config = parsed("vision", engine="openvino", precision="bf16", variant="PE-Core-L14-336")
    assert config.backend == "openvino"
    assert config.default_model_filename == "model.onnx"
    [group] = config.instance_group
    assert (group.kind, group.count) == (pb.ModelInstanceGroup.KIND_CPU, 2)
    assert config.parameters["HINT_BF16"].string_value == "YES"
    assert config.parameters["variant"].string_value == "PE-Core-L14-336"
    assert "HINT_BF16" not in parsed("vision", engine="openvino", precision="fp32").parameters
