"""Whether embeddings come back: by what calls have shown lately, and by a canary where nobody calls.

A tower is proved by any answer of it within ten seconds. An idle one is asked for the embedding of nothing, when
somebody wants to know; a busy one is left in peace, and is out only after a call failed, or was given up after ten
seconds in which nothing at all came back. So load alone takes nothing out, and one that is stuck goes with a caller.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Final

from gateway.encoder import EncoderSpec
from gateway.errors import Overloaded, ServerError
from gateway.triton.models import INPUT_NAMES, InputName

WINDOW_SECONDS: Final = 10.0
# Orchestrators allow a second or two for their question; the canary may go on beyond the answer.
_ANSWER_SECONDS: Final = 1.0


class TowerReadiness:
    """Of one tower as it is served now.

    Args:
        canary: embeds one item; raises ServerError.
        window_seconds: how long an answer proves the tower.
    """

    def __init__(self, canary: Callable[[], Awaitable[object]], window_seconds: float) -> None:
        self._canary = canary
        self._window_seconds = window_seconds
        self._loop = asyncio.get_running_loop()
        self._proved = float("-inf")
        self._failing = True  # until it has answered once
        self._outstanding = 0
        self._asking: asyncio.Task[None] | None = None

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around each call: what becomes of it is evidence."""
        began = self._loop.time()
        self._outstanding += 1
        try:
            yield
        except Overloaded:
            raise
        except ServerError:
            self._failing = True
            raise
        except asyncio.CancelledError:  # by a client that left, or by the request's deadline
            if max(began, self._proved) < self._loop.time() - self._window_seconds:
                self._failing = True
            raise
        else:
            self._answered()
        finally:
            self._outstanding -= 1

    async def ready(self) -> bool:
        """Whether its embeddings come back now."""
        age = self._loop.time() - self._proved
        if age < self._window_seconds / 2:
            return True
        if self._outstanding:
            return age < self._window_seconds or not self._failing
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        if age < self._window_seconds:
            return True  # and by the next question there will be an answer
        await asyncio.wait([self._asking], timeout=_ANSWER_SECONDS)
        return self._loop.time() - self._proved < self._window_seconds

    def close(self) -> None:
        """Ends a canary on its way."""
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(self._window_seconds):
                await self._canary()
        except (ServerError, TimeoutError):
            self._failing = True
        else:
            self._answered()

    def _answered(self) -> None:
        self._proved = self._loop.time()
        self._failing = False


class Readiness:
    """Of all towers that are served. One that is served anew has to prove itself anew.

    Args:
        canary: embeds one item by a variant's tower, that which takes the input of this name; raises ServerError.
    """

    def __init__(
        self, canary: Callable[[EncoderSpec, InputName], Awaitable[object]], window_seconds: float = WINDOW_SECONDS
    ) -> None:
        self._canary = canary
        self._window_seconds = window_seconds
        self._specs: dict[str, EncoderSpec] = {}
        self._towers: dict[tuple[str, InputName], TowerReadiness] = {}

    def follow(self, specs: Mapping[str, EncoderSpec]) -> None:
        """These are served from now on."""
        kept = {variant for variant, spec in specs.items() if self._specs.get(variant) is spec}
        for (variant, name), tower in list(self._towers.items()):
            if variant not in kept:
                tower.close()
                del self._towers[variant, name]
        for variant, spec in specs.items():
            if variant not in kept:
                for name in INPUT_NAMES:
                    canary = partial(self._canary, spec, name)
                    self._towers[variant, name] = TowerReadiness(canary, self._window_seconds)
        self._specs = dict(specs)

    def call(self, spec: EncoderSpec, name: InputName) -> AbstractContextManager[None]:
        """See ``TowerReadiness.call``."""
        if self._specs.get(spec.variant) is spec:
            return self._towers[spec.variant, name].call()
        return nullcontext()  # replaced while the request was under way

    async def ready(self) -> bool:
        """Whether embeddings of every variant come back; not if none is served."""
        verdicts = await asyncio.gather(*(tower.ready() for tower in self._towers.values()))
        return bool(verdicts) and all(verdicts)

    def close(self) -> None:
        """Ends all canaries."""
        self.follow({})
