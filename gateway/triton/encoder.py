"""``TritonEncoder``: the ``Encoder`` whose towers run in Triton, or in several."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from prometheus_client import CollectorRegistry

from gateway.encoder import Embeddings, EncoderSpec, Pixels, Tokens
from gateway.errors import EncoderUnavailable
from gateway.observe.trace import Tracing
from gateway.observe.tritons import TritonMetrics
from gateway.triton import addresses, models
from gateway.triton.errors import Unsent
from gateway.triton.fleet import Fleet
from gateway.triton.readiness import Readiness
from gateway.triton.replica import Replica

_RESOLVE_SECONDS: Final = 5.0
# A server that is being restarted on the spot may be back as soon as that; a client is told to try again after one.
_RECONNECT_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class TritonEncoder:
    """Implements the ``Encoder`` protocol over gRPC. An async context manager: enter it on the loop that uses it.

    Embedding is pure, so a call that was lost with its Triton is made once more on another; where there is no other,
    only if it never left.

    Args:
        url: where the Tritons are, as ``addresses`` has it.
        call_seconds: no call may last longer.
        watch_seconds: how often to look for models that appeared, changed or went away.
        resolve: addresses to ``host:port`` targets; raises OSError.
    """

    def __init__(
        self,
        url: str,
        call_seconds: float = 30,
        watch_seconds: float = 1,
        metrics: TritonMetrics | None = None,
        tracing: Tracing | None = None,
        resolve: Callable[[Sequence[addresses.Address]], Awaitable[list[str]]] = addresses.resolve,
        resolve_seconds: float = _RESOLVE_SECONDS,
    ) -> None:
        self._addresses = addresses.parse(url)
        self._call_seconds = call_seconds
        self._watch_seconds = watch_seconds
        self._metrics = metrics or TritonMetrics(CollectorRegistry())
        self._tracing = tracing
        self._resolve = resolve
        self._resolve_seconds = resolve_seconds
        self._fleet = Fleet()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._readiness = Readiness(self._canary)
        await self._update()
        if any(address.every for address in self._addresses):
            self._start(self._keep_updating())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._readiness.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(replica.close() for replica in self._fleet.replicas.values()))

    @property
    def specs(self) -> Mapping[str, EncoderSpec]:
        return self._fleet.specs

    async def encode_images(self, spec: EncoderSpec, images: Pixels) -> Embeddings:
        return await self._infer(spec, "image", images)

    async def encode_texts(self, spec: EncoderSpec, tokens: Tokens) -> Embeddings:
        return await self._infer(spec, "tokens", tokens)

    async def ready(self) -> bool:
        return await self._readiness.ready()

    async def _infer(self, spec: EncoderSpec, name: models.InputName, batch: Pixels | Tokens) -> Embeddings:
        with self._readiness.call(spec, name):
            return await self._call(spec, name, batch)

    async def _canary(self, spec: EncoderSpec, name: models.InputName) -> Embeddings:
        """The embedding of a gray image, or of no text."""
        if name == "image":
            return await self._call(spec, name, np.full((1, *spec.image_size, 3), 128, np.uint8))
        return await self._call(spec, name, np.zeros((1, spec.context_length), np.int32))

    async def _call(self, spec: EncoderSpec, name: models.InputName, batch: Pixels | Tokens) -> Embeddings:
        suffix, tower = (models.VISION, spec.vision) if name == "image" else (models.TEXT, spec.text)
        call = (spec.variant + suffix, tower.version, name, batch, spec.embed_dim)
        if (replica := self._fleet.choose(spec)) is None:
            raise EncoderUnavailable("The model is not available now. Try again in a moment.")
        try:
            return await replica.infer(*call)
        except EncoderUnavailable as error:
            if (other := self._fleet.choose(spec, besides=replica)) is None:
                if not (isinstance(error, Unsent) and await replica.connected(_RECONNECT_SECONDS)):
                    raise
                other = replica
            self._metrics.retried()
            return await other.infer(*call)

    async def _keep_updating(self) -> None:
        while True:
            await asyncio.sleep(self._resolve_seconds)
            await self._update()

    async def _update(self) -> None:
        """Follows the addresses: meets new Tritons, and lets go of those that are not named any more."""
        try:
            targets = await self._resolve(self._addresses)
        except (OSError, UnicodeError) as error:  # those that are known go on
            _log.warning("No answer to where the Tritons are: %s", error)
            return
        replicas = self._fleet.replicas
        gone = [replicas.pop(target) for target in list(replicas) if target not in targets]
        new = [
            Replica(
                target,
                self._changed,
                self._call_seconds,
                self._watch_seconds,
                self._metrics.of(target),
                self._tracing,
            )
            for target in targets
            if target not in replicas
        ]
        replicas.update((replica.target, replica) for replica in new)
        self._changed()
        for replica in gone:
            _log.info("Triton at %s is not named any more", replica.target)
            self._start(replica.close(grace=self._call_seconds))
            self._metrics.gone(replica.target)
        await asyncio.gather(*(replica.open() for replica in new))

    def _changed(self) -> None:
        self._fleet.refresh()
        self._readiness.follow(self._fleet.specs)
        for replica in self._fleet.replicas.values():
            if replica.state == "hung" and replica.outstanding and self._fleet.can_replace(replica):
                replica.abandon()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
