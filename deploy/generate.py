#!/usr/bin/env python3
"""Write Triton's release and the version into every file that names them: python3 deploy/generate.py [--check]

`deploy/triton-release.txt` holds the release, and `pyproject.toml` the version. With `--check` nothing is written, and
the exit status is 1 if a file of the checkout names another release or version. This file needs only Python 3.11.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
RELEASE: Final = Path("deploy/triton-release.txt")

# The ways in which files name the release: the tag of Triton's or the exporter's image, the name of a folder of models,
# and the values of the variable TRITON_RELEASE and of the chart's tritonRelease.
_MENTION: Final = re.compile(
    r"(tritonserver:|perception-encoder-export:|newTag: |/repository/|TRITON_RELEASE(?:=|: ?\"?|:-)|tritonRelease: \")"
    r"(\d\d\.\d\d)(?=\D)"
)
# The ways in which files name the version: the tag of the gateway's or the exporter's image, and the chart's version.
_VERSION: Final = re.compile(
    r"(perception-encoder-gateway:|perception-encoder-export:(?:\$\{TRITON_RELEASE:-)?\d\d\.\d\d\}?-"
    r"|newTag: (?:\d\d\.\d\d-)?|/perception-encoder --version )(\d+\.\d+\.\d+\w*)"
)


def release(root: Path = ROOT) -> str:
    """Return Triton's release in the form of its image tags, "YY.MM"."""
    return (root / RELEASE).read_text("utf-8").strip()


def version(root: Path = ROOT) -> str:
    """Return the project's version."""
    return str(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def stale(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Yield each file below `root` that names another release or version, with the content that it should have."""
    triton, own = release(root), version(root)
    for path in files(root):
        text = _text(root / path)
        renewed = _VERSION.sub(rf"\g<1>{own}", _MENTION.sub(rf"\g<1>{triton}", text))
        if renewed != text:
            yield path, renewed


def files(root: Path) -> list[Path]:
    """Return the files below `root` that git tracks or does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(Path(name) for name in listed.split("\0") if name and (root / name).is_file())


def _text(path: Path) -> str:
    """Return the text of a file; empty for a binary file."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 1 if `--check` finds a difference."""
    parser = argparse.ArgumentParser(
        description="Write Triton's release and the version into every file that names them."
    )
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    check = parser.parse_args(arguments).check
    found = list(stale())
    for path, text in found:
        sys.stderr.write(f"{path} {'is not what deploy/generate.py writes' if check else 'written'}\n")
        if not check:
            (ROOT / path).write_text(text, "utf-8")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
