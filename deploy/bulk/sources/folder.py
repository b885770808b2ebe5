"""A folder: its pictures, and those of the folders in it."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from deploy.bulk.errors import UsageError
from deploy.bulk.sources import files
from deploy.bulk.sources.item import Item


class Folder:
    """The pictures below a folder, sorted by path. Names that begin with a dot are left out.

    Links are followed, and each folder is read once, at the first of its paths. So loops of links end.

    Args:
        path: of the folder.
        text: take `.txt` files, as texts, in place of pictures.
        all_files: take every file, whatever its name is.

    Attributes:
        skipped: how many files were left out in the last complete pass, because they are no pictures by their names.

    Raises:
        UsageError: this is no folder that can be read.
    """

    def __init__(self, path: Path, *, text: bool = False, all_files: bool = False) -> None:
        self._root = str(path)
        self._text = text
        self._all_files = all_files
        self.skipped = 0
        try:
            os.listdir(self._root)
        except OSError as error:
            raise UsageError(f"{path}: this folder cannot be read: {error.strerror}.") from None

    @property
    def description(self) -> str:
        """See `Source`."""
        return f"{'texts' if self._text else 'pictures'} of the folder {files.printable(os.path.realpath(self._root))}"

    def ids(self) -> Iterator[str]:
        """See `Source`. An id is the path in the folder."""
        return (item.id for item in self)

    def __iter__(self) -> Iterator[Item]:
        """See `Source`.

        Raises:
            UsageError: a folder in it cannot be read.
        """
        self.skipped = 0
        yield from self._walk("", set())

    def _walk(self, inside: str, read: set[tuple[int, int]]) -> Iterator[Item]:
        """The pictures of one folder. `read` identifies the folders that were read, by device and inode."""
        path = os.path.join(self._root, inside)
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            if identity in read:
                return
            read.add(identity)
            entries = sorted(os.scandir(path), key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise UsageError(
                f"{files.printable(path)}: this folder cannot be read: {error.strerror}. Make it readable, move it, or "
                "leave it out by a list of the files: find FOLDER -type f | pe-embed - ..."
            ) from None
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = os.path.join(inside, entry.name)
            if _is(entry, "is_dir"):
                yield from self._walk(name, read)
            elif not (self._all_files or files.is_wanted(entry.name, self._text)):
                self.skipped += 1
            elif _is(entry, "is_file") or entry.is_symlink():  # a link that leads nowhere becomes an error in its row
                columns = {"folder": files.printable(inside)}
                load = partial(files.load, entry.path, text=self._text)
                yield Item(files.printable(name), load, columns)


def _is(entry: os.DirEntry[str], question: str) -> bool:
    try:
        return bool(getattr(entry, question)())
    except OSError:  # a link to itself
        return False
