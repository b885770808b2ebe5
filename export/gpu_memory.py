"""Compute the GPU memory that a tower needs in onnxruntime, from its sizes.

It is computed, and not measured on a GPU: the weights, and the tensors that are alive at the same time in the block
that needs the most. A test runs the demo on a CPU in an arena of that size. The arena for CUDA is the same code
(onnxruntime/core/framework/bfc_arena.h).
"""

from dataclasses import dataclass
from typing import Final

from export.architectures import ARCHITECTURES
from export.graph.spec import Precision
from export.variants import Tower, Variant

WEIGHT_BYTES: Final = {"fp32": 4, "fp16": 2, "bf16": 2}
_STREAM_BYTES: Final = 4  # The residual stream is FP32 in every precision (export/graph/typed_towers.py).
_WORKSPACE_BYTES: Final = 2**30
_STEP_BYTES: Final = 2**28


@dataclass(frozen=True)
class GpuMemory:
    """Bytes of GPU memory for one instance of a tower."""

    weights: int
    activations: int
    """Tensors alive at the same time in the largest batch, with attention as one kernel that stores no scores."""
    scores: int
    """Scores and probabilities of one attention. Only an attention of separate kernels stores them."""

    @property
    def used(self) -> int:
        """Weights and activations, for sizing."""
        return self.weights + self.activations

    @property
    def arena(self) -> int:
        """What onnxruntime's arena may need for its tensors, whatever the order of batch sizes after the largest.

        The arena keeps what it has allocated, and cannot always fill a gap with a tensor of another size.
        """
        return self.weights + 3 * (self.activations + self.scores)

    @property
    def limit(self) -> int:
        """A limit for the arena: 1 GiB more, for the workspaces of kernels, in steps of 256 MiB.

        A batch fails if the arena needs more. The limit stops a leak, and leaves the rest of the GPU to other models.
        """
        return -(-(self.arena + _WORKSPACE_BYTES) // _STEP_BYTES) * _STEP_BYTES


def estimate(variant: Variant, tower: Tower, precision: Precision, batch_size: int) -> GpuMemory:
    """Compute the memory of one instance of a tower for batches of up to `batch_size`."""
    architecture, size = ARCHITECTURES[variant.name], WEIGHT_BYTES[precision]
    if tower == "vision":
        sizes, tokens = architecture.vision, architecture.image_tokens(variant.image_size)
    else:
        sizes, tokens = architecture.text, variant.context_length
    stream = _STREAM_BYTES * sizes.width
    mlp = stream + 2 * size * sizes.mlp_width  # the hidden layer before and after GELU
    # The norm's output; query, key and value; rotated query and key; the attention's output.
    attention = stream + 7 * size * sizes.width
    return GpuMemory(
        weights=size * variant.parameters[tower],
        activations=batch_size * tokens * max(mlp, attention),
        scores=batch_size * sizes.heads * tokens**2 * size * 2,
    )
