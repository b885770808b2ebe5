"""A worker process: decode and resize one image at a time, until the gateway closes its socket."""

import os
import resource
import socket
import time
import traceback
from typing import Final, NoReturn

from PIL import Image

from gateway.errors import InvalidImage
from gateway.images.base64_input import decode_base64, is_base64, unescaped
from gateway.images.confined.confinement import allow_cpu_seconds, confine
from gateway.images.confined.messages import JOB, MAX_MESSAGE, RESULT, Limits, Outcome, Source
from gateway.images.decode import decode
from gateway.images.decoder import NO_MEMORY
from gateway.images.formats import format_of
from gateway.images.numpy_input import read_array
from gateway.images.preprocess import preprocess
from gateway.images.sources import MALFORMED_BASE64

# What a large image leaves behind in the heap could keep memory for good. After one, a new worker is cheaper: 5 ms.
_MAX_PEAK_BYTES: Final = 256 * 2**20


def run(channel: socket.socket, memory: int, limits: Limits) -> NoReturn:
    """Confine this process, then work until the socket is closed.

    Args:
        channel: the worker's end of its socket.
        memory: the descriptor of the memory file.
    """
    # Decoders print what they find wrong with an image, and a client's image is no event of the server.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    channel.send(bytes([confine(limits.memory_bytes)]))
    ends = False
    while not ends and (message := channel.recv(JOB.size)):
        source, escaped, length, height, width = JOB.unpack(message)
        allow_cpu_seconds(limits.cpu_seconds)
        start = decoded = time.perf_counter()
        try:
            data = os.pread(memory, length, 0)
            image = load(Source(source), unescaped(data) if escaped else data, limits.max_pixels)
            del data
            decoded = time.perf_counter()
            pixels = preprocess(image, (height, width))
            os.pwrite(memory, pixels.data, 0)
            outcome, text = Outcome.PIXELS, ""
            del image, pixels
        except InvalidImage as error:
            outcome, text = Outcome.INVALID_IMAGE, error.cause
        except MemoryError:
            outcome, text = Outcome.INVALID_IMAGE, NO_MEMORY
        except Exception:
            outcome, text = Outcome.FAILED, traceback.format_exc()[-1_000:]
        ends = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 > _MAX_PEAK_BYTES
        result = RESULT.pack(outcome, ends, decoded - start, time.perf_counter() - decoded)
        channel.send((result + text.encode(errors="replace"))[:MAX_MESSAGE])
    os._exit(0)


def load(source: Source, data: bytes, max_pixels: int) -> Image.Image:
    """Decode an image to RGB.

    Raises:
        InvalidImage: it cannot be decoded.
    """
    match source:
        case Source.FILE:
            return decode(data, max_pixels)
        case Source.BASE64:
            file = decode_base64(data)
            if format_of(file) is None and not is_base64(data):
                raise InvalidImage(MALFORMED_BASE64)
            return decode(file, max_pixels)
        case Source.ARRAY:
            return Image.fromarray(read_array(decode_base64(data), max_pixels))
