"""The option `--output`: checked before anything is measured, because a run takes minutes."""

import argparse
import os
from pathlib import Path


def output_folder(text: str) -> Path:
    """Return the folder that an option names. It need not exist.

    Raises:
        ArgumentTypeError: it cannot be made, or cannot be written to.
    """
    path = Path(text)
    there = next(place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"{there} is in the way: it is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{there} cannot be written to")
    return path
