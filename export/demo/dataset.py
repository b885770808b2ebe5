"""Training data, drawn once before training: pictures, captions as tokens, and what both mean."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import repeat

import numpy as np
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from export.demo.captions import WIDTH, captions, encode_caption, encode_scene, swapped
from export.demo.pictures import SEEN, draw_with_covers, random_scene

IMAGE_SIZE = 64
CONTEXT_LENGTH = 32
CAPTIONS = 7
"""A picture: the last is a false one (colours exchanged) where the scene allows it, else one more that is true."""

PATCHES = 8
"""Patches a side: the vision tower's 64 pixels in patches of 8."""
COVERED = 0.15
"""A patch belongs to the group of shapes that covers more than this part of it."""

CHUNK = 500


@dataclass(frozen=True)
class Dataset:
    """N pictures; `truth(scenes, claims)` says which caption is true of which picture."""

    pictures: np.ndarray  # uint8 [N, 64, 64, 3]
    scenes: np.ndarray  # int8 [N, WIDTH]
    patches: np.ndarray  # int8 [N, 64]: the group that covers a patch, 1 or 2, or 0 for the background; row-major
    tokens: np.ndarray  # uint16 [N, CAPTIONS, CONTEXT_LENGTH]
    claims: np.ndarray  # int8 [N, CAPTIONS, WIDTH]

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[np.ndarray]:
        """Indices of a batch, for ever; every picture comes once before any comes again."""
        while True:
            order = rng.permutation(len(self.pictures))
            yield from order[: len(order) // size * size].reshape(-1, size)


def squash(picture: Image.Image) -> np.ndarray:
    """uint8 [64, 64, 3]: the server's own resize, which ignores the aspect ratio."""
    return np.asarray(picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


def make_dataset(seed: int, size: int, processes: int) -> Dataset:
    """The same data for the same seed and size, however many processes draw it."""
    jobs = zip(repeat(seed), range(0, size, CHUNK), strict=False)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = pool.starmap(_chunk, jobs)
    return Dataset(*(np.concatenate(column)[:size] for column in zip(*parts, strict=True)))


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer(context_length=CONTEXT_LENGTH)


def _chunk(seed: int, start: int) -> tuple[np.ndarray, ...]:
    """CHUNK pictures with everything about them, from a generator of their own."""
    rng = np.random.default_rng([seed, start])
    tokenizer = _tokenizer()
    pictures = np.empty((CHUNK, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    scenes = np.empty((CHUNK, WIDTH), np.int8)
    patches = np.empty((CHUNK, PATCHES**2), np.int8)
    tokens = np.empty((CHUNK, CAPTIONS, CONTEXT_LENGTH), np.uint16)
    claims = np.empty((CHUNK, CAPTIONS, WIDTH), np.int8)
    for i in range(CHUNK):
        scene = random_scene(rng, SEEN)
        picture, covers = draw_with_covers(rng, scene)
        pictures[i] = squash(picture)
        patches[i] = _owners(covers)
        scenes[i] = encode_scene(scene)
        said = captions(rng, scene, CAPTIONS)
        said[-1] = swapped(rng, scene) or said[-1]
        tokens[i] = tokenizer([caption.text for caption in said]).numpy()
        claims[i] = [encode_caption(caption) for caption in said]
    return pictures, scenes, patches, tokens, claims


def _owners(covers: list[Image.Image]) -> np.ndarray:
    """int8 [64]: see `Dataset.patches`."""
    parts = [
        np.asarray(cover.resize((PATCHES, PATCHES), Image.Resampling.BOX), np.float32).ravel() / 255 for cover in covers
    ]
    stack = np.stack([np.full(PATCHES**2, COVERED, np.float32), *parts])
    owners: np.ndarray = stack.argmax(axis=0).astype(np.int8)
    return owners
