"""A worker as the gateway sees it: its process id, its socket, and its memory file."""

import asyncio
import os
import resource
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from gateway.encoder import Pixels
from gateway.errors import InvalidImage
from gateway.images.confined.messages import JOB, MAX_MESSAGE, Source
from gateway.images.decoder import LoadedSource
from gateway.images.sources import MALFORMED_BASE64, ArrayImage, Base64Image, EncodedImage
from gateway.json_string import EscapedString

# Copying so many bytes takes less than 1 ms. Then the event loop runs other callbacks.
_COPY_BYTES: Final = 2**20
# The memory that a worker's file keeps between images.
_KEPT_BYTES: Final = 4 * 2**20
_KINDS: Final = {EncodedImage: Source.FILE, Base64Image: Source.BASE64, ArrayImage: Source.ARRAY}


class WorkerHandle:
    """One worker. The pool says when it works.

    Args:
        pid: the process id.
        channel: the gateway's end of the worker's socket, in non-blocking mode.
        memory: the descriptor of the memory file.
        receive: called with the worker and each of its messages.
    """

    def __init__(
        self, pid: int, channel: socket.socket, memory: int, receive: Callable[["WorkerHandle", bytes], None]
    ) -> None:
        self.pid = pid
        self._channel = channel
        self._memory = memory
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel, self.read)

    def read(self) -> None:
        """Pass on the message that arrived, if any."""
        try:
            message = self._channel.recv(MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if message:
            self._receive(self, message)
        else:
            self._loop.remove_reader(self._channel)  # The fork server will say how it ended.

    async def write(self, source: LoadedSource) -> int:
        """Write an image to the memory file.

        Returns:
            The number of bytes.

        Raises:
            InvalidImage: base64 has characters that are not ASCII.
        """
        data = source.data if isinstance(source, EncodedImage) else source.text
        if isinstance(data, EscapedString):
            data = data.content
        for start in range(0, len(data), _COPY_BYTES):
            if start:
                await asyncio.sleep(0)
            piece = data[start : start + _COPY_BYTES]
            try:
                os.pwrite(self._memory, piece.encode("ascii") if isinstance(piece, str) else piece, start)
            except UnicodeEncodeError:
                raise InvalidImage(MALFORMED_BASE64) from None
        return len(data)

    def begin(self, source: LoadedSource, length: int, image_size: tuple[int, int]) -> None:
        """Let the worker decode what was written.

        Raises:
            OSError: the worker has ended.
        """
        kind = _KINDS[type(source)]
        escaped = not isinstance(source, EncodedImage) and isinstance(source.text, EscapedString)
        self._channel.send(JOB.pack(kind, escaped, length, *image_size))

    def pixels(self, image_size: tuple[int, int]) -> Pixels | None:
        """Read the pixels, uint8 [H, W, 3]. None if the worker did not write them all."""
        pixels = np.empty((*image_size, 3), np.uint8)
        return pixels if os.preadv(self._memory, [pixels.data], 0) == pixels.nbytes else None

    def forget(self, length: int) -> None:
        """Return the memory of an image of so many bytes, if it was large."""
        if length > _KEPT_BYTES:
            os.ftruncate(self._memory, _KEPT_BYTES)

    def cpu_seconds(self) -> float:
        """The CPU time of its whole life. Infinite if the process has ended."""
        try:
            # The clock of another process: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of linux/posix-timers.h.
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return float("inf")

    def memory_bytes(self) -> int:
        """The memory that the process has now. 0 if it has ended."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()
        except OSError:
            return 0

    def lower_priority(self, niceness: int) -> None:
        """Let others have the CPU first."""
        with suppress(OSError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, self.pid, niceness)

    def close(self) -> None:
        """Close socket and file. An idle worker then ends."""
        self._loop.remove_reader(self._channel)
        self._channel.close()
        os.close(self._memory)
        self._memory = -1  # A write that is still under way must not reach another file with the old number.
