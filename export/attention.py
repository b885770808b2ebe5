"""Attention as the graph shall have it, in place of timm's and torch's modules, with the same weights.

Two forms of the same formula, chosen by what a runtime documents:

    fused        one `com.microsoft.MultiHeadAttention` node, onnxruntime's own operator (docs/ContribOperators.md):
                 flash attention on CUDA for FP16 since release 1.16, BF16 since 1.24, on the CPU for FP32 since 1.19
    elementary   MatMul, Softmax, MatMul: every parser knows them, and TensorRT and OpenVINO fuse them; Softmax in FP32

onnx's own `Attention` (opset 23) is not used: onnxruntime has had it on CUDA only since 1.24, and there refuses to be
told the precision of its softmax.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.engines import AttentionForm
from export.errors import GraphError

Attend = Callable[[Tensor, Tensor, Tensor, int, bool], Tensor]
"""query [N, S, W], key and value [N, T, W], number of heads, whether causal -> [N, S, W]."""


def _by_head(x: Tensor, heads: int) -> Tensor:
    """[N, S, W] -> [N, S, heads, d]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def elementary(query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, head by head."""

    def split(x: Tensor) -> Tensor:
        return _by_head(x, heads).transpose(1, 2)

    q, k, v = split(query), split(key), split(value)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    scores = scores.float()
    if causal:
        scores = scores + torch.full(scores.shape[-2:], -torch.inf, device=scores.device).triu(1)
    attended: Tensor = scores.softmax(-1).to(v.dtype) @ v
    return attended.transpose(1, 2).flatten(-2)


def fused(query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> Tensor:
    """One onnxruntime node; it can be exported, not run by torch."""
    attended: Tensor = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        (query, key, value),
        {"num_heads": heads, "unidirectional": int(causal)},
        dtype=query.dtype,
        shape=query.shape,
        version=1,
    )
    return attended


FORMS: Mapping[AttentionForm, Attend] = {"fused": fused, "elementary": elementary}


class SelfAttention(nn.Module):
    """x [N, S, W] -> [N, S, W]; with rotary positions for a vision tower, causal for a text tower."""

    rotary: Tensor | None

    def __init__(
        self, qkv: nn.Linear, out: nn.Linear, heads: int, attend: Attend, *, causal: bool, rotary: Tensor | None = None
    ) -> None:
        super().__init__()
        self.qkv, self.out, self.heads, self.attend, self.causal = qkv, out, heads, attend, causal
        self.register_buffer("rotary", rotary, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.rotary is not None:
            q, k = self._rotate(q, self.rotary), self._rotate(k, self.rotary)
        attended: Tensor = self.out(self.attend(q, k, v, self.heads, self.causal))
        return attended

    def _rotate(self, x: Tensor, rotary: Tensor) -> Tensor:
        # x cos + rotated(x) sin; a head's first half is the real parts, its second the imaginary ones.
        cosine, sine = rotary.unbind(0)
        x = _by_head(x, self.heads)
        real, imaginary = x.chunk(2, dim=-1)
        rotated = x * cosine + torch.cat((-imaginary, real), dim=-1) * sine
        return rotated.flatten(-2).to(x.dtype)


class AttentionPool(nn.Module):
    """timm's AttentionPoolLatent for one latent: x [N, S, W] -> [N, W]."""

    def __init__(self, pool: Any, attend: Attend, dtype: torch.dtype) -> None:
        super().__init__()
        self.query = nn.Parameter(pool.q(pool.latent))  # the same for every image
        self.kv, self.proj, self.norm, self.mlp = pool.kv, pool.proj, pool.norm, pool.mlp
        self.heads, self.attend, self.dtype = pool.num_heads, attend, dtype

    def forward(self, x: Tensor) -> Tensor:
        query = self.query.expand(x.shape[0], -1, -1)
        key, value = self.kv(x).chunk(2, dim=-1)
        x = self.proj(self.attend(query, key, value, self.heads, False))
        x = x + self.mlp(self.norm(x.float()).to(self.dtype))
        return x[:, 0]


def vision_attention(attention: Any, rotary: Tensor, attend: Attend) -> SelfAttention:
    """From timm's AttentionRope and `rotary_table`; its weights are reordered in place: it is then of no use."""
    plain = all(isinstance(part, nn.Identity) for part in (attention.q_norm, attention.k_norm, attention.norm))
    if not plain or attention.qkv is None or attention.rotate_half:
        raise GraphError("the vision tower's attention is not Perception Encoder's")
    _separate_halves(attention.qkv, attention.num_heads)
    return SelfAttention(attention.qkv, attention.proj, attention.num_heads, attend, causal=False, rotary=rotary)


def text_attention(attention: nn.MultiheadAttention, attend: Attend) -> SelfAttention:
    """From torch's MultiheadAttention, with the same weights."""
    width = attention.embed_dim
    with torch.device("meta"):
        qkv = nn.Linear(width, 3 * width)
    qkv.weight, qkv.bias = attention.in_proj_weight, attention.in_proj_bias
    return SelfAttention(qkv, attention.out_proj, attention.num_heads, attend, causal=True)


def rotary_table(embed: Tensor, prefix_tokens: int) -> Tensor:
    """timm's [S, sine | cosine], each value twice in neighbours -> cosine and sine [2, prefix + S, 1, d], in halves."""
    sine, cosine = (torch.cat((table[:, ::2], table[:, 1::2]), dim=-1) for table in embed.chunk(2, dim=-1))
    sine = F.pad(sine, (0, 0, prefix_tokens, 0), value=0.0)  # a class token is not rotated
    cosine = F.pad(cosine, (0, 0, prefix_tokens, 0), value=1.0)
    return torch.stack((cosine, sine)).unsqueeze(2)


def _separate_halves(qkv: nn.Linear, heads: int) -> None:
    """Reorder query and key within each head from pairs (x0, y0, x1, y1, ...) to halves (x0, x1, ..., y0, y1, ...).

    Products of query and key stay the same, and a rotation becomes two slices instead of a strided shuffle.
    """
    width = qkv.out_features // 3
    order = torch.arange(width).view(heads, -1, 2).transpose(1, 2).flatten()
    order = torch.cat((order, width + order, torch.arange(2 * width, 3 * width)))
    for parameter in (qkv.weight, qkv.bias):
        parameter.data = parameter.data[order]
