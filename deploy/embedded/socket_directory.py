"""The directory for Triton's socket. Only the user who runs `pe-serve` can enter it."""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.embedded.directory_lock import locked
from deploy.embedded.endpoints import SocketEndpoint
from deploy.embedded.errors import SocketDirectoryImpossible
from gateway.triton import addresses

_PREFIX: Final = "pe-triton-"
_RANDOM: Final = "12345678"  # as many characters as `mkdtemp` adds
_STALE_SECONDS: Final = 60.0
# gRPC reads the path as part of a URI.
_SAFE: Final = re.compile(r"/[A-Za-z0-9_.~@+=/-]*")


def parents() -> list[Path]:
    """Return the directories to try in order: the user's own one for sockets, then the ones for temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [Path(name).absolute() for name in dict.fromkeys(filter(None, (runtime, tempfile.gettempdir(), "/tmp")))]


@contextmanager
def socket_directory(candidates: Iterable[Path]) -> Iterator[Path]:
    """Create a directory of mode 0700 in the first candidate that can hold it, and remove it at the end.

    Directories that runs left there because they were killed are removed as well.

    Raises:
        SocketDirectoryImpossible: no candidate can hold it.
    """
    path = _make(candidates)
    try:
        with locked(path, _PREFIX, _STALE_SECONDS):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _make(candidates: Iterable[Path]) -> Path:
    reasons: dict[Path, str] = {}
    for parent in candidates:
        try:
            reason = _objection(parent)
            if not reason:
                return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))  # mkdtemp makes directories of mode 0700
        except OSError as error:
            reason = error.strerror or str(error)
        reasons[parent] = reason
    raise SocketDirectoryImpossible(reasons)


def _objection(parent: Path) -> str:
    """Return why the socket cannot lie below `parent`; "" if it can."""
    path = SocketEndpoint(parent / f"{_PREFIX}{_RANDOM}").grpc.removeprefix("unix:")
    if not _SAFE.fullmatch(str(parent)):
        return "its path is not absolute, or has characters that gRPC does not accept"
    if len(os.fsencode(path)) > addresses.MAX_PATH_BYTES:
        return f"its path is too long: a socket's path has at most {addresses.MAX_PATH_BYTES} bytes"
    found = parent.stat()
    # A user who may rename entries of the parent could put another directory in its place.
    if found.st_uid not in (0, os.geteuid()) or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
        return "another user could replace what is in it"
    return ""
