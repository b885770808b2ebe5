"""The restart policy for Triton: how soon it is restarted after a death, and when restarts stop."""

from collections import deque
from typing import Final

MAX_DEATHS: Final = 5
WINDOW_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_FACTOR: Final = 3.0


class RestartPolicy:
    """Exponential backoff that gives up at the fifth death within a minute.

    A process that is slow to start may die at every start and still not five times in a minute. Five failed starts in
    a row therefore count as five deaths in a minute.
    """

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self._failed_starts = 0

    def next_pause(self, now: float, was_ready: bool) -> float | None:
        """Record a death and return the pause before the restart.

        Args:
            now: the time of the death, in seconds of a monotonic clock.
            was_ready: whether the process had become ready since its last start.

        Returns:
            Seconds to wait; None to give up.
        """
        self._deaths.append(now)
        self._failed_starts = 0 if was_ready else self._failed_starts + 1
        recent = sum(now - death < WINDOW_SECONDS for death in self._deaths)
        if max(recent, self._failed_starts) >= MAX_DEATHS:
            return None
        return _FIRST_PAUSE_SECONDS * _FACTOR ** (max(recent, self._failed_starts, 1) - 1)
