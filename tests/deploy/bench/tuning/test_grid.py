"""The settings that a sweep tries, and what they change in a configuration."""

from tritonclient.grpc import model_config_pb2

from deploy.bench.tuning.grid import Setting, current, grid


def test_the_present_setting_comes_first_and_once() -> None:
    now = Setting(1, 16, 0)
    settings = list(grid(now, [1, 2], [8, 16], [0, 500]))
    assert settings[0] == now
    assert len(settings) == len(set(settings)) == 8


def test_larger_batches_than_now_are_left_out() -> None:
    assert [s.max_batch_size for s in grid(Setting(1, 8, 0), [1], [4, 8, 16], [0])] == [8, 4]


def test_a_setting_is_what_current_reads() -> None:
    config = model_config_pb2.ModelConfig(max_batch_size=64)
    assert current(config) == Setting(1, 64, 0)
    for setting in (Setting(2, 8, 500), Setting(1, 64, 0)):
        setting.apply(config)
        assert current(config) == setting


def test_what_needs_larger_batches_is_removed() -> None:
    config = model_config_pb2.ModelConfig(max_batch_size=64)
    config.dynamic_batching.preferred_batch_size.append(64)
    config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_GPU)
    for size in (1, 8, 64):
        config.model_warmup.add(name=str(size), batch_size=size)
        config.optimization.cuda.graph_spec.add(batch_size=size)
    Setting(2, 8, 0).apply(config)
    assert [entry.batch_size for entry in config.model_warmup] == [1, 8]
    assert [entry.batch_size for entry in config.optimization.cuda.graph_spec] == [1, 8]
    assert not config.dynamic_batching.preferred_batch_size
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
