"""Export a tower to an ONNX file with named tensors and dynamic axes, verified by onnx's own checker.

Every supported runtime documents `OPSET`: onnxruntime since 1.17 (its compatibility table), which Triton 24.02 and
later and the embedded server contain, and TensorRT's parser since 10. `forms` describes operators outside the opset.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
import onnx_ir
import torch
from torch import Tensor, nn

from export.errors import GraphError

OPSET: Final = 20
OUTPUT: Final = "embedding"

# A protobuf file cannot exceed 2 GB. This limit is lower, because saving to one file copies the weights in memory.
_EXTERNAL_DATA_ABOVE_BYTES: Final = 256 * 2**20


@dataclass(frozen=True)
class OnnxGraph:
    """An exported graph."""

    path: Path
    files: tuple[Path, ...]
    """The graph, then its weights file if there is one. All files are in one directory."""

    @property
    def size(self) -> int:
        """Size of all files, in bytes."""
        return sum(file.stat().st_size for file in self.files)


def export_graph(tower: nn.Module, input_name: str, example: Tensor, path: Path) -> OnnxGraph:
    """Write a tower as an ONNX graph, and large weights as `path`.data beside it.

    Args:
        tower: the module to trace.
        input_name: name of the graph's input. The output is always `embedding`.
        example: an input [N, ...] with N >= 2: image uint8 [N, H, W, 3] or tokens int32 [N, L]. The batch axis is
            dynamic. So is the axis of tokens, up to the example's length.
        path: the file to write.

    Raises:
        GraphError: torch cannot trace the tower, or onnx's checker refuses the graph.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The warnings are about torch's own code. The caller cannot act on them.
            program = torch.onnx.export(
                tower,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[input_name],
                dynamic_shapes=(_dynamic_axes(example),),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise GraphError(f"torch could not export the tower: {str(error).splitlines()[0]}") from error
    assert program is not None  # The result is None only without dynamo.
    model = program.model
    _name_output(model)
    _strip_provenance(model)
    data = path.with_name(path.name + ".data")
    weights = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None
    )
    if weights > _EXTERNAL_DATA_ABOVE_BYTES:
        onnx_ir.save(model, path, external_data=data.name)
        graph = OnnxGraph(path, (path, data))
    else:
        onnx_ir.save(model, path)
        graph = OnnxGraph(path, (path,))
    for value in model.graph.initializers.values():
        value.const_value = None  # The exporter's caches keep the model, and so its weights, in memory.
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"onnx's checker refuses {path.name}: {str(error).splitlines()[0]}") from error
    return graph


def _dynamic_axes(example: Tensor) -> dict[int, Any]:
    batch = torch.export.Dim("batch", min=1)
    if example.ndim != 2:
        return {0: batch}
    return {0: batch, 1: torch.export.Dim("tokens", min=2, max=example.shape[1])}


def _name_output(model: onnx_ir.Model) -> None:
    # `output_names` is not used, because torch also names the lookup of the token table "embedding". The two names
    # would collide.
    for node in model.graph:
        for value in node.outputs:
            if value.name == OUTPUT:
                value.name = f"{OUTPUT}_rows"
    model.graph.outputs[0].name = OUTPUT


def _strip_provenance(model: onnx_ir.Model) -> None:
    """Remove the source lines and local paths that torch records on every node."""
    model.doc_string = None
    model.metadata_props.clear()
    model.graph.doc_string = None
    model.graph.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
