"""What the graph's operators look like: two forms of the same mathematics, chosen by what a runtime documents.

    fused        onnxruntime's own operators (docs/ContribOperators.md), on the CPU and CUDA; OpenVINO reads them too.
                 MultiHeadAttention is flash attention: on CUDA for FP16 since release 1.16, BF16 since 1.24, on the CPU
                 for FP32 since 1.19. RotaryEmbedding and SkipLayerNormalization spare a GPU most of the passes over
                 memory that a block takes besides its matrix products
    elementary   MatMul, Softmax, Mul, Add, LayerNormalization: every parser knows them, and TensorRT fuses them

onnx's own `Attention` (opset 23) is not used: onnxruntime has had it on CUDA only since 1.24, and there refuses to be
told the precision of its softmax.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.graph.spec import GraphForm

# CUDA's RotaryEmbedding starts a block of threads for each head of each token (contrib_ops/cuda/bert/
# rotary_embedding_impl.cu), and takes up to 1,024 numbers, a block's threads, for a head. Heads of 64 took an H100
# 180 us for 38 MB, which its memory moves there and back in 27. Fewer blocks should be faster; not measured since.
_ROTARY_WIDTH = 1024


class Form(Protocol):
    """The operators that have more than one form."""

    halves: bool
    """Whether `rotate` finds a head's real parts first and its imaginary ones after them; else they are neighbours."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> Tensor:
        """softmax(q k^T / sqrt(d)) v: query [N, S, W], key and value [N, T, W] -> [N, S, W]."""

    def rotary_table(self, cosine: Tensor, sine: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        """What `rotate` takes, made of FP32 [S, d / 2] for heads of d numbers."""

    def rotate(self, x: Tensor, table: Tensor) -> Tensor:
        """x [N, S, W] in `dtype` -> the same, each head's pairs turned by their token's angles."""

    def add_norm(self, x: Tensor, inputs: Tensor, linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        """x FP32 [N, S, W], inputs [N, S, V] -> x + linear(inputs), and the norm of that, both FP32."""


def _by_head(x: Tensor, heads: int) -> Tensor:
    """[N, S, W] -> [N, S, heads, d]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


class Elementary:
    """What every parser knows, and torch can run."""

    halves = True

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> Tensor:
        # The softmax is in FP32.
        def split(x: Tensor) -> Tensor:
            return _by_head(x, heads).transpose(1, 2)

        q, k, v = split(query), split(key), split(value)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = scores.float()
        if causal:
            scores = scores + torch.full(scores.shape[-2:], -torch.inf, device=scores.device).triu(1)
        attended: Tensor = scores.softmax(-1).to(v.dtype) @ v
        return attended.transpose(1, 2).flatten(-2)

    def rotary_table(self, cosine: Tensor, sine: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        # [2, S, 1, d], in FP32 whatever x is
        return torch.stack((cosine, sine)).repeat(1, 1, 2).unsqueeze(2)

    def rotate(self, x: Tensor, table: Tensor) -> Tensor:
        cosine, sine = table.unbind(0)
        heads = _by_head(x, x.shape[-1] // table.shape[-1])
        real, imaginary = heads.chunk(2, dim=-1)
        rotated = heads * cosine + torch.cat((-imaginary, real), dim=-1) * sine
        return rotated.flatten(-2).to(x.dtype)

    def add_norm(self, x: Tensor, inputs: Tensor, linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        x = x + linear(inputs).float()
        return x, norm(x)


class Fused:
    """What onnxruntime has in one; it can be exported, not run by torch."""

    halves = False

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> Tensor:
        return _operator("MultiHeadAttention", query, key, value, num_heads=heads, unidirectional=int(causal))

    def rotary_table(self, cosine: Tensor, sine: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        # [2, S, width / 2]: as many heads together as may count as one, for pairs that are neighbours stay neighbours
        fitting = _ROTARY_WIDTH // (2 * cosine.shape[-1])
        together = max(n for n in range(1, heads + 1) if heads % n == 0 and n <= max(1, fitting))
        return torch.stack((cosine, sine)).repeat(1, 1, together).to(dtype)

    def rotate(self, x: Tensor, table: Tensor) -> Tensor:
        cosine, sine = table.unbind(0)
        # Written out for each input: onnxruntime would take the number of the first alone, but OpenVINO (2026.4) then
        # turns all tokens like the first.
        positions = torch.arange(x.shape[1]).expand(x.shape[0], -1)
        count = x.shape[-1] // (2 * table.shape[-1])
        return _operator("RotaryEmbedding", x, positions, cosine, sine, num_heads=count, interleaved=1)

    def add_norm(self, x: Tensor, inputs: Tensor, linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        # The bias is added by the same operator as the sum, and in FP32: one pass less.
        change = F.linear(inputs, linear.weight).float()
        normed, _, _, total = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::SkipLayerNormalization",
            (change, x, norm.weight, norm.bias, linear.bias.float()),
            {"epsilon": norm.eps},
            dtypes=(torch.float32,) * 4,
            shapes=(x.shape, (*x.shape[:-1], 1), (*x.shape[:-1], 1), x.shape),
            version=1,
        )
        return total, normed


def _operator(name: str, x: Tensor, *others: Tensor, **attributes: Any) -> Tensor:
    """One of onnxruntime's operators, whose result is like its first input."""
    result: Tensor = torch.onnx.ops.symbolic(
        f"com.microsoft::{name}", (x, *others), attributes, dtype=x.dtype, shape=x.shape, version=1
    )
    return result


FORMS: Mapping[GraphForm, Form] = {"fused": Fused(), "elementary": Elementary()}
