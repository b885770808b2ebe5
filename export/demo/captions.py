"""Write captions of a scene, and decide which captions are true of which scenes.

A caption has a text and the claims that the text makes. The claims tell training if the caption is also true of another
picture of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from export.demo.pictures import (
    BACKGROUNDS,
    COLOURS,
    COLUMNS,
    HELD_OUT,
    MAX_COUNT,
    ROWS,
    SHAPES,
    SIZES,
    Group,
    Scene,
)

FALSE, UNSURE, TRUE = 0, 1, 2

NUMBERS: Final = {1: "one", 2: "two", 3: "three"}
PLURALS: Final = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}

A_FEW: Final = {"singular": 0, **{word: count for count, word in NUMBERS.items()}, "plural": MAX_COUNT + 1}
"""Values of `Claim.count`: "singular" (a circle), an exact number, or "plural" (circles)."""

TEMPLATES: Final = (
    "{}",
    "{}",
    "{}.",
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "this is {}",
    "there is {} in the picture",
    "a picture showing {}",
    "picture of {}",
    "{} in a picture",
    "I see {}.",
)


@dataclass(frozen=True)
class Claim:
    """What a caption says about one group of shapes. None means that the caption does not mention the field."""

    colour: str | None = None
    shape: str | None = None
    count: str | None = None
    size: str | None = None
    column: str | None = None
    row: str | None = None


@dataclass(frozen=True)
class Caption:
    """A text and its claims."""

    text: str
    claims: tuple[Claim, ...]
    background: str | None = None


def captions(rng: np.random.Generator, scene: Scene, number: int) -> list[Caption]:
    """Write `number` true captions of a scene, with varied wording and detail."""
    return [_caption(rng, scene) for _ in range(number)]


def swapped(rng: np.random.Generator, scene: Scene) -> Caption | None:
    """Write a false caption of a scene with two groups: the colours of the two shapes are exchanged.

    Returns:
        The caption. None if the scene has one group, or if an exchange gives a held-out combination.
    """
    if len(scene.groups) != 2:
        return None
    first, second = scene.groups
    if not {(second.colour, first.shape), (first.colour, second.shape)}.isdisjoint(HELD_OUT):
        return None
    exchanged = (
        Group(second.colour, first.shape, 1, first.size, first.column, first.row),
        Group(first.colour, second.shape, 1, second.size, second.column, second.row),
    )
    return _caption(rng, Scene(exchanged, scene.background))


def _caption(rng: np.random.Generator, scene: Scene) -> Caption:
    if len(scene.groups) == 2 and rng.random() < 0.7:
        order = scene.groups if rng.random() < 0.5 else scene.groups[::-1]
        detail = "place" if rng.random() < 0.3 else "plain"
        parts = [_phrase(rng, group, detail) for group in order]
        text, claims = " and ".join(phrase for phrase, _ in parts), tuple(claim for _, claim in parts)
    else:
        group = scene.groups[rng.integers(len(scene.groups))]
        detail = str(
            rng.choice(("plain", "colour", "shape", "size", "count", "place"), p=(0.42, 0.1, 0.1, 0.12, 0.14, 0.12))
        )
        text, claim = _phrase(rng, group, detail)
        claims = (claim,)
    background = scene.background if rng.random() < 0.2 else None
    if background:
        text += f" {rng.choice(('on', 'against'))} {rng.choice(('a ', 'a ', ''))}{_gray(rng, background)} background"
    text = str(rng.choice(TEMPLATES)).format(text)
    case = rng.random()
    text = text[0].upper() + text[1:] if case < 0.15 else text.upper() if case < 0.18 else text
    return Caption(text, claims, background)


def _phrase(rng: np.random.Generator, group: Group, detail: str) -> tuple[str, Claim]:
    """Write a noun phrase for a group.

    Args:
        detail: what the phrase says besides colour and shape ("size", "count", "place"), or which one of the two it
            says alone ("colour", "shape"). "plain" is colour and shape.

    Returns:
        The phrase and its claim.
    """
    colour: str | None = group.colour
    noun = PLURALS[group.shape] if group.count > 1 else group.shape
    shape: str | None = group.shape
    if detail == "colour":
        shape, noun = None, str(rng.choice(("shape", "object", "thing"))) + ("s" if group.count > 1 else "")
    words = [noun]
    if detail == "shape":
        colour = None
    else:
        words.insert(0, _gray(rng, group.colour))
    size = group.size if detail == "size" and group.size != "medium" else None
    if size:
        words.insert(0, str(rng.choice(("small", "little", "tiny") if size == "small" else ("large", "big"))))
    count = "plural" if group.count > 1 else "singular"
    if detail == "count" or (group.count > 1 and rng.random() < 0.6):
        count = NUMBERS[group.count]
        words.insert(
            0, str(rng.choice(("one", "a single", "exactly one"))) if group.count == 1 else _number(rng, group.count)
        )
    elif group.count > 1:
        words[:0] = [str(rng.choice(("some", "several")))] if rng.random() < 0.3 else []
    elif rng.random() < 0.75:
        words.insert(0, str(rng.choice(("the", *["an" if words[0][0] in "aeiou" else "a"] * 4))))
    column, row = (group.column, group.row) if detail == "place" else (None, None)
    if column and row:
        place, column, row = _place(rng, column, row)
        words.append(place)
    return " ".join(words), Claim(colour, shape, count, size, column, row)


def _place(rng: np.random.Generator, column: str, row: str) -> tuple[str, str | None, str | None]:
    """Write a phrase for a place. Return the phrase, and the column and row that it claims (None: not mentioned)."""
    if column == row == "middle":
        return str(rng.choice(("in the middle", "in the center", "in the centre"))), column, row
    if column == "middle":
        return f"at the {row}", None, row
    if row == "middle":
        return f"on the {column}", column, None
    choice = rng.random()
    if choice < 0.35:
        return f"on the {column}", column, None
    if choice < 0.7:
        return f"at the {row}", None, row
    return f"in the {row} {column}{rng.choice(('', ' corner'))}", column, row


def _number(rng: np.random.Generator, count: int) -> str:
    return str(count) if rng.random() < 0.2 else NUMBERS[count]


def _gray(rng: np.random.Generator, colour: str) -> str:
    return "grey" if colour == "gray" and rng.random() < 0.5 else colour


# `truth` is vectorised. Each field has a table [claimed value, true value]. Claimed value 0 means "not mentioned".


def _table(names: Sequence[str], *, shaded: dict[tuple[str, str], int] | None = None, absent: int = TRUE) -> np.ndarray:
    """Make a truth table for one field.

    Args:
        names: the n values of the field.
        shaded: truth of (claimed, true) pairs that differ from plain equality.
        absent: truth of every claim about a scene that has no value for the field (true value 0).

    Returns:
        FALSE, UNSURE or TRUE, int8 [1 + n, 1 + n], indexed by claimed and true value.
    """
    table = np.full((1 + len(names), 1 + len(names)), FALSE, np.int8)
    table[0] = TRUE
    table[1:, 0] = absent
    np.fill_diagonal(table, TRUE)
    for (claimed, actual), truth in (shaded or {}).items():
        table[1 + names.index(claimed), 1 + names.index(actual)] = truth
    return table


_SIZE_NAMES, _COUNT_NAMES = list(SIZES), list(A_FEW)
_COUNT_TABLE: Final = _table(
    _COUNT_NAMES,
    shaded={
        ("singular", "one"): TRUE,
        # "A circle" does not describe three circles exactly, but is not clearly false.
        ("singular", "two"): UNSURE,
        ("singular", "three"): UNSURE,
        ("plural", "two"): TRUE,
        ("plural", "three"): TRUE,
    },
)
_SIZE_TABLE: Final = _table(_SIZE_NAMES, shaded={("small", "medium"): UNSURE, ("large", "medium"): UNSURE})
_FIELDS: Final[tuple[tuple[str, list[str], np.ndarray], ...]] = (
    ("colour", list(COLOURS), _table(list(COLOURS))),
    ("shape", list(SHAPES), _table(SHAPES)),
    ("count", _COUNT_NAMES, _COUNT_TABLE),
    ("size", _SIZE_NAMES, _SIZE_TABLE),
    ("column", list(COLUMNS), _table(COLUMNS, absent=UNSURE)),
    ("row", list(ROWS), _table(ROWS, absent=UNSURE)),
)
_BACKGROUND_NAMES: Final = list(BACKGROUNDS)
_BACKGROUND_TABLE: Final = _table(_BACKGROUND_NAMES)

WIDTH: Final = 2 * (1 + len(_FIELDS)) + 1
"""Length of an encoded scene or caption: a presence flag and the fields of two groups or claims, and the background."""


def encode_scene(scene: Scene) -> np.ndarray:
    """Encode a scene for `truth`, as int8 [WIDTH]."""
    groups = [(g.colour, g.shape, NUMBERS[g.count], g.size, g.column, g.row) for g in scene.groups]
    return _encode(groups, scene.background)


def encode_caption(caption: Caption) -> np.ndarray:
    """Encode a caption's claims for `truth`, as int8 [WIDTH]."""
    claims = [(c.colour, c.shape, c.count, c.size, c.column, c.row) for c in caption.claims]
    return _encode(claims, caption.background)


