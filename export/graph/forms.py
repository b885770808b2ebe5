"""The graph's operators in three forms of the same mathematics. Each engine uses the form that suits its runtime.

    fused        onnxruntime's own operators (docs/ContribOperators.md), for the CPU and CUDA. OpenVINO reads them too.
                 MultiHeadAttention is flash attention: on CUDA in FP16 since release 1.16 and in BF16 since 1.24, on
                 the CPU in FP32 since 1.19. RotaryEmbedding and SkipLayerNormalization avoid most of a block's passes
                 over GPU memory, besides those of the matrix products.
    elementary   MatMul, Softmax, Mul, Add, LayerNormalization, for OpenVINO. Every parser supports them.
    packed       The same operators with one matrix product for query, key and value, for TensorRT. Its compiler then
                 rotates and moves all three in one kernel; of three products it makes three such kernels
                 (`export/engines/README.md`).

onnx's own `Attention` (opset 23) is not used. onnxruntime has this operator on CUDA only since 1.24, and the CUDA
kernel rejects an explicit precision of the softmax.

`Fused` has choices beyond the exported form, for measurements on a GPU (`deploy/bench/gpu`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.graph.spec import GraphForm

# onnxruntime's CUDA kernel for RotaryEmbedding starts one block of threads for each head of each token
# (contrib_ops/cuda/bert/rotary_embedding_impl.cu). A head may have up to 1,024 numbers, the threads of a block. With
# heads of 64 numbers an H100 needed 180 us for 38 MB. Reading and writing 38 MB takes the H100's memory 27 us. Wider
# heads need fewer blocks. The effect on the time is not measured.
_ROTARY_WIDTH = 1024


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Compute attention of heads: query [N, S, heads, d], key and value [N, T, heads, d] -> [N, S, heads * d].

    The query is already multiplied by d^-0.5.
    """
    # The softmax is in FP32, as in the reference under autocast.
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    scores = (q @ k.transpose(-2, -1)).float()
    if mask is not None:
        scores = scores + mask
    attended: Tensor = scores.softmax(-1).to(v.dtype) @ v
    return attended.transpose(1, 2).flatten(-2)


class Form(Protocol):
    """The operators that have more than one form."""

    @property
    def halves_apart(self) -> bool:
        """True if `rotate` expects all real parts of a head before its imaginary parts. False if the two alternate."""

    @property
    def packed(self) -> bool:
        """Whether query, key and value of self-attention are one tensor [N, S, heads * 3 * d], for `attend_packed`."""

    @property
    def half_stream(self) -> bool:
        """Whether `add_norm` takes and returns x in the dtype of the matrix products. Otherwise x is FP32."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None) -> Tensor:
        """Compute softmax(q k^T / sqrt(d) + mask) v: query [N, S, W], key and value [N, T, W] -> [N, S, W].

        Args:
            mask: None, or `causal_mask` of S tokens.
        """

    def attend_packed(self, qkv: Tensor, heads: int, mask: Tensor | None) -> Tensor:
        """Compute attention of [N, S, heads * 3 * d], which holds query, key and value of each head -> [N, S, W]."""

    def rotary_table(self, cosine: Tensor, sine: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        """Build the table for `rotate` from FP32 cosines and sines [S, d / 2], for heads of d numbers."""

    def rotate(self, x: Tensor, table: Tensor) -> Tensor:
        """Rotate the pairs of each head of x [N, S, W] by the angles of their token. Shape and dtype do not change."""

    def add_norm(self, x: Tensor, inputs: Tensor, linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        """Return x + linear(inputs) and its norm, both [N, S, W] in the dtype of x; inputs are [N, S, V]."""

    def activate(self, x: Tensor, linear: nn.Linear, activation: nn.Module) -> Tensor:
        """Return activation(linear(x)), the first half of an MLP."""


def causal_mask(tokens: int) -> Tensor:
    """Make the FP32 mask [S, S] of S tokens: 0 for a token itself and those before it, minus infinity for the others.

    The mask of fewer tokens is its upper left part.
    """
    return torch.full((tokens, tokens), -torch.inf).triu(1)


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Reshape [N, S, W] to [N, S, heads, d]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate pairs, whose real parts are the first half of the last axis and whose imaginary parts are the second."""
    real, imaginary = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-imaginary, real), dim=-1) * sine


