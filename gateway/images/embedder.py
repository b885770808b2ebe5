"""Embed images: fetch, decode and resize, encode."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from gateway.arrays import stacked
from gateway.concurrency import gather
from gateway.encoder import Embeddings, Encoder, EncoderSpec, Pixels
from gateway.errors import InvalidImage
from gateway.images.decoder import Decoder, LoadedSource
from gateway.images.fetch import Fetch
from gateway.images.sources import ArrayImage, EncodedImage, ImageSource, UrlImage
from gateway.in_flight import RequestReservation, current_request
from gateway.observe.stages import Stages

# Images of a long list go to Triton in groups of this size, while later images are still being decoded.
_GROUP_SIZE: Final = 8


class ImageEmbedder:
    """Embed images by an encoder's vision towers, for requests that `InFlightLimiter` has admitted.

    Args:
        decoder: decodes and resizes.
        allow_arrays: whether an image may be a numpy array.
    """

    def __init__(
        self,
        encoder: Encoder,
        fetch: Fetch,
        decoder: Decoder,
        allow_arrays: bool,
    ) -> None:
        self._encoder = encoder
        self._fetch = fetch
        self._decoder = decoder
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
                        return await self._decode(EncodedImage(data), image_size, stages)
            if isinstance(source, ArrayImage) and not self._allow_arrays:
                raise InvalidImage("NumPy image type is not supported in this configuration of `inference`.")
            async with request.working():
                return await self._decode(source, image_size, stages)
        except InvalidImage as error:
            error.index = source.index
            raise

    async def _decode(self, source: LoadedSource, image_size: tuple[int, int], stages: Stages) -> Pixels:
        decoded = await self._decoder.decode(source, image_size)
        stages.add("queue", decoded.queue_seconds)
        stages.add("decode", decoded.decode_seconds)
        stages.add("preprocess", decoded.preprocess_seconds)
        return decoded.pixels
