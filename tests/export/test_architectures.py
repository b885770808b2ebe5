"""The table of sizes against the networks that open_clip builds."""

from typing import Any

import pytest
import torch

from export.architectures import ARCHITECTURES, Architecture, Transformer
from export.variants import VARIANTS, Variant
from export.weights.checkpoint import build_tower

pytestmark = pytest.mark.export


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_the_sizes_are_those_of_the_networks(variant: Variant) -> None:
    with torch.device("meta"):  # Any, because torch types submodules too loosely.
        network: Any = build_tower(variant, "vision")
        text: Any = build_tower(variant, "text")
    vision = network.trunk
    block, layer = vision.blocks[0], text.transformer.resblocks[0]
    assert ARCHITECTURES[variant.name] == Architecture(
        Transformer(vision.embed_dim, len(vision.blocks), block.mlp.fc1.out_features, block.attn.num_heads),
        vision.patch_embed.patch_size[0],
        Transformer(
            text.text_projection.shape[0],
            len(text.transformer.resblocks),
            layer.mlp.c_fc.out_features,
            layer.attn.num_heads,
        ),
        vision.num_prefix_tokens,
    )
