"""Pictures drawn by code. A `Scene` describes the contents of a picture, and `draw` draws a scene.

A scene holds only what a caption can mention. `draw` chooses the rest at random: canvas, exact place, shades, tilt and
noise. The same generator state gives the same scene and the same picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

COLOURS: Final = {
    "red": (215, 35, 35),
    "orange": (250, 140, 25),
    "yellow": (245, 220, 40),
    "green": (40, 160, 60),
    "blue": (40, 85, 220),
    "purple": (125, 50, 170),
    "pink": (250, 145, 195),
    "brown": (115, 70, 35),
    "black": (20, 20, 22),
}
"""Name -> RGB before jitter."""

SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "heart", "ring", "diamond", "arrow")

BACKGROUNDS: Final = {
    "white": (248, 248, 248),
    "gray": (150, 150, 150),
    "black": (18, 18, 20),
    "yellow": (245, 225, 110),
    "green": (95, 175, 110),
    "blue": (115, 165, 235),
    "pink": (245, 185, 210),
}

Combination = tuple[str, str]
"""A colour and a shape."""

COMBINATIONS: Final[tuple[Combination, ...]] = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)

HELD_OUT: Final[frozenset[Combination]] = frozenset(
    {
        ("red", "star"),
        ("orange", "triangle"),
        ("yellow", "ring"),
        ("green", "heart"),
        ("blue", "diamond"),
        ("purple", "square"),
        ("pink", "arrow"),
        ("brown", "circle"),
        ("black", "cross"),
    }
)
"""Combinations that no picture and no caption of training contains. Each colour and each shape occurs exactly once."""

SEEN: Final[tuple[Combination, ...]] = tuple(pair for pair in COMBINATIONS if pair not in HELD_OUT)

COLUMNS: Final = ("left", "middle", "right")
ROWS: Final = ("top", "middle", "bottom")
SIZES: Final = {"small": (0.22, 0.31), "medium": (0.33, 0.43), "large": (0.46, 0.62)}
"""Name -> range of a shape's diameter, relative to the square root of the canvas area. No caption mentions "medium"."""

MAX_COUNT: Final = 3
CANVAS_SIDE: Final = (64, 256)
MAX_ASPECT: Final = 1.6
SUPERSAMPLING: Final = 4
MIN_CONTRAST: Final = 90.0
"""Smallest Euclidean RGB distance between a shape's colour and its background, before jitter."""


@dataclass(frozen=True)
class Group:
    """`count` equal shapes. `column` and `row` are None if the shapes are scattered over the picture."""

    colour: str
    shape: str
    count: int = 1
    size: str = "medium"
    column: str | None = None
    row: str | None = None


@dataclass(frozen=True)
class Scene:
    """One or two groups of shapes on a background."""

    groups: tuple[Group, ...]
    background: str


def single_scene(rng: np.random.Generator, combination: Combination) -> Scene:
    """Make a scene with one shape of this colour, at a random place, on a random background with enough contrast."""
    colour, shape = combination
    size = str(rng.choice(list(SIZES)))
    group = Group(colour, shape, 1, size, str(rng.choice(COLUMNS)), str(rng.choice(ROWS)))
    return Scene((group,), _background(rng, (colour,)))


def several_scene(rng: np.random.Generator, combination: Combination) -> Scene:
    """Make a scene with two or three equal shapes, scattered over the picture."""
    group = Group(*combination, int(rng.integers(2, MAX_COUNT + 1)), str(rng.choice(("small", "medium"))))
    return Scene((group,), _background(rng, (group.colour,)))


def pair_scene(rng: np.random.Generator, first: Combination, second: Combination) -> Scene:
    """Make a scene with two different shapes, side by side or one above the other."""
    sizes = rng.choice(("small", "medium"), 2)
    if rng.random() < 0.5:
        places = (("left", str(rng.choice(ROWS))), ("right", str(rng.choice(ROWS))))
    else:
        places = ((str(rng.choice(COLUMNS)), "top"), (str(rng.choice(COLUMNS)), "bottom"))
    groups = (Group(*first, 1, str(sizes[0]), *places[0]), Group(*second, 1, str(sizes[1]), *places[1]))
    return Scene(groups, _background(rng, (first[0], second[0])))


def random_scene(rng: np.random.Generator, combinations: Sequence[Combination]) -> Scene:
    """Make a scene of a random kind (single, several, pair), with these combinations only."""
    kind = rng.random()
    first = combinations[int(rng.integers(len(combinations)))]
    if kind < 0.5:
        return single_scene(rng, first)
    if kind < 0.7:
        return several_scene(rng, first)
    others = [other for other in combinations if other[0] != first[0] and other[1] != first[1]]
    return pair_scene(rng, first, others[int(rng.integers(len(others)))])


