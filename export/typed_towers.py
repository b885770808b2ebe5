"""The two towers written out for export: the weights and mathematics of `towers`, with the precision in every tensor.

Lower precision is mixed as Meta's reference runs it (autocast): matrix products in FP16 or BF16; the residual stream,
norms, softmax and the final L2 norm in FP32. The graph says so itself, so every runtime does the same.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.attention import Attend, AttentionPool, rotary_table, text_attention, vision_attention
from export.engines import Precision
from export.errors import GraphError
from export.towers import TextTower, VisionTower

_DTYPES: Mapping[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Block(nn.Module):
    """One transformer block on the FP32 residual stream x [N, S, W]; its products are in `dtype`."""

    def __init__(
        self, norm1: nn.Module, attention: nn.Module, norm2: nn.Module, mlp: nn.Module, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp, self.dtype = norm1, attention, norm2, mlp, dtype

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x).to(self.dtype)).float()
        change: Tensor = self.mlp(self.norm2(x).to(self.dtype))
        return x + change.float()


class TypedVisionTower(nn.Module):
    """image uint8 [N, H, W, 3] (RGB) -> embedding FP32 [N, D], unit length."""

    def __init__(self, trunk: Any, attend: Attend, dtype: torch.dtype) -> None:
        super().__init__()
        if trunk.reg_token is not None or any(block.gamma_1 is not None for block in trunk.blocks):
            raise GraphError("the vision tower has parts that Perception Encoder's has not")
        self.patches = _patch_projection(trunk.patch_embed.proj)
        self.patch_size, self.class_token, self.positions = (
            trunk.patch_embed.patch_size[0],
            trunk.cls_token,
            trunk.pos_embed,
        )
        rotary = rotary_table(trunk.rope.get_embed(), trunk.num_prefix_tokens)
        self.norm_pre, self.norm, self.head, self.dtype = trunk.norm_pre, trunk.norm, trunk.head, dtype
        self.pool = AttentionPool(trunk.attn_pool, attend, dtype)
        self.blocks = nn.Sequential(
            *(
                Block(block.norm1, vision_attention(block.attn, rotary, attend), block.norm2, block.mlp, dtype)
                for block in trunk.blocks
            )
        )

    def forward(self, image: Tensor) -> Tensor:
        # Cast first: TensorRT takes UINT8 only as an input, and only a Cast may read it.
        pixels = ((image.to(torch.float32) / 255 - 0.5) / 0.5).to(self.dtype)
        # [N, H, W, 3] -> [N, patches, pixels of a patch]
        rows, columns, size = image.shape[1] // self.patch_size, image.shape[2] // self.patch_size, self.patch_size
        patches = pixels.reshape(-1, rows, size, columns, size * 3).transpose(2, 3).flatten(3).flatten(1, 2)
        x = self.patches(patches).float()
        if self.class_token is not None:
            x = torch.cat((self.class_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = self.blocks(self.norm_pre(x + self.positions))
        x = self.head(self.pool(self.norm(x).to(self.dtype)))
        return F.normalize(x.float(), dim=-1)


class TypedTextTower(nn.Module):
    """tokens int32 [N, L] -> embedding FP32 [N, D], unit length."""

    from_the_end: Tensor

    def __init__(self, text: Any, attend: Attend, dtype: torch.dtype) -> None:
        super().__init__()
        self.table, self.positions = text.token_embedding, text.positional_embedding
        self.norm, self.projection, self.dtype = text.ln_final, text.text_projection, dtype
        self.register_buffer("from_the_end", torch.arange(text.context_length, 0, -1).float(), persistent=False)
        self.blocks = nn.Sequential(
            *(
                Block(block.ln_1, text_attention(block.attn, attend), block.ln_2, block.mlp, dtype)
                for block in text.transformer.resblocks
            )
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks(self.table(tokens).float() + self.positions)
        # The first end token. The reference takes the highest number's place, and the end token's is the highest; but
        # GPUs have no argmax of integers, and a number so high is not exact in BF16, while these weights are.
        end = ((tokens == self.table.num_embeddings - 1) * self.from_the_end).argmax(dim=-1)
        x = x.gather(1, end[:, None, None].expand(-1, 1, x.shape[-1]))[:, 0]
        x = self.norm(x).to(self.dtype) @ self.projection
        return F.normalize(x.float(), dim=-1)


def _patch_projection(convolution: nn.Conv2d) -> nn.Linear:
    """The convolution, as wide as its stride, as a matrix product over a patch's pixels [row, column, channel]."""
    weight = convolution.weight.data.permute(0, 2, 3, 1).flatten(1)
    with torch.device("meta"):
        projection = nn.Linear(weight.shape[1], weight.shape[0], bias=convolution.bias is not None)
    projection.weight = nn.Parameter(weight)
    if convolution.bias is not None:
        projection.bias = nn.Parameter(convolution.bias.data)
    return projection


def typed(tower: VisionTower | TextTower, precision: Precision, attend: Attend) -> TypedVisionTower | TypedTextTower:
    """The tower in `precision`. It takes the weights over: `tower` is of no use afterwards."""
    dtype = _DTYPES[precision]
    written: TypedVisionTower | TypedTextTower
    if isinstance(tower, VisionTower):
        visual: Any = tower.visual
        written = TypedVisionTower(visual.trunk, attend, dtype)
        written.pool.query.data = written.pool.query.data.to(dtype)
    else:
        written = TypedTextTower(tower.text, attend, dtype)
        written.projection.data = written.projection.data.to(dtype)
    for part in written.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            part.to(dtype)
    return written.eval().requires_grad_(False)


def release(tower: nn.Module) -> None:
    """Give the weights' memory back. The exporter's caches outlive the tower and hold on to its parameters."""
    for parameter in tower.parameters():
        parameter.data = torch.empty(0)
