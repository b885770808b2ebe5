"""One Triton of several, watched: what it serves, whether it answers, and how much it has to do."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

from gateway.encoder import Embeddings, EncoderSpec, Pixels, Tokens
from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, ServerError
from gateway.observe.trace import Tracing
from gateway.observe.tritons import OneTriton
from gateway.triton import models
from gateway.triton.connection import Connection

State = Literal["connecting", "serving", "unreachable", "hung"]

# Triton answers a look in a millisecond, and in ten under load. One that took so long twice, and let no inference
# return meanwhile, answers nothing. Once may be our own doing: gRPC counts on while this process gets no CPU.
_PATIENCE_SECONDS: Final = 1.5
_LOOKS: Final = 2
# Configurations can change under the same version, but seldom do.
_REREAD_SECONDS: Final = 5.0
# One that fails every call is free for the next one the soonest, and would be given most of them.
_FAULTS: Final = 3
_REST_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Replica:
    """Make it on the loop that uses it, ``open`` and ``close`` it there.

    Args:
        target: ``host:port``.
        changed: called when ``state`` or ``specs`` did.
        call_seconds: no inference may last longer.
        watch_seconds: how often to look for models that appeared, changed or went away.
    """

    def __init__(
        self,
        target: str,
        changed: Callable[[], None],
        call_seconds: float,
        watch_seconds: float,
        metrics: OneTriton,
        tracing: Tracing | None,
    ) -> None:
        self.target = target
        self.state: State = "connecting"
        self.specs: dict[str, EncoderSpec] = {}  # as of the last look, even where it is of no use any more
        self.outstanding = 0
        self.turn = 0  # when it was last chosen, by the chooser's count
        self._changed = changed
        self._call_seconds = call_seconds
        self._watch_seconds = watch_seconds
        self._metrics = metrics
        self._tracing = tracing
        self._served: dict[str, str] = {}
        self._configs: dict[str, Any] = {}
        self._read = self._heard = float("-inf")
        self._faults = 0
        self._unanswered = 0  # looks in a row
        self._rests_until = float("-inf")
        self._nudge = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(target)
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Takes a first look, and goes on looking until ``close``."""
        await self._look()
        self._tasks = [
            asyncio.create_task(self._watch()),
            asyncio.create_task(self._connection.follow(self._connection_changed)),
        ]

    async def close(self, grace: float = 0) -> None:
        """Lets go of the connection, after so many seconds at most if inferences are under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close(grace)

    @property
    def load(self) -> tuple[bool, int, int]:
        """The smaller, the sooner it should be given the next call."""
        return (self._rests_until > self._loop.time(), self.outstanding, self.turn)

    async def infer(
        self, model: str, version: str, name: models.InputName, batch: Pixels | Tokens, embed_dim: int
    ) -> Embeddings:
        """See ``Connection.infer``."""
        call = partial(self._connection.infer, model, version, name, batch, embed_dim, self._call_seconds)
        self.outstanding += 1
        self._metrics.has_outstanding(self.outstanding)
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
            self._metrics.failed(None)
            raise
        finally:
            self.outstanding -= 1
            self._metrics.has_outstanding(self.outstanding)
        self._heard = self._loop.time()
        self._unanswered = self._faults = 0
        self._metrics.answered()
        return embeddings

    def _failed(self, error: ServerError) -> None:
        self._metrics.failed(error)
        if isinstance(error, EncoderUnavailable):
            self._nudge.set()
        elif isinstance(error, EncoderFault):
            self._faults += 1
            if self._faults >= _FAULTS:
                self._rests_until = self._loop.time() + _REST_SECONDS

    def abandon(self) -> None:
        """Ends the inferences under way: they raise ``EncoderUnavailable``."""
        self._connection.abandon()

    async def connected(self, seconds: float) -> bool:
        """Whether there is a connection, within so many seconds."""
        return await self._connection.connected(seconds)

    def _connection_changed(self, there: bool) -> None:
        if there:
            self._nudge.set()  # what it serves may be news
        else:
            self._become("unreachable")

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._watch_seconds):
                    await self._nudge.wait()
            self._nudge.clear()
            try:
                await self._look()
            except Exception:  # nobody else would look
                _log.exception("Looking at Triton at %s failed", self.target)

    async def _look(self) -> None:
        """Brings ``state`` and ``specs`` up to date."""
        began = self._loop.time()
        try:
            served = await self._connection.served(_PATIENCE_SECONDS)
        except EncoderUnavailable:
            self._become("unreachable")
        except DeadlineExceeded:
            if self._heard < began:
                self._unanswered += 1
                if self._unanswered >= _LOOKS:
                    self._become("hung")
                else:
                    self._nudge.set()
        except ServerError as error:
            # Busy, perhaps; that alone takes nothing out of service.
            _log.warning("Triton at %s does not say what it serves: %s", self.target, error)
        else:
            self._heard = self._loop.time()
            self._unanswered = 0
            if served != self._served or began >= self._read + _REREAD_SECONDS:
                await self._describe(served, began)
            self._become("serving")

    async def _describe(self, served: dict[str, str], began: float) -> None:
        try:
            configs = await self._connection.configs(served, _PATIENCE_SECONDS)
        except ServerError as error:  # gone meanwhile, or busy; the next look will tell
            _log.warning("Triton at %s does not say what its models are: %s", self.target, error)
            return
        self._read = began
        if (served, configs) == (self._served, self._configs):
            return
        self._served, self._configs = served, configs
        self.specs = models.specs(served, configs)
        _log.info("Triton at %s serves %s", self.target, ", ".join(self.specs) or "no variant")
        self._changed()

    def _become(self, state: State) -> None:
        if state == self.state:
            return
        level = logging.INFO if state == "serving" else logging.WARNING
        _log.log(level, "Triton at %s is %s", self.target, state)
        self.state = state
        self._metrics.is_up(state == "serving")
        self._changed()
