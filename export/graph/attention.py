"""Attention modules that replace timm's and torch's, with the same weights and the operators of a `Form`.

Query, key and value are three matrix products, so that no runtime has to split one result into three, or one product
if the form is packed. The bias of the value is folded into the bias of the output. Attention weights add up to 1, so
attention does not change that bias.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.errors import GraphError
from export.graph.forms import Form


class SelfAttention(nn.Module):
    """Self-attention over x [N, S, W], without the output projection. The caller applies `out` to the result [N, S, W].

    A vision tower uses rotary positions. A text tower passes a causal mask.
    """

    rotary: Tensor | None

    def __init__(self, qkv: nn.Linear, out: nn.Linear, heads: int, form: Form, *, rotary: Tensor | None = None) -> None:
        super().__init__()
        query, key, value = _split(qkv)
        out.bias.data += out.weight.data @ value.bias.data
        if rotary is not None and form.halves_apart:
            for linear in (query, key):
                _separate_halves(linear, heads)
        if form.packed:
            self.qkv = _pack(query, key, value, heads)
        else:
            value.register_parameter("bias", None)
            self.query, self.key, self.value = query, key, value
        self.out, self.heads, self.form = out, heads, form
        self.register_buffer("rotary", rotary, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.form.packed:
            qkv = self.qkv(x)
            if self.rotary is not None:
                qkv = self.form.rotate(qkv, self.rotary)
            return self.form.attend_packed(qkv, self.heads, mask)
        q, k, v = self.query(x), self.key(x), self.value(x)
        if self.rotary is not None:
            q, k = self.form.rotate(q, self.rotary), self.form.rotate(k, self.rotary)
        return self.form.attend(q, k, v, self.heads, mask)


class AttentionPool(nn.Module):
    """timm's AttentionPoolLatent for one latent: x [N, S, W] -> [N, W]."""

    def __init__(self, pool: Any, form: Form, dtype: torch.dtype) -> None:
        super().__init__()
        self.query = nn.Parameter(pool.q(pool.latent))  # The query does not depend on the image.
        self.kv, self.proj, self.norm, self.mlp = pool.kv, pool.proj, pool.norm, pool.mlp
        self.heads, self.form, self.dtype = pool.num_heads, form, dtype

    def forward(self, x: Tensor) -> Tensor:
        query = self.query.expand(x.shape[0], -1, -1)
        key, value = self.kv(x).chunk(2, dim=-1)
        x = self.proj(self.form.attend(query, key, value, self.heads, None))
        x = x + self.mlp(self.norm(x.float()).to(self.dtype))
        return x[:, 0]


def vision_attention(attention: Any, rotary: Tensor, form: Form) -> SelfAttention:
    """Convert timm's AttentionRope.

    Args:
        attention: timm's module. Its weights are changed in place, so do not use it afterwards.
        rotary: what `rotary_table` returned for `form`.

    Raises:
        GraphError: the module has parts that Perception Encoder does not have.
    """
    plain = all(isinstance(part, nn.Identity) for part in (attention.q_norm, attention.k_norm, attention.norm))
    if not plain or attention.qkv is None or attention.rotate_half:
        raise GraphError("the vision tower's attention is not Perception Encoder's")
    return SelfAttention(attention.qkv, attention.proj, attention.num_heads, form, rotary=rotary)


def text_attention(attention: nn.MultiheadAttention, form: Form) -> SelfAttention:
    """Convert torch's MultiheadAttention.

    Args:
        attention: torch's module. The bias of its output is changed in place, so do not use it afterwards.
    """
    width = attention.embed_dim
    with torch.device("meta"):
        qkv = nn.Linear(width, 3 * width)
    qkv.weight, qkv.bias = attention.in_proj_weight, attention.in_proj_bias
    return SelfAttention(qkv, attention.out_proj, attention.num_heads, form)


def rotary_table(embed: Tensor, prefix_tokens: int, heads: int, form: Form, dtype: torch.dtype) -> Tensor:
    """Convert timm's table of rotary positions to the table of `form`.

    Args:
        embed: timm's table [S, 2 d] for heads of d numbers: d sines, then d cosines. Each value occurs twice in a row.
        prefix_tokens: number of tokens before the S patches, which are not rotated.
        heads: number of attention heads.
        dtype: dtype of the matrix products.

    Returns:
        The table for `Form.rotate`, for `prefix_tokens` + S tokens.
    """
    sine, cosine = (table[:, ::2] for table in embed.chunk(2, dim=-1))
    sine = F.pad(sine, (0, 0, prefix_tokens, 0), value=0.0)  # A class token is not rotated.
    cosine = F.pad(cosine, (0, 0, prefix_tokens, 0), value=1.0)
    return form.rotary_table(cosine, sine, heads, dtype)


def _split(qkv: nn.Linear) -> list[nn.Linear]:
    """Split a linear layer into three, each with a third of the outputs. The three share the memory of `qkv`."""
    parts = []
    for weight, bias in zip(qkv.weight.data.chunk(3), qkv.bias.data.chunk(3), strict=True):
        with torch.device("meta"):
            part = nn.Linear(weight.shape[1], weight.shape[0])
        part.weight, part.bias = nn.Parameter(weight), nn.Parameter(bias)
        parts.append(part)
    return parts


def _pack(query: nn.Linear, key: nn.Linear, value: nn.Linear, heads: int) -> nn.Linear:
    """Join three linear layers to one, whose outputs are query, key and value of the first head, then of the next.

    The result has no bias for the value, because `SelfAttention` folds it into the bias of the output.
    """
    with torch.device("meta"):
        packed = nn.Linear(query.in_features, 3 * query.out_features)
    parts = [(linear.weight.data, linear.bias.data) for linear in (query, key, value)]
    parts[2] = (parts[2][0], torch.zeros_like(parts[2][1]))
    weights, biases = (
        torch.stack([part.view(heads, -1, *part.shape[1:]) for part in same], dim=1).flatten(0, 2)
        for same in zip(*parts, strict=True)
    )
    packed.weight, packed.bias = nn.Parameter(weights), nn.Parameter(biases)
    return packed


def _separate_halves(linear: nn.Linear, heads: int) -> None:
    """Reorder the outputs of each head from pairs (x0, y0, x1, y1, ...) to halves (x0, x1, ..., y0, y1, ...).

    The products of query and key do not change. A rotation then needs two slices instead of strided access.
    """
    order = torch.arange(linear.out_features).view(heads, -1, 2).transpose(1, 2).flatten()
    for parameter in (linear.weight, linear.bias):
        parameter.data = parameter.data[order]
