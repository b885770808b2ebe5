"""WebDataset's tar files: https://github.com/webdataset/webdataset#the-webdataset-format

Consecutive members whose names differ only after the first dot are one sample: a picture, its caption, its class.
"""

import os
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

from deploy.bulk.errors import ItemError, UsageError, too_long
from deploy.bulk.sources import files
from deploy.bulk.sources.item import Content, Item

SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# A member of a compressed tar file is read as soon as it comes, before the server's limit is known.
_MAX_BYTES: Final = 256 * 2**20
_MAX_COLUMN_BYTES: Final = 2**20


class Tar:
    """The pictures of tar files, in the order of the files' names and of the members.

    Args:
        paths: of the files, which must have different names.
        columns: of each sample, the members to keep as columns, by what follows the first dot: `txt`, `json`.
        text: members that end with `.txt` are the items.

    Raises:
        UsageError: one cannot be read, or two have the same name.
    """

    def __init__(self, paths: Sequence[Path], columns: Sequence[str], *, text: bool = False) -> None:
        self._paths = sorted(paths, key=lambda path: path.name)
        self._columns = columns
        self._text = text
        for path, following in zip(self._paths, self._paths[1:], strict=False):
            if path.name == following.name:
                raise UsageError(f"{path} and {following} have the same name, and ids begin with it. Rename one.")
        for path in self._paths:
            _open(path).close()

    @property
    def description(self) -> str:
        """See `Source`."""
        kind = "texts" if self._text else "pictures"
        return f"{kind} of {' '.join(files.printable(str(path.resolve())) for path in self._paths)}"

    def ids(self) -> Iterator[str]:
        """See `Source`. An id is the name of the tar file and that of the member. A compressed file is read through."""
        for path in self._paths:
            for member in _members(path):
                if files.is_wanted(member.name, self._text):
                    yield _id(path, member)

    def __iter__(self) -> Iterator[Item]:
        """See `Source`.

        Raises:
            UsageError: a file is damaged.
        """
        for path in self._paths:
            with _open(path) as tar:
                for _, sample in groupby(_members(path, tar), lambda member: _key(member.name)):
                    yield from self._items(path, tar, sample)

    def _items(self, path: Path, tar: tarfile.TarFile, sample: Iterator[tarfile.TarInfo]) -> Iterator[Item]:
        columns: dict[str, str | None] = dict.fromkeys(self._columns)
        loads = []
        for member in sample:
            extension = member.name[len(_key(member.name)) + 1 :]
            if extension in columns and member.size <= _MAX_COLUMN_BYTES:
                columns[extension] = _read(tar, member).decode("utf-8", "replace")
            if files.is_wanted(member.name, self._text):
                loads.append((_id(path, member), self._load(path, tar, member)))
        for item_id, load in loads:
            yield Item(item_id, load, columns)

    def _load(self, path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> partial[Content]:
        if path.suffix == ".tar" and not member.issparse():
            return partial(_at, path, member.offset_data, member.size, self._text)
        if member.size > _MAX_BYTES:
            return partial(_refuse, member.size)
        return partial(_given, _read(tar, member), self._text)


def _key(name: str) -> str:
    """The name of a sample: the path up to the first dot of the last part."""
    folder, base = os.path.split(name)
    return os.path.join(folder, base.partition(".")[0])


def _id(path: Path, member: tarfile.TarInfo) -> str:
    return files.printable(f"{path.name}/{member.name}")


def _open(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise _unreadable(path, error) from None


def _members(path: Path, tar: tarfile.TarFile | None = None) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar file. WebDataset leaves out names that begin with a dot, which macOS adds."""
    with tar or _open(path) as opened:
        try:
            for member in opened:
                if member.isreg() and not os.path.basename(member.name).startswith("."):
                    yield member
        except (OSError, tarfile.TarError, EOFError) as error:
            raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UsageError:
    # Of a file that is none, tarfile says on several lines what each of its methods found.
    reason = getattr(error, "strerror", None) or str(error).partition(":\n")[0]
    return UsageError(f"{path}: this tar file cannot be read: {reason}.")


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "not a regular file"
    return file.read()


def _at(path: Path, offset: int, size: int, text: bool, max_bytes: int) -> Content:
    """A member of a file that is not compressed, read where it lies."""
    if size > max_bytes:
        raise too_long(size, max_bytes)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise ItemError(f"The tar file cannot be read: {error.strerror}.") from None
    if len(data) < size:
        raise ItemError("The tar file ends within this member.")
    return files.content(data, max_bytes, text)


def _given(data: bytes, text: bool, max_bytes: int) -> Content:
    return files.content(data, max_bytes, text)


def _refuse(size: int, max_bytes: int) -> Content:
    raise too_long(size, max_bytes)
