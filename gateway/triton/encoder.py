"""`TritonEncoder`, the `Encoder` whose towers run in one or several Tritons."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from prometheus_client import CollectorRegistry

from gateway.encoder import Embeddings, EncoderSpec, Pixels, Tokens
from gateway.errors import EncoderUnavailable
from gateway.observe.tracing import Tracing
from gateway.observe.triton_metrics import TritonMetrics
from gateway.triton import addresses, models
from gateway.triton.call_turns import CallTurns
from gateway.triton.channel import Access
from gateway.triton.connection import Connection
from gateway.triton.errors import Unsent
from gateway.triton.fleet import Fleet
from gateway.triton.readiness import Readiness
from gateway.triton.replica import Replica

_RESOLVE_INTERVAL_SECONDS: Final = 5.0
# A Triton that restarts in place may be back within this time. Clients are told to try again after the same time.
_RECONNECT_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class TritonEncoder:
    """Implements the `Encoder` protocol over gRPC. An async context manager: enter it on the loop that uses it.

    An inference call has no side effects, so a call that is lost with its Triton is retried once on another Triton.
    With a single Triton, the call is retried only if it was never sent.

    Args:
        url: the addresses of the Tritons, in the grammar of `addresses`.
        call_timeout_seconds: the deadline of an inference call.
        poll_interval_seconds: how often to ask each Triton for its models.
        metrics: the metrics of the calls. Default: metrics in a registry that nobody reads.
        tracing: creates a span per call. Default: no tracing.
        access: TLS and headers. Default: neither.
        resolve: resolves addresses to gRPC targets and their hosts, as `addresses.resolve` does. Raises OSError.
        resolve_interval_seconds: how often to resolve `dns:///` addresses.
    """

    def __init__(
        self,
        url: str,
        call_timeout_seconds: float = 30,
        poll_interval_seconds: float = 1,
        metrics: TritonMetrics | None = None,
        tracing: Tracing | None = None,
        access: Access | None = None,
        resolve: Callable[[Sequence[addresses.Entry]], Awaitable[Mapping[str, str]]] = addresses.resolve,
        resolve_interval_seconds: float = _RESOLVE_INTERVAL_SECONDS,
    ) -> None:
        self._addresses = addresses.parse(url)
        self._call_timeout_seconds = call_timeout_seconds
        self._poll_interval_seconds = poll_interval_seconds
        self._metrics = metrics or TritonMetrics(CollectorRegistry())
        self._tracing = tracing
        self._access = access or Access()
        self._resolve = resolve
        self._resolve_interval_seconds = resolve_interval_seconds
        self._fleet = Fleet()
        self._turns: defaultdict[tuple[str, models.InputName], CallTurns] = defaultdict(CallTurns)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._readiness = Readiness(self._probe)
        await self._update_replicas()
        if any(isinstance(address, addresses.Address) and address.dns for address in self._addresses):
            self._start(self._update_replicas_forever())
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
        turns = self._turns[spec.variant, name]
        await turns.begin(len(batch), self._fleet.room(spec.variant, name))
        try:
            with self._readiness.observe_call(spec, name):
                return await self._call(spec, name, batch)
        finally:
            turns.end(len(batch), self._fleet.room(spec.variant, name))

    async def _probe(self, spec: EncoderSpec, name: models.InputName) -> Embeddings:
        """Embed a dummy input: a gray image, or a short text of padding."""
        if name == "image":
            return await self._call(spec, name, np.full((1, *spec.image_size, 3), 128, np.uint8))
        return await self._call(spec, name, np.zeros((1, spec.token_lengths[0]), np.int32))

    async def _call(self, spec: EncoderSpec, name: models.InputName, batch: Pixels | Tokens) -> Embeddings:
        """Run a tower by the replica that is least busy, and retry a lost call as the class describes."""
        if (replica := self._fleet.choose(spec)) is None:
            raise EncoderUnavailable("The model is not available now. Try again in a moment.")
        try:
            return await replica.infer(spec, name, batch)
        except EncoderUnavailable as error:
            if (other := self._fleet.choose(spec, exclude=replica)) is None:
                if not (isinstance(error, Unsent) and await replica.wait_connected(_RECONNECT_SECONDS)):
                    raise
                other = replica
            self._metrics.count_retry()
            return await other.infer(spec, name, batch)

    async def _update_replicas_forever(self) -> None:
        while True:
            await asyncio.sleep(self._resolve_interval_seconds)
            await self._update_replicas()

    async def _update_replicas(self) -> None:
        """Resolve the addresses, open new replicas, and close replicas whose address is gone."""
        try:
            hosts = await self._resolve(self._addresses)
        except (OSError, UnicodeError) as error:  # the known replicas stay in use
            _log.warning("PE_TRITON_URL could not be resolved, so the known Tritons stay in use: %s", error)
            return
        replicas = self._fleet.replicas
        removed = [replicas.pop(target) for target in list(replicas) if target not in hosts]
        new = [
            Replica(
                Connection(target, host, self._access),
                self._replica_changed,
                self._call_timeout_seconds,
                self._poll_interval_seconds,
                self._metrics.add_replica(target),
                self._tracing,
            )
            for target, host in hosts.items()
            if target not in replicas
        ]
        replicas.update((replica.target, replica) for replica in new)
        self._replica_changed()
        for replica in removed:
            _log.info("Triton at %s is no longer among the addresses of PE_TRITON_URL", replica.target)
            self._start(replica.close(grace=self._call_timeout_seconds))
            self._metrics.remove_replica(replica.target)
        await asyncio.gather(*(replica.open() for replica in new))

    def _replica_changed(self) -> None:
        self._fleet.refresh()
        self._readiness.set_specs(self._fleet.specs)
        for replica in self._fleet.replicas.values():
            if replica.state == "hung" and replica.in_flight and self._fleet.can_replace(replica):
                replica.cancel_calls()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
