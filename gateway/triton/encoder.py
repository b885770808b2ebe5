"""``TritonEncoder``: the ``Encoder`` whose towers run in Triton."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from gateway.encoder import Embeddings, EncoderSpec, Pixels, Tokens
from gateway.errors import EncoderUnavailable, ServerError
from gateway.triton import models
from gateway.triton.connection import Connection

_log = logging.getLogger(__name__)


class TritonEncoder:
    """Implements the ``Encoder`` protocol over gRPC. An async context manager: enter it on the loop that uses it.

    Args:
        url: gRPC address, such as ``127.0.0.1:8001`` or ``dns:///triton:8001``.
        call_seconds: no call may last longer.
        watch_seconds: how often to look for models that appeared, changed or went away.
    """

    def __init__(self, url: str, call_seconds: float = 30, watch_seconds: float = 1) -> None:
        self._url = url
        self._call_seconds = call_seconds
        self._watch_seconds = watch_seconds
        self._specs: dict[str, EncoderSpec] = {}
        self._served: dict[str, str] = {}  # ready models and their versions, as of the last look

    async def __aenter__(self) -> Self:
        self._connection = Connection(self._url, self._call_seconds)
        await self._look()
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watcher
        await self._connection.close()

    @property
    def specs(self) -> Mapping[str, EncoderSpec]:
        return self._specs

    async def encode_images(self, spec: EncoderSpec, images: Pixels) -> Embeddings:
        return await self._connection.infer(spec.variant + models.VISION, "image", "UINT8", images, spec.embed_dim)

    async def encode_texts(self, spec: EncoderSpec, tokens: Tokens) -> Embeddings:
        return await self._connection.infer(spec.variant + models.TEXT, "tokens", "INT32", tokens, spec.embed_dim)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_seconds)
            await self._look()

    async def _look(self) -> None:
        """Brings ``specs`` up to date with what Triton serves now."""
        try:
            served = await self._connection.served()
            if served != self._served:
                specs = models.specs(served, await self._connection.configs(served))
                _log.info("Triton at %s serves %s", self._url, ", ".join(specs) or "no variant")
                self._specs, self._served = specs, served
        except EncoderUnavailable as error:
            if self._specs:
                _log.warning("Triton at %s is gone: %s", self._url, error)
            self._specs, self._served = {}, {}
        except ServerError as error:
            # Busy, perhaps; that alone takes nothing out of service.
            _log.warning("Triton at %s does not say what it serves: %s", self._url, error)
