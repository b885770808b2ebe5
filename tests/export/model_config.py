"""Make configurations of an L14-336 without exporting it, and parse them with Triton's own protobuf."""

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
