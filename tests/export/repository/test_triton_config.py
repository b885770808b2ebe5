from tritonclient.grpc import model_config_pb2 as pb

from tests.export.model_config import parsed


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
    assert (tokens.name, tokens.data_type, list(tokens.dims)) == ("tokens", pb.TYPE_INT32, [-1])


def test_batches_form_without_a_queue_policy() -> None:
    assert parsed("vision").HasField("dynamic_batching")
    batching = parsed("vision").dynamic_batching
    assert batching.max_queue_delay_microseconds == 0
    assert not batching.HasField("default_queue_policy")
    assert not batching.priority_levels
    assert not batching.preferred_batch_size


def test_only_texts_may_come_from_the_servers_cache() -> None:
    assert parsed("text").response_cache.enable
    assert not parsed("vision").HasField("response_cache")


def test_a_model_has_inferred_once_before_it_is_ready() -> None:
    warm_ups = parsed("text").model_warmup
    assert {warm_up.inputs["tokens"].data_type for warm_up in warm_ups} == {pb.TYPE_INT32}
    assert all(warm_up.inputs["tokens"].zero_data for warm_up in warm_ups)
    lengths = [(warm_up.batch_size, *warm_up.inputs["tokens"].dims) for warm_up in warm_ups]
    assert lengths == [(size, length) for size in (1, 32) for length in (8, 16, 24, 32)]
    assert len({warm_up.name for warm_up in warm_ups}) == 8
    warm_up, full = parsed("vision").model_warmup
    assert (warm_up.batch_size, full.batch_size) == (1, 32)
    assert list(warm_up.inputs["image"].dims) == [336, 336, 3]


def test_parameters_survive_any_character() -> None:
    notice = 'It\'s "quoted", a \\ and ünï↯\nnew line }'
    assert parsed("vision", notice=notice).parameters["notice"].string_value == notice
