"""Attention in place of timm's and torch's modules, with the same weights, by the operators of a `Form`.

Query, key and value are three products, so that no runtime has to split one result into three. The bias of the
value is folded into the bias of the output: attention weights add up to 1, so attention passes the bias on unchanged.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.errors import GraphError
from export.graph.forms import Form


class SelfAttention(nn.Module):
    """Attend within x [N, S, W]; the caller applies `out` to the result [N, S, W].

    With rotary positions for a vision tower, causal for a text tower.
    """

    rotary: Tensor | None

    def __init__(
        self, qkv: nn.Linear, out: nn.Linear, heads: int, form: Form, *, causal: bool, rotary: Tensor | None = None
    ) -> None:
        super().__init__()
        self.query, self.key, self.value = _split(qkv)
        self.out, self.heads, self.form, self.causal = out, heads, form, causal
        out.bias.data += out.weight.data @ self.value.bias.data
        self.value.register_parameter("bias", None)
        self.register_buffer("rotary", rotary, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        if self.rotary is not None:
            q, k = self.form.rotate(q, self.rotary), self.form.rotate(k, self.rotary)
        return self.form.attend(q, k, v, self.heads, self.causal)


class AttentionPool(nn.Module):
    """timm's AttentionPoolLatent for one latent: x [N, S, W] -> [N, W]."""

    def __init__(self, pool: Any, form: Form, dtype: torch.dtype) -> None:
        super().__init__()
        self.query = nn.Parameter(pool.q(pool.latent))  # the same for every image
        self.kv, self.proj, self.norm, self.mlp = pool.kv, pool.proj, pool.norm, pool.mlp
        self.heads, self.form, self.dtype = pool.num_heads, form, dtype

    def forward(self, x: Tensor) -> Tensor:
        query = self.query.expand(x.shape[0], -1, -1)
        key, value = self.kv(x).chunk(2, dim=-1)
        x = self.proj(self.form.attend(query, key, value, self.heads, False))
        x = x + self.mlp(self.norm(x.float()).to(self.dtype))
        return x[:, 0]


def vision_attention(attention: Any, rotary: Tensor, form: Form) -> SelfAttention:
    """From timm's AttentionRope and `rotary_table`; its weights are changed in place: it is then of no use."""
    plain = all(isinstance(part, nn.Identity) for part in (attention.q_norm, attention.k_norm, attention.norm))
    if not plain or attention.qkv is None or attention.rotate_half:
        raise GraphError("the vision tower's attention is not Perception Encoder's")
    heads = attention.num_heads
    rewritten = SelfAttention(attention.qkv, attention.proj, heads, form, causal=False, rotary=rotary)
    if form.halves_apart:
        for linear in (rewritten.query, rewritten.key):
            _separate_halves(linear, heads)
    return rewritten


def text_attention(attention: nn.MultiheadAttention, form: Form) -> SelfAttention:
    """From torch's MultiheadAttention, with the same weights: its output's bias is changed in place."""
    width = attention.embed_dim
    with torch.device("meta"):
        qkv = nn.Linear(width, 3 * width)
    qkv.weight, qkv.bias = attention.in_proj_weight, attention.in_proj_bias
    return SelfAttention(qkv, attention.out_proj, attention.num_heads, form, causal=True)


def rotary_table(embed: Tensor, prefix_tokens: int, heads: int, form: Form, dtype: torch.dtype) -> Tensor:
    """timm's [S, sine | cosine], each value twice in neighbours -> the form's, for prefix + S tokens."""
    sine, cosine = (table[:, ::2] for table in embed.chunk(2, dim=-1))
    sine = F.pad(sine, (0, 0, prefix_tokens, 0), value=0.0)  # a class token is not rotated
    cosine = F.pad(cosine, (0, 0, prefix_tokens, 0), value=1.0)
    return form.rotary_table(cosine, sine, heads, dtype)


def _split(qkv: nn.Linear) -> list[nn.Linear]:
    """Three of a third of its outputs each, on the same memory."""
    parts = []
    for weight, bias in zip(qkv.weight.data.chunk(3), qkv.bias.data.chunk(3), strict=True):
        with torch.device("meta"):
            part = nn.Linear(weight.shape[1], weight.shape[0])
        part.weight, part.bias = nn.Parameter(weight), nn.Parameter(bias)
        parts.append(part)
    return parts


def _separate_halves(linear: nn.Linear, heads: int) -> None:
    """Reorder within each head from pairs (x0, y0, x1, y1, ...) to halves_apart (x0, x1, ..., y0, y1, ...).

    Products of query and key stay the same, and a rotation becomes two slices instead of a strided shuffle.
    """
    order = torch.arange(linear.out_features).view(heads, -1, 2).transpose(1, 2).flatten()
    for parameter in (linear.weight, linear.bias):
        parameter.data = parameter.data[order]
