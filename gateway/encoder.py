"""The seam between the gateway and whatever runs the towers: Triton in production, a fake in tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Tokens = NDArray[np.int32]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class TowerSpec:
    """What the served model says of itself: its batch limit, its version, and its config's ``parameters``."""

    max_batch_size: int
    version: str = "1"
    certificate: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EncoderSpec:
    """One variant: the shapes its towers take and give."""

    variant: str
    image_size: tuple[int, int]  # (H, W)
    context_length: int  # L
    embed_dim: int  # D
    vision: TowerSpec
    text: TowerSpec


class Encoder(Protocol):
    """Runs the towers while it is entered. Raises the ``ServerError`` branch of errors.py and nothing else."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def specs(self) -> Mapping[str, EncoderSpec]:
        """The variants that can be asked for now, by name; empty while nothing is served."""

    async def ready(self) -> bool:
        """Whether embeddings of every variant come back now; soon answered, whatever becomes of them."""

    async def encode_images(self, spec: EncoderSpec, images: Pixels) -> Embeddings:
        """RGB images, uint8 [N, H, W, 3], N at most ``spec.vision.max_batch_size``, to unit embeddings [N, D]."""

    async def encode_texts(self, spec: EncoderSpec, tokens: Tokens) -> Embeddings:
        """Tokens, int32 [N, L], N at most ``spec.text.max_batch_size``, to unit embeddings [N, D]."""
