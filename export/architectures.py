"""The sizes of each variant's towers.

They are from Meta's perception_models (core/vision_encoder/config.py), and from export/demo for the demo. A test
compares them with open_clip's networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Transformer:
    """Sizes of one tower: width of a token, number of blocks, width of the MLP, heads of attention."""

    width: int
    layers: int
    mlp_width: int
    heads: int

    def flop(self, tokens: int) -> float:
        """Count projections, attention and MLP of all layers. Norms and activations are negligible."""
        projections = 2 * tokens * (4 * self.width**2 + 2 * self.width * self.mlp_width)
        return self.layers * (projections + 4 * tokens**2 * self.width)


@dataclass(frozen=True)
class Architecture:
    """The towers of a variant."""

    vision: Transformer
    patch: int
    """Side of a patch in pixels."""
    text: Transformer
    class_tokens: int = 1
    """Tokens of an image besides its patches."""

    def image_tokens(self, image_size: int) -> int:
        """Return the number of tokens of an image of `image_size` x `image_size` pixels."""
        return (image_size // self.patch) ** 2 + self.class_tokens


ARCHITECTURES: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        "PE-Demo-T8-64": Architecture(Transformer(64, 4, 256, 2), 8, Transformer(48, 3, 192, 3)),
        "PE-Core-T16-384": Architecture(Transformer(192, 12, 768, 3), 16, Transformer(512, 12, 2048, 8)),
        "PE-Core-S16-384": Architecture(Transformer(384, 12, 1536, 6), 16, Transformer(512, 12, 2048, 8)),
        "PE-Core-B16-224": Architecture(Transformer(768, 12, 3072, 12), 16, Transformer(1024, 24, 4096, 16)),
        "PE-Core-L14-336": Architecture(Transformer(1024, 24, 4096, 16), 14, Transformer(1024, 24, 4096, 16)),
        "PE-Core-G14-448": Architecture(Transformer(1536, 50, 8960, 16), 14, Transformer(1280, 24, 5120, 20), 0),
    }
)
