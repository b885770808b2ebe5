"""Show how far a run is: a bar in a terminal, and a line every few seconds elsewhere."""

import sys
import time
from typing import Final, TextIO

from tqdm import tqdm

_LINE_SECONDS: Final = 5.0


class Progress:
    """Progress of a run.

    Args:
        total: items of the source.
        done: how many of them were done before.
        stream: to write to. Default: stderr.
    """

    def __init__(self, total: int, done: int, stream: TextIO | None = None) -> None:
        self._total = total
        self._first = done
        self._done = done
        self._errors = 0
        self._stream = stream = stream or sys.stderr
        self._begun = self._written = time.monotonic()
        self._bar = None
        if stream.isatty():
            self._bar = tqdm(total=total, initial=done, file=stream, unit="", unit_scale=False, dynamic_ncols=True)

    @property
    def rate(self) -> float:
        """Items a second in this run."""
        return (self._done - self._first) / max(time.monotonic() - self._begun, 1e-9)

    def advance(self, count: int, errors: int, in_flight: int) -> None:
        """Count items that are done. `in_flight` is the number of requests that may be in flight."""
        self._done += count
        self._errors += errors
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._errors} errors, {in_flight} in flight", refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._written >= _LINE_SECONDS:
            self._written = time.monotonic()
            left = tqdm.format_interval((self._total - self._done) / max(self.rate, 1e-9))
            share = 100 * self._done // max(self._total, 1)
            self.say(
                f"{self._done} of {self._total} ({share} %), {self.rate:.1f}/s, {left} left, {self._errors} errors, "
                f"{in_flight} in flight"
            )

    def say(self, line: str) -> None:
        """Write a line that remains."""
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
