"""The interface between the gateway and whatever runs the towers: Triton in production, a fake in tests."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Tokens = NDArray[np.int32]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class TowerSpec:
    """One served model: its maximum batch size, its version, and the `parameters` of its configuration.

    Attributes:
        instances: batches that one server runs at once. Two servers of one model may differ in it.
    """

    max_batch_size: int
    version: str = "1"
    certificate: Mapping[str, str] = field(default_factory=dict)
    instances: int = field(default=1, compare=False)

    @property
    def weights(self) -> Hashable:
        """The identity of the weights: the checkpoint's digest, which the exporter writes into the configuration.

        The weights of a model that the exporter did not make are unknown, so all that is known of it stands for them.
        """
        return self.certificate.get("checkpoint_sha256") or (self.version, *sorted(self.certificate.items()))


@dataclass(frozen=True)
class EncoderSpec:
    """One served variant: the shapes of its towers' inputs and outputs, and the two models."""

    variant: str
    image_size: tuple[int, int]  # (H, W)
    token_lengths: tuple[int, ...]  # of `tokens`, ascending
    embed_dim: int  # D
    vision: TowerSpec
    text: TowerSpec

    @property
    def context_length(self) -> int:
        """The most tokens of a text, L."""
        return self.token_lengths[-1]

    @property
    def space(self) -> tuple[Hashable, ...]:
        """The identity of the embedding space. Embeddings of equal spaces can be compared with each other.

        Engine, precision, token lengths, batch size and version do not change the space: FP16 and FP32 agree to a
        cosine of 0.999, and so do all token lengths, which the exporter proves.
        """
        shapes = (self.variant, self.image_size, self.context_length, self.embed_dim)
        return (*shapes, self.vision.weights, self.text.weights)

    @cached_property
    def space_name(self) -> str:
        """The embedding space for people and databases: the variant, and the start of a digest of all weights."""
        digest = sha256(repr((self.vision.weights, self.text.weights)).encode()).hexdigest()
        return f"{self.variant}@{digest[:12]}"

    def accepts(self, other: "EncoderSpec") -> bool:
        """Whether inputs that were made for `other` can be embedded by this, in the same space."""
        return self.space == other.space and set(other.token_lengths) <= set(self.token_lengths)


class Encoder(Protocol):
    """Runs the towers. An async context manager. Raises only `ServerError` and its subclasses."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def specs(self) -> Mapping[str, EncoderSpec]:
        """The variants that can be used now, by name."""

    async def ready(self) -> bool:
        """Whether embeddings of every variant can be computed now. Returns soon, even if the towers hang."""

    async def encode_images(self, spec: EncoderSpec, images: Pixels) -> Embeddings:
        """Embed images.

        Args:
            spec: the variant.
            images: RGB pixels, uint8 [N, H, W, 3], with N at most `spec.vision.max_batch_size`.

        Returns:
            Unit embeddings, float32 [N, D].
        """

    async def encode_texts(self, spec: EncoderSpec, tokens: Tokens) -> Embeddings:
        """Embed texts.

        Args:
            spec: the variant.
            tokens: int32 [N, S], with N at most `spec.text.max_batch_size`, and S one of `spec.token_lengths`.

        Returns:
            Unit embeddings, float32 [N, D].
        """
