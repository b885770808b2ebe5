"""Values of command-line options, checked before anything is measured, because a run takes minutes."""

import argparse
import math
import os
from pathlib import Path


def whole_number(text: str) -> int:
    """Parse a whole number above 0. Raises `ArgumentTypeError` for anything else."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Parse whole numbers above 0 between commas, each once. Raises `ArgumentTypeError` for anything else."""
    return tuple(dict.fromkeys(map(whole_number, text.split(","))))


def positive_number(text: str) -> float:
    """Parse a number above 0. Raises `ArgumentTypeError` for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


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
