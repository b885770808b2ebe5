"""What can serve a graph, in one table: Triton's backend, the file it looks for, and what it is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Precision = Literal["fp32", "fp16", "bf16"]
AttentionForm = Literal["fused", "elementary"]


@dataclass(frozen=True)
class Engine:
    """One row."""

    name: str
    backend: str
    """The name of Triton's backend."""
    file: str
    """What that backend loads from a version directory."""
    attention: AttentionForm
    """See `attention`."""
    precisions: tuple[Precision, ...]
    """What it can be exported in; the first is the default."""


_ROWS = (
    Engine(
        name="onnx", backend="onnxruntime", file="model.onnx", attention="fused", precisions=("fp32", "fp16", "bf16")
    ),
)

ENGINES: Mapping[str, Engine] = MappingProxyType({row.name: row for row in _ROWS})
