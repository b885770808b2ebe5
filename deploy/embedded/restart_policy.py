"""How often, and how soon, a process that dies is started again."""

from collections import deque

DEATHS = 5
WITHIN_S = 60.0
_FIRST_PAUSE_S = 0.1


class RestartPolicy:
    """Pauses that double with each death of the last minute; none after the fifth.

    What is slow to start may die at every start and still not five times in a minute, so five starts in a row that
    ended in nothing are as many as five deaths in a minute.
    """

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._in_vain = 0

    def died(self, now: float, was_ready: bool) -> float | None:
        """Seconds to wait before the next start; None: give up."""
        self._deaths.append(now)
        self._in_vain = 0 if was_ready else self._in_vain + 1
        recent = sum(now - death < WITHIN_S for death in self._deaths)
        if max(recent, self._in_vain) >= DEATHS:
            return None
        return _FIRST_PAUSE_S * 3.0 ** (max(recent, self._in_vain, 1) - 1)
