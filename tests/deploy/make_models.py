"""Make tests/deploy/models, the smallest models that Triton can serve. Run it with the Python of .venv-export.

The gateway serves Tiny-vision and Tiny-text as a variant. Fragile-text fails on tokens beyond its table. External-text
has its weights in a file beside model.onnx, as graphs over 2 GB require. AnyLength-text takes any number of tokens.
"""
# mypy: ignore-errors
# Only the exporter's environment has onnx.

from pathlib import Path

import onnx
import onnx.numpy_helper
from onnx.parser import parse_model

MODELS = Path(__file__).with_name("models")
HEAD = '<ir_version: 10, opset_import: ["": 21]>'
VISION = f"""{HEAD} vision (uint8[N,8,8,3] image) => (float[N,4] embedding)
<int64[2] axes = {{1, 2}}, float[3,4] weights = {{1,0,0,0.1, 0,1,0,0.2, 0,0,1,0.3}}> {{
  pixels = Cast<to: int = 1>(image)
  mean = ReduceMean<keepdims: int = 0>(pixels, axes)
  projected = MatMul(mean, weights)
  embedding = LpNormalization<axis: int = -1, p: int = 2>(projected)
}}"""
TEXT = f"""{HEAD} text (int32[N,6] tokens) => (float[N,4] embedding)
<int32 rows = {{5}}, int64[1] axes = {{1}}, float[5,4] table = {{1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1, 1,1,0,0}}> {{
  rest = Mod(tokens, rows)
  looked_up = Gather(table, rest)
  mean = ReduceMean<keepdims: int = 0>(looked_up, axes)
  embedding = LpNormalization<axis: int = -1, p: int = 2>(mean)
}}"""
CONFIG = """name: "{name}"
backend: "onnxruntime"
max_batch_size: 8
input [ {{ name: "{input}" data_type: {dtype} dims: [ {dims} ] }} ]
output [ {{ name: "embedding" data_type: TYPE_FP32 dims: [ 4 ] }} ]
instance_group [ {{ count: 1 }} ]
dynamic_batching {{ max_queue_delay_microseconds: 1000 }}
"""


def main() -> None:
    fragile = TEXT.replace("Mod(tokens, rows)", "Identity(tokens)")
    for name, graph, takes in (
        ("Tiny-vision", VISION, ("image", "TYPE_UINT8", "8, 8, 3")),
        ("Tiny-text", TEXT, ("tokens", "TYPE_INT32", "6")),
        ("Fragile-text", fragile, ("tokens", "TYPE_INT32", "6")),
        ("External-text", TEXT, ("tokens", "TYPE_INT32", "6")),
        ("AnyLength-text", TEXT.replace("[N,6]", "[N,L]"), ("tokens", "TYPE_INT32", "-1")),
    ):
        version = MODELS / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        config = CONFIG.format(name=name, input=takes[0], dtype=takes[1], dims=takes[2])
        (MODELS / name / "config.pbtxt").write_text(config)
        model = parse_model(graph)
        onnx.checker.check_model(model, full_check=True)
        for tensor in model.graph.initializer:  # only raw bytes can be moved to a separate file
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
        beside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 64}
        onnx.save(model, version / "model.onnx", **(beside if name == "External-text" else {}))


if __name__ == "__main__":
    main()
