"""Choose the source that a command line names."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.bulk.errors import UsageError
from deploy.bulk.sources import files, table, tar
from deploy.bulk.sources.folder import Folder
from deploy.bulk.sources.item import Source
from deploy.bulk.sources.listed import STANDARD_INPUT, Listed

_LISTS: Final = (".txt", ".list", ".lst")


def open_source(arguments: Namespace) -> Source:
    """Open what `arguments.source` names.

    Args:
        arguments: with `source` (a list), `text`, `all_files`, `column`, `id_column`, `columns` (a list) and `root`.

    Raises:
        UsageError: it does not exist, cannot be read, or is nothing that is known.
    """
    names: Sequence[str] = arguments.source
    first, text, root = names[0], arguments.text, Path(arguments.root)
    for name in names:
        if name != STANDARD_INPUT and not files.is_url(name) and not Path(name).exists():
            raise UsageError(f"{files.printable(name)}: there is no such file or folder.")
    if any(name.endswith(tar.SUFFIXES) for name in names):
        if not all(name.endswith(tar.SUFFIXES) for name in names):
            raise UsageError("Tar files cannot be mixed with other sources. Run pe-embed for each.")
        return tar.Tar([Path(name) for name in names], arguments.columns, text=text)
    if all(files.is_url(name) or (files.is_wanted(name, text=False) and not Path(name).is_dir()) for name in names):
        if text:
            raise UsageError(f"--text: {files.printable(first)} is no text. Give a list of texts, a table or a folder.")
        return Listed(names, f"pictures {' '.join(files.printable(name) for name in names)}", Path())
    if len(names) > 1:
        raise UsageError(
            f"{files.printable(names[1])}: only pictures, URLs and tar files may be several. Run pe-embed for each "
            "source, or give a list of the files."
        )
    if first != STANDARD_INPUT and Path(first).is_dir():
        return Folder(Path(first), text=text, all_files=arguments.all_files)
    if files.suffix(first) in table.SUFFIXES:
        if arguments.column is None:
            raise UsageError(f"{files.printable(first)}: name the column of the pictures or texts with --column.")
        return table.Table(Path(first), arguments.column, arguments.id_column, arguments.columns, root, text=text)
    if first == STANDARD_INPUT or files.suffix(first) in _LISTS:
        return Listed.read(first, root, text=text)
    raise UsageError(
        f"{files.printable(first)}: this is no folder, list ({', '.join(_LISTS)}, or - for the standard input), table "
        f"({', '.join(table.SUFFIXES)}), tar file or picture."
    )