def draw(rng: np.random.Generator, scene: Scene) -> Image.Image:
    """Draw a scene as an anti-aliased RGB picture with sides of 64 to 256 pixels."""
    return draw_with_covers(rng, scene)[0]


def draw_with_covers(rng: np.random.Generator, scene: Scene) -> tuple[Image.Image, list[Image.Image]]:
    """Draw a scene, and a mask for each group.

    Returns:
        The picture (mode RGB), and for each group a mask of the same size (mode L): 255 on its shapes, 0 elsewhere.
    """
    width, height = _canvas_size(rng)
    pixels = _backdrop(rng, width, height, BACKGROUNDS[scene.background])
    ground = pixels.reshape(-1, 3).mean(axis=0)
    covers = []
    for group, places in zip(scene.groups, _places(rng, scene, (width, height)), strict=True):
        colour = _jittered(rng, COLOURS[group.colour], 14.0)
        if np.linalg.norm(colour - ground) < MIN_CONTRAST / 2:
            colour = np.asarray(COLOURS[group.colour], np.float32)
        polygon = _tilted(rng, group.shape)
        cover = Image.new("L", (width, height))
        for x, y, diameter in places:
            _paint(pixels, cover, polygon * diameter + (x, y), colour)
        covers.append(cover)
    pixels += rng.normal(0.0, rng.uniform(0.0, 7.0), (height, width, 1)).astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), covers


def outline(shape: str) -> np.ndarray:
    """Return a shape's polygon, float64 [n, 2], with x to the right and y down, for a diameter of about 1.

    Raises:
        ValueError: there is no such shape.
    """
    turn = np.linspace(0.0, 2 * np.pi, 60, endpoint=False)
    match shape:
        case "circle":
            points = _polar(turn, np.full(60, 0.5))
        case "ring":
            # One polygon that follows the outer edge, then the inner edge backwards. The slit between the two edges is
            # vertical, because Pillow would draw a horizontal slit.
            closed = np.append(turn, 2 * np.pi) - np.pi / 2
            points = np.concatenate([_polar(closed, np.full(61, 0.5)), _polar(closed[::-1], np.full(61, 0.27))])
        case "square":
            points = np.array([(-0.42, -0.42), (0.42, -0.42), (0.42, 0.42), (-0.42, 0.42)])
        case "triangle":
            points = np.array([(0.0, -0.48), (0.5, 0.4), (-0.5, 0.4)])
        case "diamond":
            points = np.array([(0.0, -0.55), (0.42, 0.0), (0.0, 0.55), (-0.42, 0.0)])
        case "star":
            points = _polar(np.arange(10) * np.pi / 5 - np.pi / 2, np.where(np.arange(10) % 2, 0.22, 0.55))
        case "cross":
            arm, half = 0.17, 0.5
            quarter = np.array([(arm, arm), (arm, half), (-arm, half)])
            quarter_turn = np.array([[0, 1], [-1, 0]])
            points = np.concatenate([quarter @ np.linalg.matrix_power(quarter_turn, i) for i in range(4)])
        case "heart":
            # The common parametric heart curve, scaled to a box of side 1.
            x = 16 * np.sin(turn) ** 3
            y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
            points = np.stack([x / 33, (y - 2.5) / 31], axis=1)
        case "arrow":
            head, shaft = 0.38, 0.13
            points = np.array(
                [(-0.5, -shaft), (0.05, -shaft), (0.05, -head), (0.52, 0), (0.05, head), (0.05, shaft), (-0.5, shaft)]
            )
        case _:
            raise ValueError(f"no such shape: {shape}")
    return points


