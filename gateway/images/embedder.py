"""Embed images: fetch, decode, preprocess, encode."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from gateway.arrays import stacked
from gateway.concurrency import gather
from gateway.encoder import Embeddings, Encoder, EncoderSpec, Pixels
from gateway.errors import InvalidImage
from gateway.images.decode import decode
from gateway.images.fetch import Fetch
from gateway.images.numpy_input import read_array
from gateway.images.preprocess import preprocess
from gateway.images.sources import ArrayImage, Base64Image, EncodedImage, ImageSource, UrlImage, decode_base64
from gateway.in_flight import RequestReservation, current_request
from gateway.observe.stages import Stages

# Images of a long list go to Triton in groups of this size, while later images are still being decoded.
_GROUP_SIZE: Final = 8

LoadedSource = EncodedImage | Base64Image | ArrayImage

_NOT_AN_IMAGE: Final = "Data is not image."


class ImageEmbedder:
    """Embed images by an encoder's vision towers, for requests that `InFlightLimiter` has admitted.

    Args:
        pool: decodes and preprocesses.
        max_pixels: of one image.
        allow_arrays: whether an image may be a numpy array.
    """

    def __init__(
        self,
        encoder: Encoder,
        fetch: Fetch,
        pool: Executor,
        max_pixels: int,
        allow_arrays: bool,
    ) -> None:
        self._encoder = encoder
        self._fetch = fetch
        self._pool = pool
        self._max_pixels = max_pixels
        self._allow_arrays = allow_arrays

    async def embed(self, spec: EncoderSpec, images: Sequence[ImageSource], stages: Stages) -> Embeddings:
        """Embed N images.

        Returns:
            Embeddings float32 [N, D], in order.

        Raises:
            InvalidImage: an image cannot be loaded; the work on the others is cancelled.
            ServerError: the encoder failed.
            Overloaded: there are too many fetches, or bytes of them.
        """
        request = current_request()
        if urls := sum(isinstance(source, UrlImage) for source in images):
            request.expect_fetches(urls)
        size = min(_GROUP_SIZE, spec.vision.max_batch_size)
        groups = [images[i : i + size] for i in range(0, len(images), size)]
        parts = await gather([self._embed_group(spec, group, stages, request) for group in groups])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    async def _embed_group(
        self, spec: EncoderSpec, images: Sequence[ImageSource], stages: Stages, request: RequestReservation
    ) -> Embeddings:
        pixels = await gather([self._pixels(source, spec.image_size, stages, request) for source in images])
        stages.batches.append(("vision", len(pixels)))
        async with request.working():
            with stages.measure("encode"):
                return await self._encoder.encode_images(spec, stacked(pixels))

    async def _pixels(
        self, source: ImageSource, image_size: tuple[int, int], stages: Stages, request: RequestReservation
    ) -> Pixels:
        """Load one image as uint8 [H, W, 3]. Errors name the image by the index of its source."""
        try:
            if isinstance(source, UrlImage):
                with request.reserve() as reservation:
                    async with request.waiting_for_server():
                        with stages.measure("fetch"):
                            data = await self._fetch(source.url, reservation.add)
                    async with request.working():
                        return await self._prepare(EncodedImage(data), image_size, stages)
            if isinstance(source, ArrayImage) and not self._allow_arrays:
                raise InvalidImage("NumPy image type is not supported in this configuration of `inference`.")
            async with request.working():
                return await self._prepare(source, image_size, stages)
        except InvalidImage as error:
            error.index = source.index
            raise

    async def _prepare(self, source: LoadedSource, image_size: tuple[int, int], stages: Stages) -> Pixels:
        """Decode and preprocess in a thread.

        If the request is cancelled before a thread is free, the job does not run and its source is released at once.
        """
        job = _Job(source, self._max_pixels, image_size)
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(self._pool, job)
        finally:
            job.source = None  # A cancelled job remains in the pool's queue until a thread discards it.
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
    """Decode and preprocess one image, and measure both."""

    def __init__(self, source: LoadedSource, max_pixels: int, image_size: tuple[int, int]) -> None:
        self.source: LoadedSource | None = source
        self._max_pixels = max_pixels
        self._image_size = image_size
        self._queued_at = time.perf_counter()

    def __call__(self) -> _Prepared:
        start = time.perf_counter()
        source = self.source
        assert source is not None, "a cancelled job was run"
        image = _load(source, self._max_pixels)
        loaded = time.perf_counter()
        pixels = preprocess(image, self._image_size)
        return _Prepared(pixels, start - self._queued_at, loaded - start, time.perf_counter() - loaded)


def _load(source: LoadedSource, max_pixels: int) -> Image.Image:
    match source:
        case EncodedImage(data):
            return decode(data, max_pixels, _NOT_AN_IMAGE)
        case Base64Image(text):
            return decode(decode_base64(text), max_pixels, "Malformed base64 input image.")
        case ArrayImage(text):
            return Image.fromarray(read_array(decode_base64(text), max_pixels))
