"""How much may be in flight. There is no queue here: batching and waiting are Triton's."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Overloaded


class InFlight:
    """A bounded count of requests. Used on one event loop, so it needs no lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """One request's stay.

        Raises:
            Overloaded: as many as allowed are in already.
        """
        if self.count >= self._limit:
            raise Overloaded("The server is busy. Try again in a moment.")
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1
