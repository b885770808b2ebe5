"""Read one file or URL, and tell pictures from other files by their names."""

import contextlib
import io
import os
import random
import re
import stat
import time
from pathlib import Path
from typing import Final

import httpx2

from deploy.bulk import retry_after
from deploy.bulk.errors import ItemError, too_long
from deploy.bulk.sources import videos
from deploy.bulk.sources.item import Content, Video

# The formats that the gateway reads.
IMAGE_SUFFIXES: Final = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif", ".heic",
     ".heif", ".jp2", ".j2k", ".jpx", ".jpf", ".pnm", ".ppm", ".pgm", ".pbm")
)  # fmt: skip
TEXT_SUFFIXES: Final = frozenset((".txt",))
_URL: Final = re.compile(r"https?://", re.IGNORECASE)
_URL_SECONDS: Final = 20.0  # without a byte
_MAX_URL_SECONDS: Final = 120.0  # for all attempts: rows of later items wait for this one
_URL_ATTEMPTS: Final = 3
_MAX_PAUSE_SECONDS: Final = 30.0
# Answers of hosts that are busy or broken at the moment.
_AGAIN: Final = (408, 425, 429)

_client: httpx2.Client | None = None


def is_url(value: str) -> bool:
    """Whether a value of a list or a table is a URL, and not a path."""
    return _URL.match(value) is not None


def suffix(name: str) -> str:
    """The end of a name in lower case: `.jpg`."""
    return os.path.splitext(name)[1].lower()


def is_wanted(name: str, text: bool) -> bool:
    """Whether a file is a picture or a video by its name; with `text`, whether it is a text."""
    return suffix(name) in (TEXT_SUFFIXES if text else IMAGE_SUFFIXES | videos.SUFFIXES)


def printable(path: str) -> str:
    """The path as an id. Bytes that are not UTF-8 are written as `\\xff`, because ids are texts everywhere."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def load(path: str | Path, max_bytes: int, text: bool = False) -> Content:
    """Read a file. A video is only opened.

    Raises:
        ItemError: it cannot be read, is no regular file, is too long, or is no text.
    """
    try:
        # Without this flag, opening a named pipe waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.ExitStack() as closing:
            file = closing.enter_context(open(descriptor, "rb"))
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ItemError("This is no regular file.")
            if not text and (suffix(os.fspath(path)) in videos.SUFFIXES or videos.is_video(file.peek(videos.HEAD))):
                closing.pop_all()
                return Video(file)
            if status.st_size > max_bytes:
                raise too_long(status.st_size, max_bytes)
            return content(file.read(max_bytes + 1), max_bytes, text)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ItemError(f"The file cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def content(data: bytes, max_bytes: int, text: bool) -> Content:
    """An image file or a video, or the text in UTF-8 that the bytes are.

    Raises:
        ItemError: they are too many, or no UTF-8.
    """
    if len(data) > max_bytes:
        raise too_long(len(data), max_bytes)
    if not text:
        return Video(io.BytesIO(data)) if videos.is_video(data) else data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ItemError(f"The text is not UTF-8: {error.reason} at byte {error.start}.") from None


def fetch(url: str, max_bytes: int, text: bool = False) -> Content:
    """Fetch what is at a URL, from this machine: up to three times, if its host is busy or fails.

    Raises:
        ItemError: there is nothing to be had, it is too long, or it takes more than two minutes.
    """
    deadline = time.monotonic() + _MAX_URL_SECONDS
    trouble = ""
    for attempt in range(_URL_ATTEMPTS):
        pause = 0.0
        try:
            with _http().stream("GET", url) as response:
                status = response.status_code
                if status == 200:
                    return content(_body(response, max_bytes, deadline), max_bytes, text)
                if status < 500 and status not in _AGAIN:
                    raise ItemError(f"The URL has status {status}.")
                trouble = f"status {status}"
                asked = retry_after.seconds(response.headers.get("Retry-After"))
                pause = random.uniform(0.5, 1) * 2**attempt if asked is None else asked
        except httpx2.TransportError as error:
            trouble = f"{type(error).__name__}: {error}"
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise ItemError(f"The URL cannot be fetched: {error}") from None
        last = attempt + 1 == _URL_ATTEMPTS
        if last or pause > _MAX_PAUSE_SECONDS or time.monotonic() + pause > deadline:
            break
        time.sleep(pause)
    raise ItemError(f"The URL cannot be fetched: {trouble.rstrip('.')}.")


def _body(response: httpx2.Response, max_bytes: int, deadline: float) -> bytes:
    data = bytearray()
    for piece in response.iter_bytes():
        data += piece
        if len(data) > max_bytes:
            raise ItemError(f"The URL has more than {max_bytes} bytes, the most that the server reads.")
        if time.monotonic() > deadline:
            raise ItemError(f"The URL took more than {_MAX_URL_SECONDS:g} seconds.")
    return bytes(data)


def _http() -> httpx2.Client:
    global _client
    if _client is None:
        limits = httpx2.Limits(max_connections=64)
        headers = {"User-Agent": "pe-embed", "Accept": "*/*"}
        _client = httpx2.Client(
            timeout=_URL_SECONDS, follow_redirects=True, max_redirects=5, limits=limits, headers=headers
        )
    return _client
