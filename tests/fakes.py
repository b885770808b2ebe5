"""Fakes of Triton and of the image fetcher. Embeddings depend on the content, so that tests notice mixed-up items."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np

from gateway.encoder import Embeddings, EncoderSpec, Pixels, Tokens, TowerSpec
from gateway.errors import GatewayError, InvalidImage
from gateway.images.base64_input import unescaped
from gateway.images.confined.image_worker import load
from gateway.images.confined.messages import Source
from gateway.images.decoder import Decoded, LoadedSource
from gateway.images.preprocess import preprocess
from gateway.images.sources import ArrayImage, Base64Image, EncodedImage
from gateway.in_flight import ReserveBytes
from gateway.json_string import EscapedString, LongString

EMBED_DIM = 8


def fake_spec(
    variant: str = "PE-Fake-T8-16", max_batch_size: int = 8, token_lengths: tuple[int, ...] = (8,)
) -> EncoderSpec:
    certificate = {
        "variant": variant, "engine": "none", "precision": "fp32", "notice": "A fake.", "logit_scale": "10.0"
    }  # fmt: skip
    return EncoderSpec(
        variant=variant,
        image_size=(16, 16),
        token_lengths=token_lengths,
        embed_dim=EMBED_DIM,
        vision=TowerSpec(max_batch_size, "1", {**certificate, "tower": "vision"}),
        text=TowerSpec(max_batch_size, "1", {**certificate, "tower": "text"}),
    )


class FakeEncoder:
    """An encoder whose unit vectors depend on the mean colour of an image, or on the tokens of a text.

    Args:
        error: raised by every call.
        seconds: duration of every call.

    Attributes:
        batches: kind and size of the calls.
        token_lengths: the length of the tokens of each call with texts.
        cancelled: number of calls that were cancelled.
    """

    def __init__(self, *specs: EncoderSpec, error: GatewayError | None = None, seconds: float = 0) -> None:
        self.specs: Mapping[str, EncoderSpec] = {spec.variant: spec for spec in specs or (fake_spec(),)}
        self.error = error
        self.seconds = seconds
        self.batches: list[tuple[str, int]] = []
        self.token_lengths: list[int] = []
        self.cancelled = 0
        self.entered = False

    async def __aenter__(self) -> Self:
        self.entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.entered = False

    async def ready(self) -> bool:
        return bool(self.specs)

    async def encode_images(self, spec: EncoderSpec, images: Pixels) -> Embeddings:
        assert images.dtype == np.uint8
        assert images.shape[1:] == (*spec.image_size, 3)
        return await self._answer(spec, "images", images.mean(axis=(1, 2)), spec.vision.max_batch_size)

    async def encode_texts(self, spec: EncoderSpec, tokens: Tokens) -> Embeddings:
        assert tokens.dtype == np.int32
        assert tokens.shape[1] in spec.token_lengths
        self.token_lengths.append(tokens.shape[1])
        padded = np.pad(tokens, ((0, 0), (0, spec.context_length - tokens.shape[1])))
        return await self._answer(spec, "texts", padded, spec.text.max_batch_size)

    async def _answer(self, spec: EncoderSpec, kind: str, rows: np.ndarray, limit: int) -> Embeddings:  # type: ignore[type-arg]
        assert 1 <= len(rows) <= limit
        self.batches.append((kind, len(rows)))
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return np.stack([unit_vector(row, spec.embed_dim) for row in rows])


def unit_vector(row: np.ndarray, embed_dim: int = EMBED_DIM) -> np.ndarray:  # type: ignore[type-arg]
    """The fake's vector [D] for these values: random, and the same for the same values."""
    seed = np.round(np.asarray(row, np.float64), 3).tobytes()
    vector = np.random.default_rng(np.frombuffer(seed, np.uint8).astype(np.uint32)).normal(size=embed_dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class FakeFetch:
    """A fetcher whose images by URL come from a dictionary."""

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.closed = False

    async def __call__(self, url: str, reserve: ReserveBytes) -> bytes:
        if url not in self.files:
            raise InvalidImage("Data pointed by URL could not be decoded into image.")
        reserve(len(self.files[url]))
        return self.files[url]

    async def aclose(self) -> None:
        self.closed = True


class InlineDecoder:
    """Decodes as a worker does, but in this process and on the event loop.

    Unit tests use it, because the start of the real processes takes 0.3 s. tests/gateway/images/confined tests those.
    """

    def __init__(self, max_pixels: int = 100_000_000) -> None:
        self.max_pixels = max_pixels

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def decode(self, source: LoadedSource, image_size: tuple[int, int]) -> Decoded:
        match source:
            case EncodedImage(data):
                image = load(Source.FILE, bytes(data), self.max_pixels)
            case Base64Image(text):
                image = load(Source.BASE64, _bytes(text), self.max_pixels)
            case ArrayImage(text):
                image = load(Source.ARRAY, _bytes(text), self.max_pixels)
        return Decoded(preprocess(image, image_size), 0, 0, 0)


class RefusingDecoder(InlineDecoder):
    """Finds no image, at no cost: for tests of all that comes before decoding."""

    async def decode(self, source: LoadedSource, image_size: tuple[int, int]) -> Decoded:
        raise InvalidImage("Data is not image.")


def _bytes(text: str | LongString) -> bytes:
    if isinstance(text, EscapedString):
        return unescaped(bytes(text.content))
    return text.encode(errors="surrogatepass") if isinstance(text, str) else bytes(text)
