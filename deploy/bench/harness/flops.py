"""Count the floating-point operations of a tower from its sizes. A multiplication and an addition are two operations.

The sizes are from Meta's perception_models (core/vision_encoder/config.py), and from export/demo for the demo. L14-336
comes to 384.7 GFLOP, which is twice the 192.33 GMAC in timm's results (results/model_metadata-in1k.csv and siblings).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Transformer:
    """Sizes of one tower: width of a token, number of blocks, width of the MLP."""

    width: int
    layers: int
    mlp_width: int

    def flop(self, tokens: int) -> float:
        """Count projections, attention and MLP of all layers. Norms and activations are negligible."""
        projections = 2 * tokens * (4 * self.width**2 + 2 * self.width * self.mlp_width)
        return self.layers * (projections + 4 * tokens**2 * self.width)


@dataclass(frozen=True)
class Architecture:
    """The towers of a variant. `patch` is the side of a patch in pixels."""

    vision: Transformer
    patch: int
    text: Transformer


ARCHITECTURES: Final = {
    "PE-Demo-T8-64": Architecture(Transformer(64, 4, 256), 8, Transformer(48, 3, 192)),
    "PE-Core-T16-384": Architecture(Transformer(192, 12, 768), 16, Transformer(512, 12, 2048)),
    "PE-Core-S16-384": Architecture(Transformer(384, 12, 1536), 16, Transformer(512, 12, 2048)),
    "PE-Core-B16-224": Architecture(Transformer(768, 12, 3072), 16, Transformer(1024, 24, 4096)),
    "PE-Core-L14-336": Architecture(Transformer(1024, 24, 4096), 14, Transformer(1024, 24, 4096)),
    "PE-Core-G14-448": Architecture(Transformer(1536, 50, 8960), 14, Transformer(1280, 24, 5120)),
}


def vision_gflop(variant: str, image_size: int) -> float | None:
    """Return the GFLOP of one image; None for a variant that is not in the table."""
    if (architecture := ARCHITECTURES.get(variant)) is None:
        return None
    tower, patches = architecture.vision, (image_size // architecture.patch) ** 2
    embedding = 2 * patches * 3 * architecture.patch**2 * tower.width
    pooling = 2 * patches * 2 * tower.width**2  # keys and values of the attention pooling
    return (embedding + tower.flop(patches + 1) + pooling) / 1e9


def text_gflop(variant: str, tokens: int) -> float | None:
    """Return the GFLOP of one text of so many tokens, padding included; None for a variant that is not in the table."""
    architecture = ARCHITECTURES.get(variant)
    return None if architecture is None else architecture.text.flop(tokens) / 1e9