def group_field(scenes: np.ndarray, field: str) -> np.ndarray:
    """Read one field of both groups from encoded scenes.

    Args:
        scenes: int8 [S, WIDTH].
        field: name of the field, as in `Claim`.

    Returns:
        int8 [S, 2]: 0 if the group has no value, else 1 + the index of the value.
    """
    offset = 1 + [name for name, _, _ in _FIELDS].index(field)
    return scenes[:, [offset, 1 + len(_FIELDS) + offset]]


def _encode(parts: Sequence[tuple[str | None, ...]], background: str | None) -> np.ndarray:
    row: list[int] = []
    for i in range(2):
        values = parts[i] if i < len(parts) else (None,) * len(_FIELDS)
        row.append(int(i < len(parts)))
        row += [0 if v is None else 1 + names.index(v) for v, (_, names, _) in zip(values, _FIELDS, strict=True)]
    row.append(0 if background is None else 1 + _BACKGROUND_NAMES.index(background))
    return np.array(row, np.int8)


def truth(scenes: np.ndarray, claims: np.ndarray) -> np.ndarray:
    """Decide which captions are true of which scenes. A claim is as true as its best match among the scene's groups.

    Args:
        scenes: encoded scenes, int8 [S, WIDTH].
        claims: encoded captions, int8 [C, WIDTH].

    Returns:
        FALSE, UNSURE or TRUE, int8 [S, C].
    """
    result: np.ndarray = _BACKGROUND_TABLE[claims[None, :, -1], scenes[:, None, -1]]
    step = 1 + len(_FIELDS)
    for c in range(2):
        claim = claims[:, c * step : (c + 1) * step]
        best = np.zeros_like(result)
        for g in range(2):
            group = scenes[:, g * step : (g + 1) * step]
            match = np.where(group[:, None, 0] == 1, np.int8(TRUE), np.int8(FALSE)) + np.zeros_like(result)
            for i, (_, _, table) in enumerate(_FIELDS, start=1):
                match = np.minimum(match, table[claim[None, :, i], group[:, None, i]])
            best = np.maximum(best, match)
        result = np.minimum(result, np.where(claim[None, :, 0] == 1, best, np.int8(TRUE)))
    return result
