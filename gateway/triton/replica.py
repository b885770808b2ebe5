"""One of several Tritons, with its state: the models it serves, whether it responds, and how busy it is."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

from gateway.encoder import Embeddings, EncoderSpec, Pixels, Tokens
from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, ServerError
from gateway.observe.tracing import Tracing
from gateway.observe.triton_metrics import ReplicaMetrics
from gateway.triton import models
from gateway.triton.connection import Connection
from gateway.triton.errors import details

State = Literal["connecting", "serving", "unreachable", "hung"]

# Triton answers a poll in 1 ms, and in 10 ms under load. A replica is hung if it answers neither two polls in a row nor
# an inference in the meantime. One unanswered poll is not enough: a gRPC deadline also expires if this process gets no
# CPU.
_POLL_TIMEOUT_SECONDS: Final = 1.5
_MAX_UNANSWERED_POLLS: Final = 2
# A model's configuration can change without a change of version, but this is rare.
_CONFIG_REFRESH_SECONDS: Final = 5.0
# A replica that fails every call at once always has the fewest calls in flight, so it would get most calls.
_MAX_FAULTS: Final = 3
_COOLDOWN_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Replica:
    """One Triton. Create it, `open` it and `close` it on the event loop that uses it.

    Args:
        connection: the connection to it. The replica closes it.
        on_change: called after a change of `state` or `specs`.
        call_timeout_seconds: the deadline of an inference call.
        poll_interval_seconds: how often to ask Triton for its models.
        metrics: the metrics of this replica.
        tracing: creates a span per call; None without tracing.
    """

    def __init__(
        self,
        connection: Connection,
        on_change: Callable[[], None],
        call_timeout_seconds: float,
        poll_interval_seconds: float,
        metrics: ReplicaMetrics,
        tracing: Tracing | None,
    ) -> None:
        self.target = connection.target
        self.state: State = "connecting"
        self.specs: dict[str, EncoderSpec] = {}  # as of the last successful poll, whatever the state is
        self.in_flight = 0
        self.last_chosen = 0  # set by `Fleet`: the number of the last choice of this replica
        self._on_change = on_change
        self._call_timeout_seconds = call_timeout_seconds
        self._poll_interval_seconds = poll_interval_seconds
        self._metrics = metrics
        self._tracing = tracing
        self._ready_models: dict[str, str] = {}
        self._configs: dict[str, Any] = {}
        self._configs_read_at = self._last_reply = float("-inf")
        self._faults = 0  # consecutive failed calls
        self._reason = ""  # why the last poll failed
        self._unanswered_polls = 0  # consecutive
        self._cooldown_until = float("-inf")
        self._poll_now = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Poll once, and then regularly until `close`."""
        await self._poll()
        self._tasks = [
            asyncio.create_task(self._poll_forever()),
            asyncio.create_task(self._connection.watch(self._connectivity_changed)),
        ]

    async def close(self, grace: float = 0) -> None:
        """Stop polling, and close the connection when no call is in flight, after `grace` seconds at the latest."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close(grace)

    @property
    def priority(self) -> tuple[bool, int, int]:
        """The sort key for the choice of a replica. The smallest comes first."""
        return (self._cooldown_until > self._loop.time(), self.in_flight, self.last_chosen)

    async def infer(self, spec: EncoderSpec, name: models.InputName, batch: Pixels | Tokens) -> Embeddings:
        """Run a tower on a batch, in the version that this replica serves; see `Connection.infer`.

        Raises:
            EncoderUnavailable: the replica no longer serves the embedding space and the token lengths of `spec`.
        """
        own = self.specs.get(spec.variant)
        if own is None or (own is not spec and not own.accepts(spec)):
            raise EncoderUnavailable("The model is not available now. Try again in a moment.")
        suffix, tower = (models.VISION, own.vision) if name == "image" else (models.TEXT, own.text)
        model, seconds = own.variant + suffix, self._call_timeout_seconds
        call = partial(self._connection.infer, model, tower.version, name, batch, own.embed_dim, seconds)
        self.in_flight += 1
        self._metrics.set_in_flight(self.in_flight)
        try:
            if self._tracing is None:
                embeddings = await call()
            else:
                with self._tracing.call(model, self.target) as metadata:
                    embeddings = await call(metadata)
        except ServerError as error:
            self._failed(error)
            raise
        except asyncio.CancelledError:
            self._metrics.count_cancelled()
            raise
        finally:
            self.in_flight -= 1
            self._metrics.set_in_flight(self.in_flight)
        self._last_reply = self._loop.time()
        self._unanswered_polls = self._faults = 0
        self._metrics.count_success()
        return embeddings

    def _failed(self, error: ServerError) -> None:
        self._metrics.count_failure(error)
        if isinstance(error, EncoderUnavailable):
            self._poll_now.set()
        elif isinstance(error, EncoderFault):
            self._faults += 1
            if self._faults >= _MAX_FAULTS:
                self._cooldown_until = self._loop.time() + _COOLDOWN_SECONDS

    def cancel_calls(self) -> None:
        """Cancel the inference calls in flight. They raise `EncoderUnavailable`."""
        self._connection.cancel_calls()

    async def wait_connected(self, seconds: float) -> bool:
        """Wait up to `seconds` for a connection. Returns whether there is one."""
        return await self._connection.wait_connected(seconds)

    def _connectivity_changed(self, connected: bool) -> None:
        if connected:
            self._poll_now.set()  # a restarted Triton may serve other models
        else:
            self._set_state("unreachable")

    async def _poll_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_interval_seconds):
                    await self._poll_now.wait()
            self._poll_now.clear()
            try:
                await self._poll()
            except Exception:  # polling must continue
                _log.exception("Polling Triton at %s failed", self.target)

    async def _poll(self) -> None:
        """Ask Triton for its ready models, and update `state` and `specs`."""
        began = self._loop.time()
        try:
            ready_models = await self._connection.ready_models(_POLL_TIMEOUT_SECONDS)
        except EncoderUnavailable as error:
            self._set_state("unreachable", details(error))
        except DeadlineExceeded:
            if self._last_reply < began:
                self._unanswered_polls += 1
                if self._unanswered_polls >= _MAX_UNANSWERED_POLLS:
                    self._set_state("hung")
                else:
                    self._poll_now.set()
        except ServerError as error:
            # Triton may be overloaded, so this error does not change the state.
            _log.warning("Triton at %s did not list its models: %s", self.target, details(error))
        else:
            self._last_reply = self._loop.time()
            self._unanswered_polls = 0
            if ready_models != self._ready_models or began >= self._configs_read_at + _CONFIG_REFRESH_SECONDS:
                await self._read_configs(ready_models, began)
            self._set_state("serving")

    async def _read_configs(self, ready_models: dict[str, str], began: float) -> None:
        try:
            configs = await self._connection.model_configs(ready_models, _POLL_TIMEOUT_SECONDS)
        except ServerError as error:  # Triton is overloaded, or a model was unloaded; the next poll tries again
            _log.warning("Triton at %s did not send the configurations of its models: %s", self.target, details(error))
            return
        self._configs_read_at = began
        if (ready_models, configs) == (self._ready_models, self._configs):
            return
        self._ready_models, self._configs = ready_models, configs
        self.specs = models.specs(ready_models, configs)
        _log.info("Triton at %s serves %s", self.target, ", ".join(self.specs) or "no variant")
        self._on_change()

    def _set_state(self, state: State, reason: str = "") -> None:
        # The change of connectivity tells no reason, and the poll that follows does.
        if reason and reason != self._reason:
            _log.warning("Triton at %s does not answer: %s", self.target, reason)
        self._reason = reason
        if state == self.state:
            return
        level = logging.INFO if state == "serving" else logging.WARNING
        _log.log(level, "Triton at %s is %s", self.target, state)
        self.state = state
        self._metrics.set_up(state == "serving")
        self._on_change()
