"""The messages between the gateway, the fork server and the workers, and the limits of a worker.

Each message is one packet of a Unix socket (SOCK_SEQPACKET). The bytes of an image and its pixels do not travel in
messages: both sides read and write a memory file (`memfd_create`) by `pread` and `pwrite`. The gateway does not map the
file, because a worker could shrink it, and access behind the end of a mapped file is a SIGBUS.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_MESSAGE: Final = 2_048


class Source(IntEnum):
    """What the bytes in the memory file are."""

    FILE = 0
    """An image file."""
    BASE64 = 1
    """An image file in base64, with or without a `data:` prefix."""
    ARRAY = 2
    """A numpy array in base64."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one worker.

    Attributes:
        max_pixels: of one image.
        memory_bytes: beside what a worker has at its start.
        cpu_seconds: for one image.
    """

    max_pixels: int
    memory_bytes: int
    cpu_seconds: float


# -- Gateway to worker: decode `length` bytes of `source` and resize to (height, width). A flag says whether the bytes
# are the content of a JSON string with escapes.
JOB: Final = struct.Struct("<B?QII")


class Outcome(IntEnum):
    """How a worker's job ended."""

    PIXELS = 0
    """The pixels, uint8 [height, width, 3], are in the memory file."""
    INVALID_IMAGE = 1
    """A text follows: the cause for the client."""
    FAILED = 2
    """A text follows: the traceback of an error that the worker did not expect."""


# -- Worker to gateway: first one byte, a `Confinement`, then for each job its outcome, whether the worker ends now, the
# seconds of decoding and of preprocessing, and a text.
RESULT: Final = struct.Struct("<B?dd")


class Control(IntEnum):
    """The messages of the fork server's own socket."""

    READY = 0
    """Fork server to gateway: it can start workers."""
    START = 1
    """Gateway to fork server: start a worker. It answers STARTED or NOT_STARTED."""
    STARTED = 2
    """With the process id, and two descriptors: the worker's socket and its memory file."""
    NOT_STARTED = 3
    """With the error number."""
    KILL = 4
    """Gateway to fork server: kill the worker with this process id."""
    ENDED = 5
    """Fork server to gateway: the worker with this process id ended, with this status as in `os.waitpid`."""


CONTROL: Final = struct.Struct("<Bii")
