"""Training data, drawn once before training: pictures, captions as tokens, and the encoded meaning of both."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Final

import numpy as np
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from export.demo.captions import WIDTH, captions, encode_caption, encode_scene, swapped
from export.demo.pictures import SEEN, draw_with_covers, random_scene

IMAGE_SIZE: Final = 64
CONTEXT_LENGTH: Final = 32
CAPTIONS: Final = 7
"""Number of captions for each picture. The last one is false (colours exchanged) if the scene allows it, else true."""

PATCHES: Final = 8
"""Number of patches per side: 64 pixels in patches of 8."""
COVERED: Final = 0.15
"""A patch belongs to a group of shapes if the group covers more than this fraction of the patch."""

CHUNK: Final = 500


@dataclass(frozen=True)
class Dataset:
    """N pictures with their captions. `truth(scenes, claims)` decides which caption is true of which picture."""

    pictures: np.ndarray  # uint8 [N, 64, 64, 3]
    scenes: np.ndarray  # int8 [N, WIDTH]
    patches: np.ndarray  # int8 [N, 64], row-major: the group that covers a patch, 1 or 2; 0 for the background
    tokens: np.ndarray  # uint16 [N, CAPTIONS, CONTEXT_LENGTH]
    claims: np.ndarray  # int8 [N, CAPTIONS, WIDTH]

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[np.ndarray]:
        """Yield the indices of batches, int64 [size], without end. An epoch uses no picture twice."""
        while True:
            order = rng.permutation(len(self.pictures))
            yield from order[: len(order) // size * size].reshape(-1, size)


def squash(picture: Image.Image) -> np.ndarray:
    """Squash a picture to uint8 [64, 64, 3] as the server does. The aspect ratio is ignored."""
    return np.asarray(picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


def make_dataset(seed: int, size: int, processes: int) -> Dataset:
    """Draw `size` pictures with their captions. The result does not depend on the number of processes."""
    jobs = zip(repeat(seed), range(0, size, CHUNK), strict=False)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = pool.starmap(_chunk, jobs)
    return Dataset(*(np.concatenate(column)[:size] for column in zip(*parts, strict=True)))


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer(context_length=CONTEXT_LENGTH)


def _chunk(seed: int, start: int) -> tuple[np.ndarray, ...]:
    """Draw CHUNK pictures, starting at number `start`, with a random generator of their own.

    Returns:
        The fields of `Dataset`, with N = CHUNK.
    """
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
    """Find the group that covers each patch, int8 [64], as in `Dataset.patches`."""
    parts = [
        np.asarray(cover.resize((PATCHES, PATCHES), Image.Resampling.BOX), np.float32).ravel() / 255 for cover in covers
    ]
    stack = np.stack([np.full(PATCHES**2, COVERED, np.float32), *parts])
    owners: np.ndarray = stack.argmax(axis=0).astype(np.int8)
    return owners
