import importlib.util

import pytest
from tritonclient.grpc import model_config_pb2 as pb

from export.engines.tensorrt import TensorRtEngine
from export.errors import TargetError
from tests.export.model_config import parsed

pytestmark = pytest.mark.export


def test_without_a_gpu_or_tensorrt_there_is_no_target_and_no_runtime() -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    with pytest.raises(TargetError):
        TensorRtEngine().target(8)
    assert TensorRtEngine().runtime("fp16") is None
    assert "no GPU or no TensorRT" in TensorRtEngine().missing_runtime("fp16")


def test_the_code_that_builds_plans_is_in_the_digest() -> None:
    assert TensorRtEngine.sources == ("export.engines.tensorrt_plan",)


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
