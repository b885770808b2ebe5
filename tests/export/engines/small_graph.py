"""An ONNX graph that TensorRT compiles in a moment."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 64
LAYERS = 8


def small_graph(path: Path, operator: str = "Relu") -> Path:
    """Write products of FP16 matrices, each followed by `operator`."""
    weight = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float16)
    nodes, previous = [], "x"
    for layer in range(LAYERS):
        nodes += [
            helper.make_node("MatMul", [previous, "weight"], [f"product{layer}"], f"matmul_{layer}"),
            helper.make_node(operator, [f"product{layer}"], [f"y{layer}"], f"activation_{layer}"),
        ]
        previous = f"y{layer}"
    shape: list[str | int | None] = ["batch", WIDTH]
    described = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, shape)],
        [helper.make_tensor_value_info(previous, TensorProto.FLOAT16, shape)],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(described, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path
