"""Real inputs for the parity check: photographs and texts.

The photographs are in `photographs/`, with their sources, and are squashed as the gateway squashes images. The texts
are ImageNet's class names in CLIP's prompt templates, both from open_clip, a few unusual texts, and a few texts of each
token length. open_clip tokenises them, because its tokenizer is the reference's own.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
from PIL import Image

from export.parity import Array
from export.variants import Tower, Variant

PHOTOGRAPHS: Final = Path(__file__).parent / "photographs"
_CLASS_TEXTS: Final = 200
_UNUSUAL_TEXTS: Final = (
    "",
    "a",
    "a dog. " * 60,  # longer than any context, so the tokenizer truncates it and keeps the end token
    "Ein Fahrrad lehnt an der Mauer, früh am Morgen",
    "猫が窓辺で眠っている",
    "🚲 + ☀️ = ?!",
    "<html>&amp;&lt;b&gt;",
    "<end_of_text> in the middle of a text",
)


def samples(variant: Variant, tower: Tower) -> Array:
    """Return the inputs of a tower: image uint8 [8, H, W, 3] (RGB), or tokens int32 [N, L] with N about 230."""
    return _images(variant.image_size) if tower == "vision" else _tokens(variant.token_lengths)


def _images(size: int) -> Array:
    squashed = []
    for path in sorted(PHOTOGRAPHS.glob("*.jpg")):
        with Image.open(path) as photograph:
            squashed.append(np.asarray(photograph.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)))
    return np.stack(squashed)


def _tokens(lengths: tuple[int, ...]) -> Array:
    templates, names = open_clip.OPENAI_IMAGENET_TEMPLATES, open_clip.IMAGENET_CLASSNAMES
    step = len(names) // _CLASS_TEXTS
    texts = [templates[i % len(templates)](names[i * step]) for i in range(_CLASS_TEXTS)]
    # "a" is one token, and so are the start and the end. The last text of each length fills it.
    texts += ["a " * (length - 2 - missing) for length in lengths for missing in (3, 2, 1, 0)]
    tokens: Any = open_clip.SimpleTokenizer(context_length=lengths[-1])([*texts, *_UNUSUAL_TEXTS])
    return np.asarray(tokens.numpy(), dtype=np.int32)
