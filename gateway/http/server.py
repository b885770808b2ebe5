"""uvicorn, but one that is asked to stop keeps listening until what it has accepted is answered."""

import signal
from types import FrameType

import uvicorn

from gateway.drain import Drain


class Server(uvicorn.Server):
    """Its first signal begins ``drain``; the second one ends the process at once.

    uvicorn's own would close the listener first, and refuse whoever has not yet heard, and would end by the signal
    instead of with status 0.

    Args:
        interruptible: whether Ctrl-C is for this process, and not for one that started it and will tell it.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain, interruptible: bool = True) -> None:
        super().__init__(config)
        self._drain = drain
        self._interruptible = interruptible

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT and not self._interruptible:
            return
        if self._drain.begun:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self._drain.begin()

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or self._drain.over
        return await super().on_tick(counter)
