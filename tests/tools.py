"""Find programs that tests run: on the path, where Debian puts servers, or where `deploy/test_tools.sh` puts them."""

import os
import shutil
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_FOLDERS: Final = ("/usr/sbin", str(ROOT / ".tools/usr/bin"), str(ROOT / ".tools/usr/sbin"), str(ROOT / ".tools"))


def find_tool(program: str) -> Path:
    """Find a program, or fail with what brings it."""
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_FOLDERS]))
    assert found, f"`make test` brings {program}"
    return Path(found)
