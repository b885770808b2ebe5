"""Images to embeddings: fetch, decode, preprocess, encode."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from gateway.arrays import stacked
from gateway.concurrency import together
from gateway.decode import decode
from gateway.encoder import Embeddings, Encoder, EncoderSpec, Pixels
from gateway.errors import InvalidImage
from gateway.fetch import Fetch
from gateway.numpy_input import read_array
from gateway.observe import Stages
from gateway.preprocess import preprocess
from gateway.sources import ArrayImage, Base64Image, EncodedImage, ImageSource, UrlImage, decode_base64

# Images of a long list go to Triton in groups of this size, while later ones are still being decoded.
_GROUP: Final = 8

_NOT_AN_IMAGE: Final = "Data is not image."


class ImageEmbedder:
    """Embeds by one encoder's vision towers.

    Args:
        pool: runs what keeps a CPU busy.
        max_pixels: of one image.
        allow_arrays: whether an image may be a numpy array.
    """

    def __init__(self, encoder: Encoder, fetch: Fetch, pool: Executor, max_pixels: int, allow_arrays: bool) -> None:
        self._encoder = encoder
        self._fetch = fetch
        self._pool = pool
        self._max_pixels = max_pixels
        self._allow_arrays = allow_arrays

    async def embed(self, spec: EncoderSpec, images: Sequence[tuple[int, ImageSource]], stages: Stages) -> Embeddings:
        """Embeddings float32 [N, D] of N images, in order; each comes with the index that an error names it by.

        Raises:
            InvalidImage: one cannot be loaded; the others' work is dropped.
            ServerError: the encoder failed.
        """
        size = min(_GROUP, spec.vision.max_batch_size)
        groups = [images[i : i + size] for i in range(0, len(images), size)]
        parts = await together([self._embed_group(spec, group, stages) for group in groups])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    async def _embed_group(
        self, spec: EncoderSpec, images: Sequence[tuple[int, ImageSource]], stages: Stages
    ) -> Embeddings:
        pixels = await together([self._pixels(source, index, spec.image_size, stages) for index, source in images])
        with stages.measure("encode"):
            return await self._encoder.encode_images(spec, stacked(pixels))

    async def _pixels(self, source: ImageSource, index: int, image_size: tuple[int, int], stages: Stages) -> Pixels:
        """One image as the tower takes it; the CPU's part of the way in a thread."""
        try:
            if isinstance(source, UrlImage):
                with stages.measure("fetch"):
                    data = await self._fetch(source.url)
                load = partial(_load, EncodedImage(data), self._max_pixels)
            elif isinstance(source, ArrayImage) and not self._allow_arrays:
                raise InvalidImage("NumPy image type is not supported in this configuration of `inference`.")
            else:
                load = partial(_load, source, self._max_pixels)
            prepared = await asyncio.get_running_loop().run_in_executor(self._pool, _prepare, load, image_size)
        except InvalidImage as error:
            raise InvalidImage(error.cause, index) from None
        stages.add("decode", prepared.decode_seconds)
        stages.add("preprocess", prepared.preprocess_seconds)
        return prepared.pixels


class _Prepared(NamedTuple):
    pixels: Pixels
    decode_seconds: float
    preprocess_seconds: float


def _load(source: EncodedImage | Base64Image | ArrayImage, max_pixels: int) -> Image.Image:
    match source:
        case EncodedImage(data):
            return decode(data, max_pixels, _NOT_AN_IMAGE)
        case Base64Image(text):
            return decode(decode_base64(text), max_pixels, "Malformed base64 input image.")
        case ArrayImage(text):
            return Image.fromarray(read_array(decode_base64(text), max_pixels))


def _prepare(load: Callable[[], Image.Image], image_size: tuple[int, int]) -> _Prepared:
    start = time.perf_counter()
    image = load()
    loaded = time.perf_counter()
    pixels = preprocess(image, image_size)
    return _Prepared(pixels, loaded - start, time.perf_counter() - loaded)
