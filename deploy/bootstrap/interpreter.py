"""Which Python the environments are made with. Runs on older Pythons too, to say so clearly."""

from __future__ import annotations

import os
import subprocess
import sys

from deploy.bootstrap.errors import BootstrapError

SUITABLE = ((3, 12), (3, 11))


def ensure() -> None:
    """Returns if the running Python is suitable, else starts the program over with one from the PATH.

    Raises BootstrapError if there is none.
    """
    if sys.version_info[:2] in SUITABLE:
        return
    for version in SUITABLE:
        name = f"python{version[0]}.{version[1]}"
        if _runs(name, version):
            os.execvp(name, [name, *sys.argv])
    raise BootstrapError(
        f"Python 3.11 or 3.12 is needed. This is {sys.version_info[0]}.{sys.version_info[1]}, "
        "and neither python3.12 nor python3.11 is on the PATH.\n"
        "Install one (Debian, Ubuntu: apt-get install python3.11), or name it: make PYTHON=/path/to/python3.11"
    )


def _runs(name: str, version: tuple[int, int]) -> bool:
    # A name on the PATH may be a version manager's placeholder that only prints an error.
    check = f"import sys; sys.exit(sys.version_info[:2] != {version!r})"
    try:
        return subprocess.run([name, "-c", check], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
