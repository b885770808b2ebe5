from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from deploy.embedded.warm_up import smallest_alone

REPOSITORY = Path(__file__).parents[3] / "model_repository"


@pytest.mark.parametrize("model", ["PE-Demo-T8-64-vision", "PE-Demo-T8-64-text"])
def test_a_full_batch_is_left_out_and_nothing_else(model: str) -> None:
    config = (REPOSITORY / model / "config.pbtxt").read_bytes()
    exported = text_format.Parse(config, pb.ModelConfig())
    assert [entry.batch_size for entry in exported.model_warmup] == [1, 64]
    shown = text_format.Parse(smallest_alone(config), pb.ModelConfig())
    del exported.model_warmup[1]
    assert shown == exported


@pytest.mark.parametrize(
    "config", [b"", b'name: "a"\n', b"model_warmup { batch_size: 8 }\n", b"model_warmup {\n  batch_size: 8\n}\n"]
)
def test_what_has_but_one_or_is_written_otherwise_stays(config: bytes) -> None:
    assert smallest_alone(config) == config
