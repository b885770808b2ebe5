"""Which shared libpython an embedded twin of an interpreter must load.

Triton's Python stub links `libpython3.x.so.1.0`. Left alone, the loader takes the system's library of the same minor
version, or none: with a Python built elsewhere (pyenv, uv, conda) that is the wrong one, or a failure to start.
Standard library only: deploy/setup.sh uses this too.
"""

import ctypes
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Run by the interpreter in question. `base_prefix/lib` is for relocated builds, whose LIBDIR is on their build machine.
_ASK = """
import json, sys, sysconfig
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "directories": [sysconfig.get_config_var("LIBDIR"), sys.base_prefix + "/lib"],
    "site_packages": sysconfig.get_path("platlib"),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python's word on itself."""

    version: str  # "3.11"
    directories: tuple[Path, ...]  # where its own libpython would lie
    site_packages: Path

    @property
    def library(self) -> str:
        """The file name of its shared library, as Debian's packages and the stub have it."""
        return f"libpython{self.version}.so.1.0"


def ask(python: Path) -> Interpreter:
    """What `python` says about itself. OSError or subprocess.SubprocessError if it does not run."""
    reply = subprocess.run([python, "-I", "-c", _ASK], check=True, capture_output=True, timeout=30).stdout
    said = json.loads(reply)
    directories = tuple(Path(directory) for directory in said["directories"] if directory)
    return Interpreter(said["version"], directories, Path(said["site_packages"]))


def find(interpreter: Interpreter) -> Path | None:
    """Its own library, else the system's of the same minor version (a bare name that the loader finds), else None."""
    for directory in interpreter.directories:
        if (directory / interpreter.library).exists():
            return (directory / interpreter.library).resolve()
    try:
        ctypes.CDLL(interpreter.library)
    except OSError:
        return None
    return Path(interpreter.library)
