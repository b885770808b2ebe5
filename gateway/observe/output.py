"""Write lines to standard output and standard error, without ever failing or waiting.

The disk under them may be full. Their reader may have gone, or may have stopped reading. That costs only lines.
"""

import fcntl
import os
import select
from contextlib import suppress
from typing import Final

_PIPE_BYTES: Final = 2**20  # what an unprivileged process may have


class Output:
    """One of the two streams.

    Args:
        descriptor: 1 or 2. Python's own streams would keep what they cannot write, and fail again later.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._torn = False

    def write(self, text: str) -> bool:
        """Write a text and a line break. Returns whether all of it was written."""
        rest = (("\n" if self._torn else "") + text + "\n").encode("utf-8", "backslashreplace")
        length = len(rest)
        try:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            while rest and poll.poll(0):
                # A pipe that is ready for writing takes so much without waiting.
                rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
        except OSError:
            pass
        self._torn = bool(rest) and (self._torn or len(rest) < length)
        return not rest


STDOUT: Final = Output(1)
STDERR: Final = Output(2)


def prepare() -> None:
    """Prepare the standard streams of this process and of its children.

    A stream that is closed becomes the null device. Otherwise, the next file or connection would get the number of the
    stream, and what libraries write to the stream. A pipe gets more room, so that a reader that is late for a moment
    costs no lines. The usual room is 64 KiB, which is 300 lines of the access log.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for descriptor in (1, 2):
        with suppress(OSError):  # It is no pipe.
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
