"""What the server does with a request, free of HTTP and gRPC: choose the variant, embed, compare.

    fetch -> decode -> preprocess  \\
                                     encode -> similarity
                       tokenize    /
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gateway.concurrency import both
from gateway.encoder import Embeddings, Encoder, EncoderSpec
from gateway.errors import EncoderUnavailable, InvalidImage, InvalidInput, UnknownVariant
from gateway.images.embedder import ImageEmbedder
from gateway.images.sources import ImageSource
from gateway.observe.stages import Stages
from gateway.similarity import cosine
from gateway.texts.embedder import TextEmbedder

PREFERRED_VARIANT: Final = "PE-Core-L14-336"  # what the incumbent answers with, where several are loaded


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings float32 [N, D] of N items, which of them are truncated texts, and their texts' tokens together."""

    embeddings: Embeddings
    truncated: list[int]
    tokens: int


class EmbeddingService:
    """The pipeline over one encoder. Raises the errors of errors.py, and those only.

    Args:
        max_items: in one request.
        default_variant: what answers when none is named.
    """

    def __init__(
        self,
        encoder: Encoder,
        images: ImageEmbedder,
        texts: TextEmbedder,
        max_items: int,
        default_variant: str | None = None,
    ) -> None:
        self._encoder = encoder
        self._images = images
        self._texts = texts
        self._max_items = max_items
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
                raise InvalidInput(f"Several models are loaded, so the request must name one: {', '.join(specs)}.")
        if "/" in wanted:
            raise InvalidInput("Invalid Model ID sent in request.")
        if (spec := specs.get(wanted)) is None:
            raise UnknownVariant(wanted, list(specs))
        return spec

    async def embed(self, spec: EncoderSpec, items: Sequence[ImageSource | str], stages: Stages) -> Embedded:
        """Embeddings of images and texts (``str``) in any mixture, in order. The two towers work side by side.

        Raises:
            InvalidInput: too many items, or a text too long.
            InvalidImage: an image cannot be loaded; has its index where there are several items.
            ServerError: the encoder failed.
        """
        self._check_count(len(items), "items", stages)
        try:
            return await self._embed(spec, items, stages)
        except InvalidImage as error:
            raise InvalidImage(error.cause, error.index if len(items) > 1 else None) from None

    async def compare(
        self, spec: EncoderSpec, query: ImageSource | str, candidates: Sequence[ImageSource | str], stages: Stages
    ) -> Embeddings:
        """Similarities float32 [N] of one image or text to N others.

        What goes through the same tower goes as one batch.

        Raises:
            InvalidInput, ServerError: as for the embeddings. The index of an InvalidImage is a candidate's.
        """
        self._check_count(len(candidates), "prompts", stages)
        try:
            embeddings = (await self._embed(spec, [query, *candidates], stages)).embeddings
        except InvalidImage as error:
            index = error.index - 1 if error.index and len(candidates) > 1 else None
            raise InvalidImage(error.cause, index) from None
        with stages.measure("similarity"):
            return cosine(embeddings[0], embeddings[1:])

    def _check_count(self, count: int, what: str, stages: Stages) -> None:
        stages.items = count
        if count > self._max_items:
            raise InvalidInput(f"Too many {what}: {count} came, at most {self._max_items} are allowed.")

    async def _embed(self, spec: EncoderSpec, items: Sequence[ImageSource | str], stages: Stages) -> Embedded:
        images = [(i, item) for i, item in enumerate(items) if not isinstance(item, str)]
        texts = [(i, item) for i, item in enumerate(items) if isinstance(item, str)]
        if not texts:
            if not images:
                return Embedded(np.empty((0, spec.embed_dim), np.float32), [], 0)
            return Embedded(await self._images.embed(spec, images, stages), [], 0)
        strings = [text for _, text in texts]
        if not images:
            return Embedded(*await self._texts.embed(spec, strings, stages))
        of_images, of_texts = await both(
            self._images.embed(spec, images, stages), self._texts.embed(spec, strings, stages)
        )
        embeddings = np.empty((len(items), spec.embed_dim), np.float32)
        embeddings[[i for i, _ in images]] = of_images
        embeddings[[i for i, _ in texts]] = of_texts.embeddings
        return Embedded(embeddings, [texts[i][0] for i in of_texts.truncated], of_texts.tokens)
