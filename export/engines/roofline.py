"""Estimate from a compiler's kernels how long a GPU needs at least. No GPU is needed, and nothing here is measured.

A kernel cannot be faster than its arithmetic at the GPU's rate of matrix products, nor than its bytes at the bandwidth
of the GPU's memory. Its bound is the larger of the two times. The estimate counts matrix products only, reads each
input and writes each output once, and ignores caches and the start of kernels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from export.engines.tensorrt_kernels import Kernel, Role, role_of


@dataclass(frozen=True)
class Gpu:
    """The figures of a GPU that bound a kernel."""

    name: str
    flop_per_second: float
    """Rate of dense matrix products in FP16 and BF16."""
    bytes_per_second: float
    """Bandwidth of the memory."""


# NVIDIA's data sheets: "H100 Tensor Core GPU" (SXM: 1,979 TFLOPS with sparsity, 3.35 TB/s), "L40S" (362.05 TFLOPS,
# 864 GB/s) and "L4 Tensor Core GPU" (242 TFLOPS with sparsity, 300 GB/s). Without sparsity the rate is half as high.
# On an H100 a product of two 8192 x 8192 matrices in FP16 was measured at 663 TFLOP/s (export/README.md).
GPUS: Final = (
    Gpu("H100 SXM", 989.5e12, 3.35e12),
    Gpu("H100 SXM, measured matrix rate", 663e12, 3.35e12),
    Gpu("L40S", 362.05e12, 864e9),
    Gpu("L4", 121e12, 300e9),
)


@dataclass(frozen=True)
class Work:
    """The work of one kernel for one batch."""

    role: Role
    flop: float
    """Floating-point operations of matrix products."""
    bytes: float
    """Bytes of inputs, weights and outputs."""

    def seconds(self, gpu: Gpu) -> float:
        """Return the shortest possible time on `gpu`."""
        return max(self.flop / gpu.flop_per_second, self.bytes / gpu.bytes_per_second)


def work_of(kernels: Sequence[Kernel], operators: Mapping[str, str]) -> list[Work] | None:
    """Estimate the work of each kernel.

    Args:
        kernels: of an engine that was compiled for a single batch size, so that no size depends on the batch.
        operators: the graph's nodes, by name, with their operators.

    Returns:
        None if the size of a tensor is not known.
    """
    found = []
    for kernel in kernels:
        sizes = [tensor.size for tensor in (*kernel.inputs, *kernel.constants, *kernel.outputs)]
        role = role_of(kernel, operators)
        flop = {"product": _product_flop, "attention": _attention_flop}.get(role, _no_flop)(kernel)
        if flop is None or None in sizes:
            return None
        found.append(Work(role, flop, sum(size for size in sizes if size is not None)))
    return found


def _no_flop(kernel: Kernel) -> float:
    return 0.0


def _product_flop(kernel: Kernel) -> float | None:
    """2 M N K of a product [M, K] x [K, N]: the weights have K N elements, and the output has M N."""
    weights = max((tensor.elements or 0 for tensor in kernel.constants if tensor.is_matrix), default=0)
    if not weights or not kernel.outputs:
        return None
    output = max(kernel.outputs, key=lambda tensor: tensor.elements or 0)
    return None if output.elements is None else 2.0 * weights * output.elements / output.shape[-1]


def _attention_flop(kernel: Kernel) -> float | None:
    """2 products of 2 B S T D: query [B, S, D] and key [B, D, T]. A query that is a constant has one token."""
    if len(kernel.inputs) == 3 and all(len(tensor.shape) == 3 for tensor in kernel.inputs):
        tokens = kernel.inputs[0].shape[1]
        keys = kernel.inputs[1].elements
        return None if keys is None else 4.0 * tokens * keys
    keys = kernel.inputs[0].elements if kernel.inputs else None
    return None if keys is None else 4.0 * keys
