"""Images to embeddings: fetch, decode, preprocess, encode."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from gateway.arrays import stacked
from gateway.concurrency import together
from gateway.encoder import Embeddings, Encoder, EncoderSpec, Pixels
from gateway.errors import InvalidImage
from gateway.images.decode import decode
from gateway.images.fetch import Fetch
from gateway.images.numpy_input import read_array
from gateway.images.preprocess import preprocess
from gateway.images.sources import ArrayImage, Base64Image, EncodedImage, ImageSource, UrlImage, decode_base64
from gateway.in_flight import InFlight
from gateway.observe.stages import Stages

# Images of a long list go to Triton in groups of this size, while later ones are still being decoded.
_GROUP: Final = 8

LoadedSource = EncodedImage | Base64Image | ArrayImage

_NOT_AN_IMAGE: Final = "Data is not image."


class ImageEmbedder:
    """Embeds by one encoder's vision towers.

    Args:
        pool: runs what keeps a CPU busy.
        in_flight: where fetched images find room.
        max_pixels: of one image.
        allow_arrays: whether an image may be a numpy array.
    """

    def __init__(
        self,
        encoder: Encoder,
        fetch: Fetch,
        pool: Executor,
        in_flight: InFlight,
        max_pixels: int,
        allow_arrays: bool,
    ) -> None:
        self._encoder = encoder
        self._fetch = fetch
        self._pool = pool
        self._in_flight = in_flight
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
        stages.batches.append(("vision", len(pixels)))
        with stages.measure("encode"):
            return await self._encoder.encode_images(spec, stacked(pixels))

    async def _pixels(self, source: ImageSource, index: int, image_size: tuple[int, int], stages: Stages) -> Pixels:
        """One image as the tower takes it."""
        try:
            if isinstance(source, UrlImage):
                with self._in_flight.share() as share:
                    with stages.measure("fetch"):
                        data = await self._fetch(source.url, share.take)
                    return await self._prepare(EncodedImage(data), image_size, stages)
            if isinstance(source, ArrayImage) and not self._allow_arrays:
                raise InvalidImage("NumPy image type is not supported in this configuration of `inference`.")
            return await self._prepare(source, image_size, stages)
        except InvalidImage as error:
            raise InvalidImage(error.cause, index) from None

    async def _prepare(self, source: LoadedSource, image_size: tuple[int, int], stages: Stages) -> Pixels:
        """The CPU's part of the way, in a thread. Cancelled, it is not begun, and its source not kept until then."""
        job = _Job(source, self._max_pixels, image_size)
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(self._pool, job)
        finally:
            job.source = None  # a cancelled job stays in the pool's queue until a thread comes by it
        stages.add("queue", prepared.queue_seconds)
        stages.add("decode", prepared.decode_seconds)
        stages.add("preprocess", prepared.preprocess_seconds)
        return prepared.pixels


class _Prepared(NamedTuple):
    pixels: Pixels
    queue_seconds: float
    decode_seconds: float
    preprocess_seconds: float


class _Job:
    """One image's way from its source to pixels."""

    def __init__(self, source: LoadedSource, max_pixels: int, image_size: tuple[int, int]) -> None:
        self.source: LoadedSource | None = source
        self._max_pixels = max_pixels
        self._image_size = image_size
        self._queued = time.perf_counter()

    def __call__(self) -> _Prepared:
        start = time.perf_counter()
        source = self.source
        assert source is not None, "a cancelled job was begun"
        image = _load(source, self._max_pixels)
        loaded = time.perf_counter()
        pixels = preprocess(image, self._image_size)
        return _Prepared(pixels, start - self._queued, loaded - start, time.perf_counter() - loaded)


def _load(source: LoadedSource, max_pixels: int) -> Image.Image:
    match source:
        case EncodedImage(data):
            return decode(data, max_pixels, _NOT_AN_IMAGE)
        case Base64Image(text):
            return decode(decode_base64(text), max_pixels, "Malformed base64 input image.")
        case ArrayImage(text):
            return Image.fromarray(read_array(decode_base64(text), max_pixels))
