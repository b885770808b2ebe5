"""Decide whether embeddings can be computed now, from recent calls, or from a probe if a tower is idle.

A successful call proves for ten seconds that a tower works. When `/readiness` is requested, an idle tower is probed
with a dummy input. A busy tower is not probed. A busy tower becomes unready only if a call fails, or if a call is
cancelled after ten seconds in which no call succeeded. So load alone does not make a tower unready, and a tower that
hangs becomes unready when a caller gives up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Final

from gateway.encoder import EncoderSpec
from gateway.errors import Overloaded, ServerError
from gateway.triton.models import INPUT_NAMES, InputName

WINDOW_SECONDS: Final = 10.0
# Orchestrators time out after a second or two. The probe continues after the reply to the orchestrator.
_MAX_WAIT_SECONDS: Final = 1.0


class TowerReadiness:
    """The readiness of one tower.

    Args:
        probe: embeds one dummy item. Raises ServerError.
        window_seconds: how long a success proves that the tower works.
    """

    def __init__(self, probe: Callable[[], Awaitable[object]], window_seconds: float) -> None:
        self._probe = probe
        self._window_seconds = window_seconds
        self._loop = asyncio.get_running_loop()
        self._last_success = float("-inf")
        self._failing = True  # until the first success
        self._in_flight = 0
        self._probe_task: asyncio.Task[None] | None = None

    def observe_call(self) -> "_ObservedCall":
        """Wrap a call to the tower, and learn from its result."""
        return _ObservedCall(self)

    def begin_call(self) -> float:
        """Count a call as in flight. Returns the time."""
        self._in_flight += 1
        return self._loop.time()

    def end_call(self, began: float, error: BaseException | None) -> None:
        """Learn from a call that began at a time and ended, with an error or without."""
        self._in_flight -= 1
        if error is None:
            self._succeeded()
        elif isinstance(error, ServerError):
            self._failing = self._failing or not isinstance(error, Overloaded)
        # A cancellation means that the client disconnected, or that the request's deadline expired.
        elif isinstance(error, asyncio.CancelledError) and (
            max(began, self._last_success) < self._loop.time() - self._window_seconds
        ):
            self._failing = True

    async def ready(self) -> bool:
        """Whether the tower works. Returns after one second at the latest."""
        age = self._loop.time() - self._last_success
        if age < self._window_seconds / 2:
            return True
        if self._in_flight:
            return age < self._window_seconds or not self._failing
        if self._probe_task is None or self._probe_task.done():
            self._probe_task = asyncio.create_task(self._run_probe())
        if age < self._window_seconds:
            return True  # the probe finishes before the next request for readiness
        await asyncio.wait([self._probe_task], timeout=_MAX_WAIT_SECONDS)
        return self._loop.time() - self._last_success < self._window_seconds

    def close(self) -> None:
        """Cancel a running probe."""
        if self._probe_task is not None:
            self._probe_task.cancel()

    async def _run_probe(self) -> None:
        try:
            async with asyncio.timeout(self._window_seconds):
                await self._probe()
        except (ServerError, TimeoutError):
            self._failing = True
        else:
            self._succeeded()

    def _succeeded(self) -> None:
        self._last_success = self._loop.time()
        self._failing = False


class _ObservedCall:
    """A call to a tower. `contextlib.contextmanager` takes three times as long."""

    __slots__ = ("_began", "_tower")

    def __init__(self, tower: TowerReadiness) -> None:
        self._tower = tower

    def __enter__(self) -> None:
        self._began = self._tower.begin_call()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tower.end_call(self._began, error)


class Readiness:
    """The readiness of all served towers. A tower whose spec changes must prove again that it works.

    Args:
        probe: embeds one dummy item by the tower of a variant that has an input of this name. Raises ServerError.
        window_seconds: how long a success proves that a tower works.
    """

    def __init__(
        self, probe: Callable[[EncoderSpec, InputName], Awaitable[object]], window_seconds: float = WINDOW_SECONDS
    ) -> None:
        self._probe = probe
        self._window_seconds = window_seconds
        self._specs: dict[str, EncoderSpec] = {}
        self._towers: dict[tuple[str, InputName], TowerReadiness] = {}

    def set_specs(self, specs: Mapping[str, EncoderSpec]) -> None:
        """Set the served variants. The state of a variant is kept if its spec is the same object as before."""
        kept = {variant for variant, spec in specs.items() if self._specs.get(variant) is spec}
        for (variant, name), tower in list(self._towers.items()):
            if variant not in kept:
                tower.close()
                del self._towers[variant, name]
        for variant, spec in specs.items():
            if variant not in kept:
                for name in INPUT_NAMES:
                    probe = partial(self._probe, spec, name)
                    self._towers[variant, name] = TowerReadiness(probe, self._window_seconds)
        self._specs = dict(specs)

    def observe_call(self, spec: EncoderSpec, name: InputName) -> AbstractContextManager[None]:
        """Wrap a call; see `TowerReadiness.observe_call`."""
        if self._specs.get(spec.variant) is spec:
            return self._towers[spec.variant, name].observe_call()
        return nullcontext()  # the spec was replaced after the request began

    async def ready(self) -> bool:
        """Whether every tower of every served variant works. False if no variant is served."""
        results = await asyncio.gather(*(tower.ready() for tower in self._towers.values()))
        return bool(results) and all(results)

    def close(self) -> None:
        """Cancel all running probes."""
        self.set_specs({})
