#!/usr/bin/env python3
"""Write Triton's release into every file that names it: python3 deploy/generate.py [--check]

`deploy/triton-release.txt` holds the release. With `--check` nothing is written, and the exit status is 1 if a file of
the checkout names another release.
"""

import argparse
import re
import subprocess
import sys
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


def release(root: Path = ROOT) -> str:
    """Return Triton's release in the form of its image tags, "YY.MM"."""
    return (root / RELEASE).read_text("utf-8").strip()


def stale(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Yield each file below `root` that names another release, with the content that it should have."""
    wanted = release(root)
    for path in files(root):
        text = _text(root / path)
        renewed = _MENTION.sub(rf"\g<1>{wanted}", text)
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
    parser = argparse.ArgumentParser(description="Write Triton's release into every file that names it.")
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
