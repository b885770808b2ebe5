from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export.engines import ENGINES
from export.graph.spec import Precision
from export.repository.config_pbtxt import to_text
from export.repository.triton_config import describe
from export.variants import find_variant

VARIANT = find_variant("PE-Core-L14-336")


def parsed(tower: str, engine: str = "onnx", precision: Precision = "fp32", **parameters: str) -> pb.ModelConfig:
    model = describe(
        VARIANT,
        "vision" if tower == "vision" else "text",
        ENGINES[engine],
        precision,
        file="the.plan" if engine == "tensorrt" else "model.onnx",
        max_batch_size=32,
        parameters=parameters,
    )
    return text_format.Parse(to_text(model), pb.ModelConfig())


def test_vision_takes_uint8_pixels_and_gives_a_unit_embedding() -> None:
    config = parsed("vision")
    assert config.name == "PE-Core-L14-336-vision"
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 32
    [image] = config.input
    assert (image.name, image.data_type, list(image.dims)) == ("image", pb.TYPE_UINT8, [336, 336, 3])
    [embedding] = config.output
    assert (embedding.name, embedding.data_type, list(embedding.dims)) == ("embedding", pb.TYPE_FP32, [1024])


def test_text_takes_int32_tokens() -> None:
    config = parsed("text")
    assert config.name == "PE-Core-L14-336-text"
    [tokens] = config.input
    assert (tokens.name, tokens.data_type, list(tokens.dims)) == ("tokens", pb.TYPE_INT32, [32])


def test_batches_form_without_a_queue_policy() -> None:
    assert parsed("vision").HasField("dynamic_batching")
    batching = parsed("vision").dynamic_batching
    assert batching.max_queue_delay_microseconds == 0
    assert not batching.HasField("default_queue_policy")
    assert not batching.priority_levels
    assert not batching.preferred_batch_size


def test_nothing_ties_the_model_to_a_device() -> None:
    for tower in ("vision", "text"):
        config = parsed(tower)
        assert [(group.count, group.kind) for group in config.instance_group] == [(1, 0)]  # KIND_AUTO
        assert not config.HasField("version_policy")


def test_only_texts_may_come_from_the_servers_cache() -> None:
    assert parsed("text").response_cache.enable
    assert not parsed("vision").HasField("response_cache")


def test_a_model_has_inferred_once_before_it_is_ready() -> None:
    warm_up, full = parsed("text").model_warmup
    assert (warm_up.batch_size, full.batch_size) == (1, 32)
    tokens = warm_up.inputs["tokens"]
    assert (tokens.data_type, list(tokens.dims), tokens.zero_data) == (pb.TYPE_INT32, [32], True)
    warm_up, full = parsed("vision").model_warmup
    assert (warm_up.batch_size, full.batch_size) == (1, 32)
    assert list(warm_up.inputs["image"].dims) == [336, 336, 3]


def test_parameters_survive_any_character() -> None:
    notice = 'It\'s "quoted", a \\ and ünï↯\nnew line }'
    assert parsed("vision", notice=notice).parameters["notice"].string_value == notice


def test_openvino_is_told_file_device_and_precision() -> None:
    config = parsed("vision", engine="openvino", precision="bf16", variant="PE-Core-L14-336")
    assert config.backend == "openvino"
    assert config.default_model_filename == "model.onnx"
    [group] = config.instance_group
    assert (group.kind, group.count) == (pb.ModelInstanceGroup.KIND_CPU, 2)
    assert config.parameters["HINT_BF16"].string_value == "YES"
    assert config.parameters["variant"].string_value == "PE-Core-L14-336"
    assert "HINT_BF16" not in parsed("vision", engine="openvino", precision="fp32").parameters


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


def test_onnx_has_nothing_of_cuda() -> None:
    config = parsed("vision")
    assert not config.HasField("optimization")
    assert not config.default_model_filename