def _polar(angle: np.ndarray, radius: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _tilted(rng: np.random.Generator, shape: str) -> np.ndarray:
    """Rotate a shape's polygon by at most 10 degrees, so that a square does not become a diamond.

    An arrow also gets one of four directions.
    """
    angle = np.deg2rad(rng.uniform(-10, 10))
    if shape == "arrow":
        angle += rng.integers(4) * np.pi / 2
    cos, sin = np.cos(angle), np.sin(angle)
    turned: np.ndarray = outline(shape) @ np.array([[cos, sin], [-sin, cos]])
    return turned


def _background(rng: np.random.Generator, colours: Sequence[str]) -> str:
    """Choose a background with enough contrast to all colours. White is the most frequent."""
    allowed = [
        name
        for name, rgb in BACKGROUNDS.items()
        if name not in colours and all(np.linalg.norm(np.subtract(rgb, COLOURS[c])) >= MIN_CONTRAST for c in colours)
    ]
    weights = np.array([{"white": 4.0, "gray": 2.0}.get(name, 1.0) for name in allowed])
    return allowed[rng.choice(len(allowed), p=weights / weights.sum())]


def _canvas_size(rng: np.random.Generator) -> tuple[int, int]:
    """Choose width and height in pixels. The log of their ratio is uniform, up to MAX_ASPECT.

    The ratio varies because the server squashes every picture to a square.
    """
    low, high = CANVAS_SIDE
    short = rng.uniform(low, high / MAX_ASPECT)
    long = short * MAX_ASPECT ** rng.uniform(0, 1)
    return (round(long), round(short)) if rng.random() < 0.5 else (round(short), round(long))


def _jittered(rng: np.random.Generator, rgb: Sequence[int], spread: float) -> np.ndarray:
    """Shift a colour in brightness, and by less in each channel. The result is float32 [3], from 0 to 255."""
    shifted = np.asarray(rgb) + rng.uniform(-spread, spread) + rng.uniform(-spread / 2, spread / 2, 3)
    return np.clip(shifted, 0, 255).astype(np.float32)


def _backdrop(rng: np.random.Generator, width: int, height: int, rgb: Sequence[int]) -> np.ndarray:
    """Paint a background with a linear gradient, float32 [height, width, 3]."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 22)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * np.float32(np.cos(angle))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None] * np.float32(np.sin(angle))
    return _jittered(rng, rgb, 10.0) + np.float32(strength) * (x + y)


def _places(rng: np.random.Generator, scene: Scene, canvas: tuple[int, int]) -> list[list[tuple[float, float, float]]]:
    """Choose (x, y, diameter) in pixels for each shape of each group. A shape shrinks until it overlaps no other."""
    unit = float(np.sqrt(canvas[0] * canvas[1]))
    taken: list[tuple[float, float, float]] = []
    groups = []
    for group in scene.groups:
        scale = 0.85 if group.count > 1 else 1.0
        diameter = rng.uniform(*SIZES[group.size]) * unit * scale
        places = []
        for _ in range(group.count):
            for attempt in range(60):
                size = diameter * 0.97**attempt  # Shrink until there is room.
                x = _coordinate(rng, canvas[0], size, COLUMNS.index(group.column) if group.column else None)
                y = _coordinate(rng, canvas[1], size, ROWS.index(group.row) if group.row else None)
                if all(np.hypot(x - u, y - v) > 0.52 * (size + d) for u, v, d in taken):
                    break
            taken.append((x, y, size))
            places.append((x, y, size))
        groups.append(places)
    return groups


def _coordinate(rng: np.random.Generator, side: int, size: float, third: int | None) -> float:
    """Choose a centre along one axis, in pixels, such that the shape stays inside the picture.

    Args:
        third: the third of the axis, 0 to 2; None for any place.
    """
    low, high = (0.0, 1.0) if third is None else ((0.0, 0.34), (0.43, 0.57), (0.66, 1.0))[third]
    margin = min(0.53 * size, side / 2)
    start, stop = max(low * side, margin), min(high * side, side - margin)
    # A shape that is too large for its third touches that side of the picture.
    return (
        float(rng.uniform(start, stop))
        if start < stop
        else float(np.clip((low + high) / 2 * side, margin, side - margin))
    )


def _paint(pixels: np.ndarray, cover: Image.Image, polygon: np.ndarray, colour: np.ndarray) -> None:
    """Blend a polygon [n, 2] into `pixels`, float32 [H, W, 3], in place. Mark its pixels in the mask `cover`.

    Edges are anti-aliased by supersampling.
    """
    height, width = pixels.shape[:2]
    left, top = np.maximum(np.floor(polygon.min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(polygon.max(axis=0)).astype(int) + 1, (width, height))
    size = (int(right - left), int(bottom - top))
    if min(size) <= 0:
        return
    fine = Image.new("L", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING))
    ImageDraw.Draw(fine).polygon([(float(x), float(y)) for x, y in (polygon - (left, top)) * SUPERSAMPLING], fill=255)
    mask = fine.reduce(SUPERSAMPLING)
    cover.paste(255, (int(left), int(top)), mask)
    box = pixels[top:bottom, left:right]
    box += np.asarray(mask, np.float32)[..., None] / 255 * (colour - box)
