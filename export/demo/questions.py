"""Further questions to the demo variant: other wordings, counts, places, sizes, backgrounds, and colours of two shapes.

These questions have no floor. The README beside this file gives the demo variant's accuracy.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from export.demo.captions import NUMBERS, PLURALS
from export.demo.pictures import (
    BACKGROUNDS,
    COMBINATIONS,
    HELD_OUT,
    SEEN,
    Scene,
    pair_scene,
    several_scene,
    single_scene,
)

PICTURES: Final = 200
"""Number of pictures for each question."""

DOMAIN: Final = 1_000_033
"""First word of every seed in this module. It differs from the first words in training and in `evaluate`."""

WORDINGS: Final = ("{c} {s}", "A {C} {s}.", "THE {C} {S}", "a picture of a {c} {s}", "we painted one {c} {s} yesterday")
"""Wordings of a prompt. The last one contains words that training did not use."""

PLACES: Final = {
    "on the left": ("left", "middle"),
    "on the right": ("right", "middle"),
    "at the top": ("middle", "top"),
    "at the bottom": ("middle", "bottom"),
    "in the middle": ("middle", "middle"),
}


@dataclass(frozen=True)
class Question:
    """A kind of question. `answers` holds the possible answers to each of `scenes`, the right one first."""

    name: str
    scenes: list[Scene]
    answers: list[list[str]]


def questions(seed: int) -> list[Question]:
    """Make all questions. The same seed gives the same questions."""
    makers: dict[str, Callable[[np.random.Generator], tuple[Scene, list[str]]]] = {
        f'wording "{_fill(wording, "red", "star")}"': _wording(wording) for wording in WORDINGS
    }
    makers |= {
        'count ("two stars")': _count,
        'place ("a star on the left")': _place,
        'size ("a small star")': _size,
        'background ("a star on a gray background")': _background,
        'binding ("a red circle and a blue star" or "a blue circle and a red star")': _binding,
    }
    made = []
    for number, (name, make) in enumerate(makers.items()):
        rng = np.random.default_rng([DOMAIN, seed, number])
        pairs = [make(rng) for _ in range(PICTURES)]
        made.append(Question(name, [scene for scene, _ in pairs], [answers for _, answers in pairs]))
    return made


def _first(right: str, every: list[str]) -> list[str]:
    return [right, *(text for text in every if text != right)]


def _any(rng: np.random.Generator) -> Scene:
    return single_scene(rng, SEEN[rng.integers(len(SEEN))])


def _wording(template: str) -> Callable[[np.random.Generator], tuple[Scene, list[str]]]:
    def texts() -> list[str]:
        return [_fill(template, colour, shape) for colour, shape in COMBINATIONS]

    def make(rng: np.random.Generator) -> tuple[Scene, list[str]]:
        colour, shape = COMBINATIONS[rng.integers(len(COMBINATIONS))]
        return single_scene(rng, (colour, shape)), _first(_fill(template, colour, shape), texts())

    return make


def _fill(template: str, colour: str, shape: str) -> str:
    big = colour.upper() if "{S}" in template else colour.capitalize()
    return template.format(c=colour, C=big, s=shape, S=shape.upper())


def _count(rng: np.random.Generator) -> tuple[Scene, list[str]]:
    combination = SEEN[rng.integers(len(SEEN))]
    scene = single_scene(rng, combination) if rng.random() < 1 / 3 else several_scene(rng, combination)
    shape = combination[1]
    words = {n: f"{word} {shape if n == 1 else PLURALS[shape]}" for n, word in NUMBERS.items()}
    return scene, _first(words[scene.groups[0].count], list(words.values()))


def _place(rng: np.random.Generator) -> tuple[Scene, list[str]]:
    scene = _any(rng)
    words = list(PLACES)[rng.integers(len(PLACES))]
    column, row = PLACES[words]
    group = replace(scene.groups[0], column=column, row=row, size="small")
    texts = {place: f"a {group.shape} {place}" for place in PLACES}
    return replace(scene, groups=(group,)), _first(texts[words], list(texts.values()))


def _size(rng: np.random.Generator) -> tuple[Scene, list[str]]:
    scene = _any(rng)
    sizes = ["small", "large"]
    group = replace(scene.groups[0], size=sizes[rng.integers(2)])
    texts = {size: f"a {size} {group.shape}" for size in sizes}
    return replace(scene, groups=(group,)), _first(texts[group.size], list(texts.values()))


def _background(rng: np.random.Generator) -> tuple[Scene, list[str]]:
    scene = _any(rng)
    texts = {name: f"a {scene.groups[0].shape} on a {name} background" for name in BACKGROUNDS}
    return scene, _first(texts[scene.background], list(texts.values()))


def _binding(rng: np.random.Generator) -> tuple[Scene, list[str]]:
    while True:
        first, second = (SEEN[i] for i in rng.integers(len(SEEN), size=2))
        exchanged = {(first[0], second[1]), (second[0], first[1])}
        if first[0] != second[0] and first[1] != second[1] and exchanged.isdisjoint(HELD_OUT):
            break
    text = "a {} {} and a {} {}"
    right = text.format(*first, *second).replace("a orange", "an orange")
    wrong = text.format(second[0], first[1], first[0], second[1]).replace("a orange", "an orange")
    return pair_scene(rng, first, second), [right, wrong]
