"""What the server does with a request: embed images, embed texts, compare. No HTTP and no gRPC here.

    decode -> preprocess | tokenize -> encode -> similarity

Only this module awaits and hands work to threads; the stages themselves are plain functions.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from gateway.decode import decode
from gateway.encoder import Embeddings, Encoder, EncoderSpec, Pixels, Tokens
from gateway.errors import EncoderUnavailable, InvalidImage, InvalidInput, UnknownVariant
from gateway.fetch import Fetch
from gateway.numpy_input import read_array
from gateway.observe import Stages
from gateway.preprocess import preprocess
from gateway.similarity import cosine
from gateway.sources import ArrayImage, Base64Image, EncodedImage, ImageSource, UrlImage, decode_base64
from gateway.tokenizer import Tokenizer

PREFERRED_VARIANT: Final = "PE-Core-L14-336"  # what the incumbent answers with, where several are loaded

# Images of a long list go to Triton in groups of this size while later ones are still being decoded.
_GROUP: Final = 8
# Texts longer than this together are tokenised off the event loop (about 5 ms).
_INLINE_CHARACTERS: Final = 5_000

_A = TypeVar("_A")
_B = TypeVar("_B")
_Sliceable = TypeVar("_Sliceable", Sequence[tuple[int | None, ImageSource]], Tokens)
_Indexed = tuple[int | None, ImageSource]  # an image and its place in the request's list, if it came in one


@dataclass(frozen=True)
class InputLimits:
    """What one request may hold."""

    max_items: int
    max_image_pixels: int
    max_text_characters: int
    allow_arrays: bool = False


class TextEmbeddings(NamedTuple):
    """Embeddings [N, D], and which of the N texts were longer than the context."""

    embeddings: Embeddings
    truncated: list[int]


class EmbeddingService:
    """The pipeline over one encoder. Raises the errors of errors.py, and those only."""

    def __init__(
        self, encoder: Encoder, fetch: Fetch, pool: Executor, limits: InputLimits, default_variant: str | None = None
    ) -> None:
        self._encoder = encoder
        self._fetch = fetch
        self._pool = pool
        self._limits = limits
        self._default_variant = default_variant

    def select(self, variant: str | None) -> EncoderSpec:
        """The variant asked for, or else the configured one, the only one loaded, or L14-336.

        Raises:
            UnknownVariant: it is not loaded.
            EncoderUnavailable: nothing is.
            InvalidInput: several are, and none was asked for.
        """
        specs = self._encoder.specs
        if not specs:
            raise EncoderUnavailable("No model is ready yet. Try again in a moment.")
        wanted = self._default_variant if variant is None else variant
        if wanted is None:
            wanted = next(iter(specs)) if len(specs) == 1 else PREFERRED_VARIANT
            if wanted not in specs:
                raise InvalidInput(
                    f"Several models are loaded: say which by `perception_encoder_version_id`: {', '.join(specs)}."
                )
        if "/" in wanted:
            raise InvalidInput("Invalid Model ID sent in request.")
        if (spec := specs.get(wanted)) is None:
            raise UnknownVariant(wanted, list(specs))
        return spec

    async def embed_images(self, spec: EncoderSpec, sources: Sequence[ImageSource], stages: Stages) -> Embeddings:
        """Embeddings float32 [N, D] of N images, in order.

        Raises:
            InvalidInput: too many or none; InvalidImage, with its index, for one that cannot be loaded.
            ServerError: the encoder failed.
        """
        self._check_count(len(sources), "images")
        if not sources:
            raise InvalidInput("The list of images is empty.")
        return await self._images(spec, _indexed(sources), stages)

    async def embed_texts(self, spec: EncoderSpec, texts: Sequence[str], stages: Stages) -> TextEmbeddings:
        """Embeddings of N texts, in order; none of them gives [0, D].

        Raises:
            InvalidInput: too many, or one too long.
            ServerError: the encoder failed.
        """
        self._check_count(len(texts), "texts")
        return await self._texts(spec, texts, stages)

    async def compare(
        self,
        spec: EncoderSpec,
        query: ImageSource | str,
        candidates: Sequence[ImageSource] | Sequence[str],
        stages: Stages,
    ) -> Embeddings:
        """Similarities float32 [N] of one image or text to N candidates, which are all images or all texts.

        What goes through the same tower goes as one batch; the two towers work side by side.

        Raises:
            InvalidInput, ServerError: as for the embeddings. The index of an InvalidImage is a candidate's.
        """
        self._check_count(len(candidates), "prompts")
        images = _indexed([c for c in candidates if not isinstance(c, str)])
        texts = [c for c in candidates if isinstance(c, str)]
        of_texts: Embeddings
        if isinstance(query, str):
            (of_texts, _), of_images = await _both(
                self._texts(spec, [query, *texts], stages), self._images(spec, images, stages)
            )
            of_query, of_texts = of_texts[0], of_texts[1:]
        else:
            (of_texts, _), of_images = await _both(
                self._texts(spec, texts, stages), self._images(spec, [(None, query), *images], stages)
            )
            of_query, of_images = of_images[0], of_images[1:]
        with stages.measure("similarity"):
            return cosine(of_query, of_images if images else of_texts)

    def _check_count(self, count: int, what: str) -> None:
        if count > self._limits.max_items:
            raise InvalidInput(f"Too many {what}: {count} came, at most {self._limits.max_items} are allowed.")

    async def _images(self, spec: EncoderSpec, images: Sequence[_Indexed], stages: Stages) -> Embeddings:
        size = min(_GROUP, spec.vision.max_batch_size)
        return await _concatenated(
            [self._image_group(spec, group, stages) for group in _groups(images, size)], spec.embed_dim
        )

    async def _image_group(self, spec: EncoderSpec, images: Sequence[_Indexed], stages: Stages) -> Embeddings:
        pixels = await _together([self._pixels(source, index, spec.image_size, stages) for index, source in images])
        with stages.measure("encode"):
            return await self._encoder.encode_images(spec, np.stack(pixels))

    async def _pixels(
        self, source: ImageSource, index: int | None, image_size: tuple[int, int], stages: Stages
    ) -> Pixels:
        """One image, from its source to the tower's input; the CPU's part of it in a thread."""
        try:
            if isinstance(source, UrlImage):
                with stages.measure("fetch"):
                    data = await self._fetch(source.url)
                load = partial(decode, data, self._limits.max_image_pixels, "Data is not image.")
            else:
                if isinstance(source, ArrayImage) and not self._limits.allow_arrays:
                    raise InvalidImage("NumPy image type is not supported in this configuration of `inference`.")
                load = partial(_load, source, self._limits.max_image_pixels)
            prepared = await asyncio.get_running_loop().run_in_executor(self._pool, _prepare, load, image_size)
        except InvalidImage as error:
            raise InvalidImage(error.cause, index) from None
        stages.add("decode", prepared.decode_seconds)
        stages.add("preprocess", prepared.preprocess_seconds)
        return prepared.pixels

    async def _texts(self, spec: EncoderSpec, texts: Sequence[str], stages: Stages) -> TextEmbeddings:
        longest = max(map(len, texts), default=0)
        if longest > self._limits.max_text_characters:
            limit = self._limits.max_text_characters
            raise InvalidInput(f"A text has {longest} characters; at most {limit} are allowed.")
        if not texts:
            return TextEmbeddings(np.empty((0, spec.embed_dim), np.float32), [])
        with stages.measure("tokenize"):
            encode_all = partial(_tokenize, texts, spec.context_length)
            if sum(map(len, texts)) <= _INLINE_CHARACTERS:
                tokens, truncated = encode_all()
            else:
                tokens, truncated = await asyncio.get_running_loop().run_in_executor(self._pool, encode_all)
        with stages.measure("encode"):
            groups = _groups(tokens, spec.text.max_batch_size)
            embeddings = await _concatenated(
                [self._encoder.encode_texts(spec, group) for group in groups], spec.embed_dim
            )
        return TextEmbeddings(embeddings, truncated)


def _indexed(sources: Sequence[ImageSource]) -> list[_Indexed]:
    return list(enumerate(sources)) if len(sources) > 1 else [(None, source) for source in sources]


class _Prepared(NamedTuple):
    pixels: Pixels
    decode_seconds: float
    preprocess_seconds: float


def _load(source: EncodedImage | Base64Image | ArrayImage, max_pixels: int) -> Image.Image:
    if isinstance(source, ArrayImage):
        return Image.fromarray(read_array(decode_base64(source.text), max_pixels))
    return decode(source.data if isinstance(source, EncodedImage) else decode_base64(source.text), max_pixels)


def _prepare(load: Callable[[], Image.Image], image_size: tuple[int, int]) -> _Prepared:
    start = time.perf_counter()
    image = load()
    loaded = time.perf_counter()
    pixels = preprocess(image, image_size)
    return _Prepared(pixels, loaded - start, time.perf_counter() - loaded)


def _tokenize(texts: Sequence[str], context_length: int) -> tuple[Tokens, list[int]]:
    """Tokens int32 [N, L] of N texts, and which of them were truncated."""
    tokenizer = Tokenizer(context_length)
    encodings = [tokenizer.encode(text) for text in texts]
    return np.stack([e.tokens for e in encodings]), [i for i, e in enumerate(encodings) if e.truncated]


def _groups(items: _Sliceable, size: int) -> list[_Sliceable]:
    return [items[i : i + size] for i in range(0, len(items), size)]


async def _concatenated(parts: Sequence[Coroutine[Any, Any, Embeddings]], embed_dim: int) -> Embeddings:
    """The parts' embeddings one after the other, [0, D] if there are none."""
    embeddings = await _together(parts)
    if len(embeddings) == 1:
        return embeddings[0]
    return np.concatenate(embeddings) if embeddings else np.empty((0, embed_dim), np.float32)


async def _together(coroutines: Sequence[Coroutine[Any, Any, _A]]) -> list[_A]:
    """Their results, in order. The first failure is raised as it is, once the others have been cancelled."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
    with _first_failure():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    return [task.result() for task in tasks]


async def _both(a: Coroutine[Any, Any, _A], b: Coroutine[Any, Any, _B]) -> tuple[_A, _B]:
    """As ``_together``, for two results of different types."""
    with _first_failure():
        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(a), group.create_task(b)
    return first.result(), second.result()


@contextmanager
def _first_failure() -> Iterator[None]:
    """A task group's failures, as the one that came first."""
    try:
        yield
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