@dataclass(frozen=True)
class Elementary:
    """Operators that every parser supports. Torch can run this form."""

    packed: bool = False
    """Whether query, key and value of self-attention are one matrix product."""

    halves_apart = True
    half_stream = False

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None) -> Tensor:
        query, key, value = (_by_head(x, heads) for x in (query, key, value))
        return _attention(query * query.shape[-1] ** -0.5, key, value, mask)

    def attend_packed(self, qkv: Tensor, heads: int, mask: Tensor | None) -> Tensor:
        packed = qkv.reshape(*qkv.shape[:-1], heads, 3, qkv.shape[-1] // (3 * heads))
        # The scale of the query is a factor of the whole tensor, in FP32. Without such an operator between the product
        # and its three parts, TensorRT's compiler moves each part in a kernel of its own.
        scales = torch.tensor([[packed.shape[-1] ** -0.5], [1.0], [1.0]])
        query, key, value = (packed * scales).to(qkv.dtype).unbind(-2)
        return _attention(query, key, value, mask)

    def rotary_table(self, cosine: Tensor, sine: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        # Shape [2, S, 1, d], always FP32, so that the rotation is computed in FP32.
        return torch.stack((cosine, sine)).repeat(1, 1, 2).unsqueeze(2)

    def rotate(self, x: Tensor, table: Tensor) -> Tensor:
        cosine, sine = table.unbind(0)
        heads = _by_head(x, x.shape[-1] // table.shape[-1])
        if self.packed:  # [N, S, heads, 3, d]: query and key rotate, the value does not.
            packed = heads.reshape(*x.shape[:-1], -1, 3, table.shape[-1])
            both, value = packed[..., :2, :], packed[..., 2:, :]
            rotated = _rotated(both, cosine.unsqueeze(-2), sine.unsqueeze(-2)).to(x.dtype)
            return torch.cat((rotated, value), dim=-2).flatten(2)
        return _rotated(heads, cosine, sine).flatten(-2).to(x.dtype)

    def add_norm(self, x: Tensor, inputs: Tensor, linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        x = x + linear(inputs).float()
        return x, norm(x)

    def activate(self, x: Tensor, linear: nn.Linear, activation: nn.Module) -> Tensor:
        activated: Tensor = activation(linear(x))
        return activated


@dataclass(frozen=True)
class Fused:
    """Operators of onnxruntime that replace several elementary ones. Torch can export this form but not run it.

    The defaults are the form that is exported. `deploy/bench/gpu` measures the other choices on a GPU.
    """

    rotary_width: int = _ROTARY_WIDTH
    """How many numbers may rotate as one head. 1 rotates each head alone."""
    bias_gelu: bool = False
    """Whether bias and GELU of the MLP are one operator, BiasGelu. It computes the exact GELU, as Perception Encoder
    does, and not the approximation by tanh."""
    half_stream: bool = False
    """Whether the residual stream has the dtype of the matrix products, which removes the casts between the two. FP16
    needs the CUDA provider's option `enable_skip_layer_norm_strict_mode`. Without the option, the kernel adds up
    squares in FP16, which overflow."""
    packed: bool = False
    """Whether query, key and value are one matrix product. Query and key are rotated in place, beside the value.
    onnxruntime has MultiHeadAttention of packed inputs on CUDA only."""

    halves_apart = False

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None) -> Tensor:
        # The operator makes the causal mask itself, so the graph has no other.
        causal = mask is not None
        return _operator("MultiHeadAttention", query, key, value, num_heads=heads, unidirectional=int(causal))

    def attend_packed(self, qkv: Tensor, heads: int, mask: Tensor | None) -> Tensor:
        each = qkv.shape[-1] // (3 * heads)
        packed = qkv.reshape(*qkv.shape[:-1], heads, 3, each)
        attended: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (packed,),
            {"num_heads": heads, "unidirectional": int(mask is not None)},
            dtype=qkv.dtype,
            shape=(*qkv.shape[:-1], heads * each),
            version=1,
        )
        return attended

    def rotary_table(self, cosine: Tensor, sine: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        # Shape [2, S, width / 2]. The two numbers of a pair are adjacent, so several heads rotate as one wider head.
        head = torch.stack((cosine, sine))
        if self.packed:  # The value beside query and key is rotated by 0 degrees.
            head = torch.cat((head, head, torch.stack((torch.ones_like(cosine), torch.zeros_like(sine)))), dim=-1)
        fitting = self.rotary_width // (2 * head.shape[-1])
        together = max(n for n in range(1, heads + 1) if heads % n == 0 and n <= max(1, fitting))
        return head.repeat(1, 1, together).to(dtype)

    def rotate(self, x: Tensor, table: Tensor) -> Tensor:
        cosine, sine = table.unbind(0)
        # Each input gets all its positions. onnxruntime also accepts the first position alone. In that case OpenVINO
        # (2026.4) rotates all tokens like the first.
        positions = torch.arange(x.shape[1]).expand(x.shape[0], -1)
        count = x.shape[-1] // (2 * table.shape[-1])
        return _operator("RotaryEmbedding", x, positions, cosine, sine, num_heads=count, interleaved=1)

    def add_norm(self, x: Tensor, inputs: Tensor, linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        # The operator adds the bias together with the sum, in FP32. This saves one pass over memory.
        change, *weights = (
            value.to(x.dtype) for value in (F.linear(inputs, linear.weight), norm.weight, norm.bias, linear.bias)
        )
        normed, _, _, total = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::SkipLayerNormalization",
            (change, x, *weights),
            {"epsilon": norm.eps},
            dtypes=(x.dtype, torch.float32, torch.float32, x.dtype),
            shapes=(x.shape, (*x.shape[:-1], 1), (*x.shape[:-1], 1), x.shape),
            version=1,
        )
        return total, normed

    def activate(self, x: Tensor, linear: nn.Linear, activation: nn.Module) -> Tensor:
        if self.bias_gelu and isinstance(activation, nn.GELU) and activation.approximate == "none":
            return _operator("BiasGelu", F.linear(x, linear.weight), linear.bias)
        activated: Tensor = activation(linear(x))
        return activated


def _operator(name: str, x: Tensor, *others: Tensor, **attributes: Any) -> Tensor:
    """Insert one of onnxruntime's operators. Its result has the dtype and shape of `x`."""
    result: Tensor = torch.onnx.ops.symbolic(
        f"com.microsoft::{name}", (x, *others), attributes, dtype=x.dtype, shape=x.shape, version=1
    )
    return result


FORMS: Mapping[GraphForm, Form] = {"fused": Fused(), "elementary": Elementary(), "packed": Elementary(packed=True)}
