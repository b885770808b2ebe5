"""Poll a health endpoint from a thread and record the time of each status."""

import threading
import time
from types import TracebackType
from typing import Final, Self

from deploy.bench.harness import client

_EVERY_S: Final = 0.01


class Poll:
    """A polled endpoint, as a context manager.

    Attributes:
        seen: time.monotonic() and status of each response; status 0 if none came.
        slowest: the seconds of the slowest response.
    """

    def __init__(self, url: str, path: str = "/readiness") -> None:
        self._url, self._path = url, path
        self.seen: list[tuple[float, int]] = []
        self.slowest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._over.wait(_EVERY_S):
            response = client.get(self._url, self._path, timeout=5)
            self.seen.append((time.monotonic(), response.status))
            self.slowest = max(self.slowest, response.seconds)

    def first(self, status: int, since: float) -> float:
        """Return when the status was first seen after `since`; infinity if it was not."""
        return next((at for at, found in list(self.seen) if at >= since and found == status), float("inf"))

    def wait(self, status: int, since: float, seconds: float) -> float:
        """Wait up to that many seconds for the status, and return what `first` returns."""
        end = time.monotonic() + seconds
        while (at := self.first(status, since)) == float("inf") and time.monotonic() < end:
            time.sleep(_EVERY_S)
        return at
