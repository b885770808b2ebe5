"""Draw the sample pictures of the playground, and write their list, `samples.js`.

    .venv-export/bin/python -m export.demo.draw_samples

The playground offers drawn shapes to the demo variant, which was trained on nothing else. It offers the other variants
photographs, reduced from export/photographs. The same seed draws the same pictures.
"""

import json
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from export.demo.pictures import COLOURS, SHAPES, Group, Scene, draw, single_scene

_OUT: Final = Path(__file__).parents[2] / "gateway/http/page/static"
_PHOTOGRAPHS: Final = Path(__file__).parents[1] / "photographs"
_SEED: Final = 8
_SIDE: Final = 256  # longest side of a photograph, in pixels

# The playground shows these first, beneath the picture. So all of them differ in colour and in shape.
_FIRST: Final = (
    ("red", "circle"),
    ("blue", "square"),
    ("green", "triangle"),
    ("yellow", "star"),
    ("purple", "heart"),
    ("orange", "ring"),
    ("pink", "diamond"),
    ("black", "arrow"),
)
_DRAWN: Final = 36
# What each photograph shows, and the labels that the playground offers with it. One of them fits.
_PHOTOGRAPHED: Final = {
    "chelsea": ("A cat's face", ("a cat", "a dog", "a fox", "a person")),
    "astronaut": ("An astronaut in an orange suit", ("a racing driver", "an astronaut", "a diver", "a rocket")),
    "coffee": ("A cup of coffee", ("a cup of tea", "a bowl of soup", "a cup of coffee", "a glass of water")),
    "rocket": ("A rocket on its launch pad", ("an aeroplane", "a lighthouse", "a bridge", "a rocket")),
    "clock": ("A clock", ("a clock", "a compass", "a wheel", "a plate")),
    "camera": ("A man behind a camera", ("a man with a telescope", "a man with a camera", "a dog", "a building")),
}


def main() -> None:
    samples = _OUT / "samples"
    samples.mkdir(exist_ok=True)
    listed: list[dict[str, str | list[str]]] = []
    for colour, shape in _combinations():
        rng = np.random.default_rng([_SEED, list(COLOURS).index(colour), SHAPES.index(shape)])
        file = f"{colour}-{shape}.jpg"
        # The playground shows most pictures as small thumbnails, so the shape is in the middle and not small.
        group = Group(colour, shape, 1, str(rng.choice(("medium", "large"))), "middle", "middle")
        background = single_scene(rng, (colour, shape)).background
        draw(rng, Scene((group,), background)).save(samples / file, quality=82, optimize=True)
        fitting, *others = _labels(colour, shape)
        place = len(listed) % (len(others) + 1)  # Not always the first.
        labels = [*others[:place], fitting, *others[place:]]
        alt = fitting[0].upper() + fitting[1:]
        listed.append({"kind": "drawn", "file": file, "alt": alt, "labels": labels})
    for name, (alt, offered) in _PHOTOGRAPHED.items():
        photograph = Image.open(_PHOTOGRAPHS / f"{name}.jpg").convert("RGB")
        photograph.thumbnail((_SIDE, _SIDE))
        photograph.save(samples / f"{name}.jpg", quality=82, optimize=True)
        listed.append({"kind": "photograph", "file": f"{name}.jpg", "alt": alt, "labels": list(offered)})
    rows = ",\n".join(f"  {json.dumps(sample)}" for sample in listed)
    (_OUT / "samples.js").write_text(
        f"// Written by export/demo/draw_samples.py.\nexport const SAMPLES = [\n{rows},\n];\n"
    )


def _combinations() -> list[tuple[str, str]]:
    """List `_FIRST`, then other combinations, with every colour and every shape about equally often."""
    others = [
        (colour, SHAPES[(i + turn) % len(SHAPES)])
        for turn in range(len(SHAPES))
        for i, colour in enumerate(COLOURS)
        if (colour, SHAPES[(i + turn) % len(SHAPES)]) not in _FIRST
    ]
    return [*_FIRST, *others[: _DRAWN - len(_FIRST)]]


def _labels(colour: str, shape: str) -> list[str]:
    """List labels to offer with a drawn shape: first the one that fits, then its colour, its shape, and neither."""
    other_colour, third_colour = _next(list(COLOURS), colour, 4), _next(list(COLOURS), colour, 2)
    other_shape, third_shape = _next(list(SHAPES), shape, 1), _next(list(SHAPES), shape, 3)
    pairs = ((colour, shape), (colour, other_shape), (other_colour, shape), (third_colour, third_shape))
    return [f"{'an' if first[0] in 'aeiou' else 'a'} {first} {second}" for first, second in pairs]


def _next(values: list[str], value: str, step: int) -> str:
    return values[(values.index(value) + step) % len(values)]


if __name__ == "__main__":
    main()
