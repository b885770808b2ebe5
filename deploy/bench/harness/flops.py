"""Count the floating-point operations of a tower from its sizes. A multiplication and an addition are two operations.

L14-336 comes to 384.7 GFLOP, which is twice the 192.33 GMAC in timm's results (results/model_metadata-in1k.csv and
siblings).
"""

from export.architectures import ARCHITECTURES


def vision_gflop(variant: str, image_size: int) -> float | None:
    """Return the GFLOP of one image; None for a variant that is not in the table."""
    if (architecture := ARCHITECTURES.get(variant)) is None:
        return None
    tower, tokens = architecture.vision, architecture.image_tokens(image_size)
    patches = tokens - architecture.class_tokens
    embedding = 2 * patches * 3 * architecture.patch**2 * tower.width
    pooling = 2 * patches * 2 * tower.width**2  # Keys and values of the attention pooling.
    return (embedding + tower.flop(tokens) + pooling) / 1e9


def text_gflop(variant: str, tokens: int) -> float | None:
    """Return the GFLOP of one text of so many tokens, padding included; None for a variant that is not in the table."""
    architecture = ARCHITECTURES.get(variant)
    return None if architecture is None else architecture.text.flop(tokens) / 1e9
