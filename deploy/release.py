#!/usr/bin/env python3
"""Check a release's tag, and write its notes: python3 deploy/release.py v1.2.3 [--links URL]

The tag is "v" and the version of `pyproject.toml`. The notes are the section of that version in `CHANGELOG.md`, which
has to be the newest one with a version, and to have a date. They are written to the standard output, an item a line,
because a forge shows line breaks of notes. `--links` makes their relative links absolute, for a page outside the
repository.

Exit status: 0 if the tag fits, 1 if not. This file needs only Python 3.11.
"""

import argparse
import datetime
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

_SECTION: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_RELEASED: Final = re.compile(r"\[?(\d[\w.]*)\]?(?: - (.*))?")
_CONTINUED: Final = re.compile(r"\n ++(?![-*] )")
_RELATIVE_LINK: Final = re.compile(r"\]\((?!#|[a-z]+:)([^)\s]+)\)")


class ReleaseError(Exception):
    """The files do not fit the tag."""


def notes(tag: str, root: Path = ROOT) -> str:
    """Return the notes of the release with a tag, in Markdown.

    Raises:
        ReleaseError: the tag, the project's version and the changelog do not fit each other.
    """
    version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    if tag != f"v{version}":
        raise ReleaseError(
            f"the tag is {tag}, but pyproject.toml has the version {version}: the tag must be v{version}"
        )
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    for section in _SECTION.finditer(changelog):
        if released := _RELEASED.fullmatch(section[1]):
            break
    else:
        raise ReleaseError(f'CHANGELOG.md has no section of a version: rename "Unreleased" to "{version} - YYYY-MM-DD"')
    if released[1] != version:
        raise ReleaseError(f"the newest section of CHANGELOG.md is of {released[1]}, and pyproject.toml has {version}")
    try:
        datetime.date.fromisoformat(released[2] or "")
    except ValueError:
        raise ReleaseError(f'CHANGELOG.md: the section of {version} has no date: "## {version} - YYYY-MM-DD"') from None
    text = changelog[section.end() :].partition("\n## ")[0].strip()
    if not text:
        raise ReleaseError(f"CHANGELOG.md: the section of {version} is empty")
    return _CONTINUED.sub(" ", text)


def absolute(text: str, base: str) -> str:
    """Return Markdown with its relative links below the URL `base`."""
    return _RELATIVE_LINK.sub(rf"]({base.rstrip('/')}/\1)", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 1 if the tag does not fit."""
    parser = argparse.ArgumentParser(description="Check a release's tag, and write its notes.")
    parser.add_argument("tag", help="the release's tag, for example v1.2.3")
    parser.add_argument("--links", metavar="URL", help="where the notes' relative links lead")
    options = parser.parse_args(arguments)
    try:
        text = notes(options.tag)
    except ReleaseError as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    sys.stdout.write(f"{absolute(text, options.links) if options.links else text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
