#!/usr/bin/env python3
"""Writes what is stated once and needed in many places: python3 deploy/generate.py [--check]

Triton's release stands in `deploy/triton-release.txt`, and every file of the checkout that names it follows. With
`--check` nothing is written, and a difference is exit status 1.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path("deploy/triton-release.txt")

# How files may name the release: in a tag of Triton's image or the exporter's, in the name of a folder of models, or as
# the variable of that name.
_MENTION = re.compile(
    r"(tritonserver:|perception-encoder-export:|newTag: |/repository/|TRITON_RELEASE(?:=|: ?\"?|:-))(\d\d\.\d\d)(?=\D)"
)


def release(root: Path = ROOT) -> str:
    """Triton's release, as its images are tagged: "YY.MM"."""
    return (root / RELEASE).read_text("utf-8").strip()


def stale(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Each file that is not what it should be, below `root`, with what it should contain."""
    wanted = release(root)
    for path in files(root):
        text = _text(root / path)
        renewed = _MENTION.sub(rf"\g<1>{wanted}", text)
        if renewed != text:
            yield path, renewed


def files(root: Path) -> list[Path]:
    """What git tracks, or would."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(Path(name) for name in listed.split("\0") if name and (root / name).is_file())


def _text(path: Path) -> str:
    """Empty for what is no text."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1: with --check, something is not as it would be written."""
    parser = argparse.ArgumentParser(description="Write what is stated once and needed in many places.")
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
