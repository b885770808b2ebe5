"""Turn an FP16 graph into the BF16 graph that the exporter would write, because tracing a tower takes long.

`test_typed_towers.py` compares the two.
"""

from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper


def as_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace every FP16 type and value in place. The model's external weights must be in memory."""
    graph = model.graph
    for tensor in (*graph.initializer, *_constants(graph)):
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32).astype(ml_dtypes.bfloat16)
            tensor.CopyFrom(
                onnx.TensorProto(
                    name=tensor.name, data_type=TensorProto.BFLOAT16, dims=tensor.dims, raw_data=values.tobytes()
                )
            )
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
    return model


def write_as_bf16(graph: Path, path: Path) -> Path:
    """Read an FP16 graph with its weights, and write the BF16 graph with weights in `path`.data."""
    model = as_bf16(onnx.load(graph))
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
    return path


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
