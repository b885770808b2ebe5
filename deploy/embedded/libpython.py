"""Find the shared libpython that a program with an embedded Python interpreter must load.

Triton's Python stub links `libpython3.x.so.1.0`. By default, the loader takes the system's library of the same
minor version, or finds none. With a Python built elsewhere (pyenv, uv, conda), the library is then the wrong one, or
the stub fails to start.
"""

import ctypes
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The inspected interpreter runs this. `base_prefix/lib` is for relocated builds, whose LIBDIR names a directory of the
# machine that built them.
_SCRIPT: Final = """
import json, sys, sysconfig
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "directories": [sysconfig.get_config_var("LIBDIR"), sys.base_prefix + "/lib"],
    "site_packages": sysconfig.get_path("platlib"),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """The facts about a Python interpreter that locate its library and packages."""

    version: str  # "3.11"
    directories: tuple[Path, ...]  # where its own libpython may lie
    site_packages: Path

    @property
    def library(self) -> str:
        """The file name of its shared library, as in Debian's packages and in the stub."""
        return f"libpython{self.version}.so.1.0"


def inspect_interpreter(python: Path) -> Interpreter:
    """Run an interpreter to inspect it.

    Raises:
        OSError, subprocess.SubprocessError: the interpreter does not run.
    """
    reply = subprocess.run([python, "-I", "-c", _SCRIPT], check=True, capture_output=True, timeout=30).stdout
    facts = json.loads(reply)
    directories = tuple(Path(directory) for directory in facts["directories"] if directory)
    return Interpreter(facts["version"], directories, Path(facts["site_packages"]))


def find(interpreter: Interpreter) -> Path | None:
    """Return the interpreter's own library, else the bare name of the system's of the same minor version, else None."""
    for directory in interpreter.directories:
        if (directory / interpreter.library).exists():
            return (directory / interpreter.library).resolve()
    try:
        ctypes.CDLL(interpreter.library)
    except OSError:
        return None
    return Path(interpreter.library)
