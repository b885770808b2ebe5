"""uvicorn with a drain: after SIGTERM, keep listening until all accepted requests are answered."""

import signal
from types import FrameType

import uvicorn

from gateway.drain import Drain


class Server(uvicorn.Server):
    """Begin the drain at the first signal, and end the process at the second.

    uvicorn's own server closes the listener first. It thereby refuses clients that do not know of the drain yet. It
    also ends by the signal instead of with exit status 0.

    Args:
        interruptible: whether SIGINT is for this process. A worker leaves SIGINT to its supervisor, which then stops
            its workers.
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
