"""What a server says of itself, asked again and again from a thread, with the time of each answer."""

import threading
import time
from types import TracebackType
from typing import Self

from deploy.bench.harness import client as asking

_EVERY_S = 0.01


class Watch:
    """A context manager. ``seen``: time.monotonic() of the answer, and its status; 0 where none came."""

    def __init__(self, url: str, path: str = "/readiness") -> None:
        self._url, self._path = url, path
        self.seen: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(_EVERY_S):
            status = asking.get(self._url, self._path, timeout=5).status
            self.seen.append((time.monotonic(), status))

    def first(self, status: int, since: float) -> float:
        """When it first said so after ``since``; infinity if it has not."""
        return next((at for at, found in list(self.seen) if at >= since and found == status), float("inf"))

    def wait(self, status: int, since: float, seconds: float) -> float:
        """As ``first``, but waits for it."""
        end = time.monotonic() + seconds
        while (at := self.first(status, since)) == float("inf") and time.monotonic() < end:
            time.sleep(_EVERY_S)
        return at
