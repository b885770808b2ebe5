"""Send pictures and texts to the gateway: several at a time, and again where that may help."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from deploy.bulk.errors import ItemError
from deploy.bulk.rows import EmbeddingSpace
from deploy.bulk.sources.item import Content


class Embedder:
    """A client of one gateway, for one run: `async with Embedder(url) as embedder`.

    Args:
        url: of the gateway.
        api_key: if the gateway wants one.
        variant: if the gateway serves several.
        give_up_seconds: the time without any answer after which the server counts as gone.

    Attributes:
        space: of all embeddings.
        max_bytes: of one image file, by the gateway's own limit.
    """

    space: EmbeddingSpace
    max_bytes: int

    def __init__(
        self, url: str, *, api_key: str | None = None, variant: str | None = None, give_up_seconds: float = 300
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Ask the server what it serves.

        Raises:
            ServerError: there is no such server, or it does not serve the variant.
        """
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        raise NotImplementedError

    async def embed(self, contents: Sequence[Content]) -> list[NDArray[np.float32] | ItemError]:
        """Embed contents of one kind, in order. Calls may overlap.

        Returns:
            For each one its embedding, float32 [D] of unit length, or why it has none.

        Raises:
            ServerError: the server was gone for too long, refuses the API key, or serves another space now.
        """
        raise NotImplementedError
