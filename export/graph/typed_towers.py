"""The two towers for export: the weights and mathematics of `towers`, with an explicit dtype for every tensor.

Lower precision is mixed as in Meta's reference (autocast). Matrix products are in FP16 or BF16. The residual stream,
norms, softmax and the final L2 norm are in FP32. The graph contains the casts, so every runtime uses the same types.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.errors import GraphError
from export.graph.attention import AttentionPool, SelfAttention, rotary_table, text_attention, vision_attention
from export.graph.forms import Form, causal_mask
from export.graph.spec import Precision
from export.graph.towers import TextTower, VisionTower

_DTYPES: Mapping[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Block(nn.Module):
    """The parts of one transformer block. `Blocks` applies them.

    Raises:
        GraphError: the MLP is not linear, activation, linear.
    """

    def __init__(self, norm1: nn.LayerNorm, attention: SelfAttention, norm2: nn.LayerNorm, mlp: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = norm1, attention, norm2
        parts = [part for part in mlp.children() if not isinstance(part, nn.Dropout | nn.Identity)]
        if [isinstance(part, nn.Linear) for part in parts] != [True, False, True]:
            raise GraphError("a block's MLP is not Perception Encoder's")
        self.up, self.activation, self.down = parts


class Blocks(nn.Module):
    """All blocks and the tower's last norm, for x FP32 [N, S, W]. Matrix products are in `dtype`.

    Each sum is computed together with the norm that follows it, which some runtimes fuse. `last_norm` follows the last
    sum.
    """

    def __init__(self, blocks: Iterable[Block], last_norm: nn.LayerNorm, form: Form, dtype: torch.dtype) -> None:
        super().__init__()
        self.blocks, self.last_norm, self.form, self.dtype = nn.ModuleList(blocks), last_norm, form, dtype

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        blocks: list[Any] = list(self.blocks)
        normed: Tensor = blocks[0].norm1(x)
        x = x.to(self.dtype) if self.form.half_stream else x
        for block, following in zip(blocks, [*(block.norm1 for block in blocks[1:]), self.last_norm], strict=True):
            attended = block.attention(normed.to(self.dtype), mask)
            x, normed = self.form.add_norm(x, attended, block.attention.out, block.norm2)
            hidden = self.form.activate(normed.to(self.dtype), block.up, block.activation)
            x, normed = self.form.add_norm(x, hidden, block.down, following)
        return normed


class TypedVisionTower(nn.Module):
    """image uint8 [N, H, W, 3] (RGB) -> embedding FP32 [N, D], unit length."""

    def __init__(self, trunk: Any, form: Form, dtype: torch.dtype) -> None:
        super().__init__()
        if trunk.reg_token is not None or any(block.gamma_1 is not None for block in trunk.blocks):
            raise GraphError("the vision tower has parts that Perception Encoder's does not have")
        self.patches = _patch_projection(trunk.patch_embed.proj)
        self.patch_size, self.class_token, self.positions = (
            trunk.patch_embed.patch_size[0],
            trunk.cls_token,
            trunk.pos_embed,
        )
        heads = trunk.blocks[0].attn.num_heads
        rotary = rotary_table(trunk.rope.get_embed(), trunk.num_prefix_tokens, heads, form, dtype)
        self.norm_pre, self.head, self.dtype = trunk.norm_pre, trunk.head, dtype
        self.pool = AttentionPool(trunk.attn_pool, form, dtype)
        blocks = (
            Block(block.norm1, vision_attention(block.attn, rotary, form), block.norm2, block.mlp)
            for block in trunk.blocks
        )
        self.blocks = Blocks(blocks, trunk.norm, form, dtype)

    def forward(self, image: Tensor) -> Tensor:
        # TensorRT accepts UINT8 only for inputs, and only a Cast may read a UINT8 input. So the cast comes first.
        pixels = ((image.to(torch.float32) / 255 - 0.5) / 0.5).to(self.dtype)
        # [N, H, W, 3] -> [N, patches, pixels of a patch]
        rows, columns, size = image.shape[1] // self.patch_size, image.shape[2] // self.patch_size, self.patch_size
        patches = pixels.reshape(-1, rows, size, columns, size * 3).transpose(2, 3).flatten(3).flatten(1, 2)
        x = self.patches(patches).float()
        if self.class_token is not None:
            x = torch.cat((self.class_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = self.blocks(self.norm_pre(x + self.positions))
        x = self.head(self.pool(x.to(self.dtype)))
        return F.normalize(x.float(), dim=-1)


class TypedTextTower(nn.Module):
    """tokens int32 [N, S] -> embedding FP32 [N, D], unit length. S is any length from the end token on.

    A token sees only those before it, so tokens after the first end token do not change its embedding.
    """

    from_the_end: Tensor
    mask: Tensor

    def __init__(self, text: Any, form: Form, dtype: torch.dtype) -> None:
        super().__init__()
        self.table, self.positions = text.token_embedding, text.positional_embedding
        self.projection, self.dtype = text.text_projection, dtype
        self.register_buffer("from_the_end", torch.arange(text.context_length, 0, -1).float(), persistent=False)
        self.register_buffer("mask", causal_mask(text.context_length), persistent=False)
        blocks = (
            Block(block.ln_1, text_attention(block.attn, form), block.ln_2, block.mlp)
            for block in text.transformer.resblocks
        )
        self.blocks = Blocks(blocks, text.ln_final, form, dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.table(tokens).float() + self.positions[:length]
        x = self.blocks(x, self.mask[:length, :length])
        # Find the position of the first end token. The reference uses the argmax of the tokens, because the end token
        # has the highest id. GPU runtimes have no argmax of integers, and BF16 cannot represent 49407. BF16 represents
        # every value of `from_the_end`.
        end = ((tokens == self.table.num_embeddings - 1) * self.from_the_end[:length]).argmax(dim=-1)
        x = x.gather(1, end[:, None, None].expand(-1, 1, x.shape[-1]))[:, 0]
        x = x.to(self.dtype) @ self.projection
        return F.normalize(x.float(), dim=-1)


def _patch_projection(convolution: nn.Conv2d) -> nn.Linear:
    """Turn the patch convolution into a matrix product over a patch's pixels [row, column, channel].

    The two are equal because the convolution's kernel is as wide as its stride.
    """
    weight = convolution.weight.data.permute(0, 2, 3, 1).flatten(1)
    with torch.device("meta"):
        projection = nn.Linear(weight.shape[1], weight.shape[0], bias=convolution.bias is not None)
    projection.weight = nn.Parameter(weight)
    if convolution.bias is not None:
        projection.bias = nn.Parameter(convolution.bias.data)
    return projection


def typed_tower(tower: VisionTower | TextTower, precision: Precision, form: Form) -> TypedVisionTower | TypedTextTower:
    """Build a tower for export whose matrix products are in `precision`.

    The new tower shares or casts the weights of `tower` in place. Do not use `tower` afterwards.

    Raises:
        GraphError: the tower has parts that Perception Encoder does not have.
    """
    dtype = _DTYPES[precision]
    written: TypedVisionTower | TypedTextTower
    if isinstance(tower, VisionTower):
        visual: Any = tower.visual
        written = TypedVisionTower(visual.trunk, form, dtype)
        written.pool.query.data = written.pool.query.data.to(dtype)
    else:
        written = TypedTextTower(tower.text, form, dtype)
        written.projection.data = written.projection.data.to(dtype)
    for part in written.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            part.to(dtype)
    return written.eval().requires_grad_(False)


def release_weights(tower: nn.Module) -> None:
    """Free the memory of the weights. The exporter's caches keep references to the parameters after the export."""
    for parameter in tower.parameters():
        parameter.data = torch.empty(0)
