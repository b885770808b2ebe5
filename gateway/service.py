"""The service behind the HTTP routes: choose the variant, embed, compare, classify. Knows neither HTTP nor gRPC.

    fetch -> decode -> preprocess  \\
                                     encode -> similarity
                       tokenize    /
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway import zero_shot
from gateway.concurrency import task_group
from gateway.encoder import Embeddings, Encoder, EncoderSpec
from gateway.errors import EncoderUnavailable, InvalidInput, UnknownVariant, too_many
from gateway.images.embedder import ImageEmbedder
from gateway.images.sources import ImageSource
from gateway.in_flight import current_request
from gateway.observe.stages import Stages
from gateway.similarity import cosine
from gateway.texts.embedder import TextEmbedder, TextEmbeddings

# The incumbent's default variant. It answers where several variants are loaded and the request names none.
PREFERRED_VARIANT: Final = "PE-Core-L14-336"


@dataclass(frozen=True, slots=True)
class Embedded:
    """The embeddings of N items.

    Attributes:
        embeddings: float32 [N, D], in the order of the items.
        truncated: indices of the texts that were truncated.
        tokens: sum of the texts' tokens.
    """

    embeddings: Embeddings
    truncated: list[int]
    tokens: int


@dataclass(frozen=True, slots=True)
class Compared:
    """The similarities of one query to N candidates.

    Attributes:
        similarities: float32 [N], in the order of the candidates.
        truncated: indices of the candidates that are texts and were truncated.
        query_truncated: whether the query is a text and was truncated.
    """

    similarities: NDArray[np.float32]
    truncated: list[int]
    query_truncated: bool


@dataclass(frozen=True, slots=True)
class Classified:
    """The classes of N images, of C possible ones.

    Attributes:
        classes: how well each class fits each image.
        truncated: indices of the classes with a truncated prompt.
    """

    classes: zero_shot.Classes
    truncated: list[int]


class EmbeddingService:
    """Embed and compare by one encoder. Raises the errors of `gateway/errors.py`, and no others.

    Args:
        max_images: in one request.
        max_texts: in one request.
        default_variant: answers requests that name none.
    """

    def __init__(
        self,
        encoder: Encoder,
        images: ImageEmbedder,
        texts: TextEmbedder,
        max_images: int,
        max_texts: int,
        default_variant: str | None = None,
    ) -> None:
        self._encoder = encoder
        self._images = images
        self._texts = texts
        self._limits = {"images": max_images, "texts": max_texts}
        self._default_variant = default_variant

    def select(self, variant: str | None) -> EncoderSpec:
        """Choose a variant: the requested one, else the default, else the only one loaded, else `PREFERRED_VARIANT`.

        Raises:
            UnknownVariant: the variant is not loaded.
            EncoderUnavailable: no variant is loaded.
            InvalidInput: the request names none, several are loaded, and there is no default.
        """
        specs = self._encoder.specs
        if not specs:
            raise EncoderUnavailable("No model is ready yet. Try again in a moment.")
        wanted = self._default_variant if variant is None else variant
        if wanted is None:
            wanted = next(iter(specs)) if len(specs) == 1 else PREFERRED_VARIANT
            if wanted not in specs:
                raise InvalidInput(f"Several models are loaded, so the request must name one: {', '.join(specs)}.")
        if "/" in wanted:
            raise InvalidInput("Invalid Model ID sent in request.")
        if (spec := specs.get(wanted)) is None:
            raise UnknownVariant(wanted, list(specs))
        return spec

    async def embed(self, spec: EncoderSpec, items: Sequence[ImageSource | str], stages: Stages) -> Embedded:
        """Embed images and texts (`str`) in any mixture. The two towers work concurrently.

        Raises:
            InvalidInput: there are too many images or texts, or a text is too long.
            InvalidImage: an image cannot be loaded.
            ServerError: the encoder failed.
        """
        self._check_counts(items, stages)
        return await self._embed(spec, items, stages)

    async def compare(
        self, spec: EncoderSpec, query: ImageSource | str, candidates: Sequence[ImageSource | str], stages: Stages
    ) -> Compared:
        """Compare one image or text with N others. Items for the same tower are embedded as one batch.

        Raises:
            InvalidInput, InvalidImage, ServerError: as for `embed`.
        """
        self._check_counts(candidates, stages)
        embedded = await self._embed(spec, [query, *candidates], stages)
        with stages.measure("similarity"):
            similarities = cosine(embedded.embeddings[0], embedded.embeddings[1:])
        truncated = embedded.truncated
        return Compared(similarities, [index - 1 for index in truncated if index], 0 in truncated)

    async def classify(
        self, spec: EncoderSpec, images: Sequence[ImageSource], classes: Sequence[Sequence[str]], stages: Stages
    ) -> Classified:
        """Compare N images with C classes, each given by its prompts.

        Raises:
            InvalidInput: as for `embed`, or the model's configuration has no logit scale.
            InvalidImage, ServerError: as for `embed`.
        """
        logit_scale = _logit_scale(spec)
        texts = [prompt for prompts in classes for prompt in prompts]
        embedded = await self.embed(spec, [*images, *texts], stages)
        counts = list(map(len, classes))
        of_images, of_prompts = np.split(embedded.embeddings, [len(images)])
        with stages.measure("similarity"):
            found = await asyncio.to_thread(zero_shot.classify, of_images, of_prompts, counts, logit_scale)
        class_of = np.repeat(np.arange(len(classes)), counts)
        truncated = sorted({int(class_of[index - len(images)]) for index in embedded.truncated})
        return Classified(found, truncated)

    def _check_counts(self, items: Sequence[ImageSource | str], stages: Stages) -> None:
        stages.items = len(items)
        texts = sum(isinstance(item, str) for item in items)
        for what, count in (("images", len(items) - texts), ("texts", texts)):
            if count > self._limits[what]:
                raise too_many(what, count, self._limits[what])

    async def _embed(self, spec: EncoderSpec, items: Sequence[ImageSource | str], stages: Stages) -> Embedded:
        """Embed items whose number was checked. Items of one kind alone need no task."""
        images = {index: item for index, item in enumerate(items) if not isinstance(item, str)}
        texts = {index: item for index, item in enumerate(items) if isinstance(item, str)}
        if not texts:
            if not images:
                return Embedded(np.empty((0, spec.embed_dim), np.float32), [], 0)
            return Embedded(await self._images.embed(spec, list(images.values()), stages), [], 0)
        if not images:
            return Embedded(*await self._texts.embed(spec, list(texts.values()), stages))
        async with task_group() as group:
            of_images = group.create_task(self._images.embed(spec, list(images.values()), stages))
            of_texts = group.create_task(self._embed_texts(spec, list(texts.values()), stages))
        embeddings = np.empty((len(items), spec.embed_dim), np.float32)
        embeddings[list(images)] = of_images.result()
        embeddings[list(texts)] = of_texts.result().embeddings
        text_indices = list(texts)
        truncated = [text_indices[i] for i in of_texts.result().truncated]
        return Embedded(embeddings, truncated, of_texts.result().tokens)

    async def _embed_texts(self, spec: EncoderSpec, texts: Sequence[str], stages: Stages) -> TextEmbeddings:
        """Embed texts while images of the same request may be waiting for other servers."""
        async with current_request().working():
            return await self._texts.embed(spec, texts, stages)


def _logit_scale(spec: EncoderSpec) -> float:
    """The logit scale that the exporter wrote into the configuration of the text tower."""
    try:
        return float(spec.text.certificate["logit_scale"])
    except (KeyError, ValueError):
        raise InvalidInput(
            f"The configuration of {spec.variant} has no logit scale, so there are no probabilities. Use `compare`."
        ) from None
