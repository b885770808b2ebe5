"""A file of API keys, which is read again when it changes.

One key a line. Blank lines and lines that start with `#` do not count. Spaces around a key are removed.
"""

import logging
import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 2**20
# How often the file's status is read. A key that is removed from the file works for as long.
_SECONDS_BETWEEN_CHECKS: Final = 1.0

_log = logging.getLogger(__name__)


def digest(key: str) -> bytes:
    """The SHA-256 of a key."""
    return sha256(key.encode(errors="surrogatepass")).digest()


class KeysFile:
    """The keys of a file.

    A change that cannot be read, or that leaves no key, is logged, and the keys from before stay. A server without keys
    would be open to everybody.

    Args:
        path: the file. It may be a link, as in a volume of Kubernetes.

    Raises:
        ValueError: the file cannot be read, or has no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problem = ""
        self._seen = self._status()
        self._digests = self._read()
        self._checked = time.monotonic()

    @property
    def digests(self) -> list[bytes]:
        """The digests of the keys that the file has now."""
        if time.monotonic() - self._checked >= _SECONDS_BETWEEN_CHECKS:
            self._checked = time.monotonic()
            self._reload()
        return self._digests

    def _reload(self) -> None:
        try:
            status = self._status()
            if status == self._seen:
                return
            self._digests = self._read()
        except ValueError as error:
            if str(error) != self._problem:  # Once, and not at each check.
                _log.error("%s. The keys from before stay", error)
            self._problem = str(error)
        else:
            self._seen, self._problem = status, ""
            _log.info("PE_API_KEYS_FILE was read again: keys=%d", len(self._digests))

    def _status(self) -> tuple[int, ...]:
        try:
            status = os.stat(self._path)
        except (OSError, ValueError) as error:
            raise ValueError(f"PE_API_KEYS_FILE: {self._path} cannot be read: {_reason(error)}") from None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def _read(self) -> list[bytes]:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            text = content.decode("utf-8-sig")
        except (OSError, ValueError) as error:
            raise ValueError(f"PE_API_KEYS_FILE: {self._path} cannot be read: {_reason(error)}") from None
        if len(content) > _MAX_BYTES:
            raise ValueError(f"PE_API_KEYS_FILE: {self._path} has more than {_MAX_BYTES} bytes")
        lines = (line.strip() for line in text.splitlines())
        keys = dict.fromkeys(line for line in lines if line and not line.startswith("#"))
        if not keys:
            raise ValueError(f"PE_API_KEYS_FILE: {self._path} has no key")
        return [digest(key) for key in keys]


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return getattr(error, "strerror", None) or str(error)
