"""Check that Triton can load every TensorRT plan in a model repository on this machine.

    python3 preflight.py REPOSITORY     this file alone, inside a serving image, before `tritonserver` starts
    pe-export preflight                 the same check in the exporter's environment

Triton's own message for such a plan comes later and names no remedy. Each plan that Triton cannot load is a line on
standard error, with the command that rebuilds the plan.

Exit status: 0 if Triton can load every plan or there is no plan, 1 if it cannot load one, 2 if the repository cannot be
read. This file needs only Python 3.10 and the standard library, because a serving image has nothing else.
"""

import argparse
import ctypes
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CERTIFICATE: Final = "parity.json"

# Directories in which NVIDIA's images and packages install the library, in case the loader's own list lacks it.
_LIBRARY_DIRECTORIES: Final = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/tensorrt/lib",
    "/opt/tensorrt/lib",
)
_LIBRARY: Final = re.compile(r"libnvinfer\.so\.(\d+\.\d+\.\d+)")
_SERVED_AS_PLAN: Final = re.compile(r"""^\s*(backend|platform)\s*:\s*["']tensorrt(_plan)?["']""", re.MULTILINE)
_TARGET: Final = re.compile(r"tensorrt (\S+) sm(\d+)")
# cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_MAJOR: Final = 75
_MINOR: Final = 76


@dataclass(frozen=True)
class Machine:
    """The TensorRT library and the GPUs of a machine."""

    tensorrt: str
    """Version of the TensorRT library; empty if there is none."""
    compute_capabilities: tuple[str, ...]
    """Compute capability of each GPU that a process may use, without the dot: "90" is Hopper."""

    def __str__(self) -> str:
        gpus = ", ".join(self.compute_capabilities)
        return (
            f"{f'TensorRT {self.tensorrt}' if self.tensorrt else 'no TensorRT'}, "
            f"{f'compute capability {gpus}' if gpus else 'no GPU'}"
        )


NEITHER: Final = Machine("", ())
"""A machine without TensorRT and without a GPU."""


def this_machine() -> Machine:
    """Find the library that Triton would load, and the GPUs that the driver would give to Triton."""
    return Machine(_tensorrt_version(_library_directories()), _compute_capabilities(_driver()))


def plans(repository: Path) -> Iterator[Path]:
    """Yield the directory of every model whose newest version is a plan with a certificate."""
    for model in sorted(path for path in repository.iterdir() if path.is_dir()):
        if _certified_plan(model):
            yield model


def misfit(model: Path, machine: Machine) -> str:
    """Explain why Triton cannot load the plan of a model on `machine`.

    Args:
        model: directory of the model.

    Returns:
        The reasons, on one line. Empty if Triton can load the plan, or if the model is no plan with a certificate.
    """
    version = _certified_plan(model)
    if version is None:
        return ""
    try:
        certificate = _read(version)
        target = _TARGET.match(certificate["inputs"]["target"])
        files: dict[str, str] = certificate["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{CERTIFICATE} of version {version.name} cannot be read ({error!r})"
    if target is None:
        return f"{CERTIFICATE} of version {version.name} does not name the plan's TensorRT and GPU"
    return "; ".join([*_reasons(target[1], target[2], machine), *_damages(version, files)])


def misfits(repository: Path, machine: Machine) -> Iterator[str]:
    """Yield one line for each plan that Triton cannot load on `machine`: the model, the reasons and the remedy."""
    for model in plans(repository):
        if reason := misfit(model, machine):
            yield f"{model.name}: {reason}. Rebuild the plan on the serving machine: {_command(model)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of this file alone, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="preflight",
        description="List the TensorRT plans in a Triton model repository that this machine cannot load.",
    )
    parser.add_argument("repository", type=Path, metavar="REPOSITORY")
    return report(parser.parse_args(arguments).repository)


def report(repository: Path) -> int:
    """Check the plans of a repository on this machine and print the result. Return the exit status."""
    machine = this_machine()
    try:
        found = len(list(plans(repository)))
        lines = list(misfits(repository, machine))
    except OSError as error:
        print(f"preflight: cannot read the model repository {repository}: {error.strerror}", file=sys.stderr)
        return 2
    for line in lines:
        print(f"preflight: {line}", file=sys.stderr)
    if not lines and found:
        print(f"preflight: {found} TensorRT {'plan matches' if found == 1 else 'plans match'} this machine: {machine}")
    return 1 if lines else 0


def _certified_plan(model: Path) -> Path | None:
    """Find the newest version, which Triton serves. None if it is not a plan, or has no certificate of pe-export."""
    try:
        served_as_plan = _SERVED_AS_PLAN.search((model / "config.pbtxt").read_text("utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    versions = [path for path in model.iterdir() if path.is_dir() and path.name.isdecimal()]
    newest = max(versions, key=lambda path: int(path.name), default=None)
    return newest if served_as_plan and newest is not None and (newest / CERTIFICATE).is_file() else None


def _command(model: Path) -> str:
    """Return the command line that built a model's plan. On another machine it builds a plan for that machine."""
    version = _certified_plan(model)
    try:
        return str(_read(version)["command"]) if version else ""
    except (OSError, ValueError, KeyError, TypeError):
        return "pe-export VARIANT --engine tensorrt"


def _read(version: Path) -> Any:
    return json.loads((version / CERTIFICATE).read_text("utf-8"))


def _reasons(tensorrt: str, capability: str, machine: Machine) -> Iterator[str]:
    # TensorRT loads only plans that the same version built, on GPUs of the same compute capability.
    if not machine.tensorrt:
        yield f"the plan needs TensorRT {tensorrt}, and this machine has no TensorRT"
    elif tensorrt.split(".")[:3] != machine.tensorrt.split(".")[:3]:
        yield f"the plan needs TensorRT {tensorrt}, and this machine has {machine.tensorrt}"
    if not machine.compute_capabilities:
        yield f"the plan needs a GPU of compute capability {capability}, and this machine has no GPU"
    elif any(here != capability for here in machine.compute_capabilities):
        yield (
            f"the plan needs compute capability {capability}, "
            f"and this machine has {', '.join(machine.compute_capabilities)}"
        )


def _damages(version: Path, files: dict[str, str]) -> Iterator[str]:
    for name, digest in files.items():
        path = version / name
        if not path.is_file():
            yield f"{version.name}/{name} is missing"
        elif _sha256(path) != digest:
            yield f"{version.name}/{name} was changed since the build"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _library_directories() -> list[Path]:
    """List the directories that the dynamic loader searches, in its order, then NVIDIA's own directories."""
    try:
        known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        known = ""
    named = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    cached = [os.path.dirname(path) for path in re.findall(r"libnvinfer\.so\.\S+ .*=> (\S+)", known)]
    return [Path(directory) for directory in (*named, *cached, *_LIBRARY_DIRECTORIES)]


def _tensorrt_version(directories: Sequence[Path]) -> str:
    """Find the version of the first TensorRT library; empty if there is none.

    `libnvinfer.so.10` is a link to a file whose name contains the full version.
    """
    for directory in directories:
        for path in sorted(directory.glob("libnvinfer.so.*")):
            if found := _LIBRARY.fullmatch(path.resolve().name):
                return found[1]
    return ""


def _driver() -> Any:
    """Load NVIDIA's driver library. None if a process on this machine cannot use a GPU."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _compute_capabilities(driver: Any) -> tuple[str, ...]:
    """Ask the driver for the compute capability of each GPU, without the dot; empty if there is no GPU or an error.

    nvidia-smi is not used: not every container has it, and it ignores CUDA_VISIBLE_DEVICES.
    """
    count = ctypes.c_int()
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    capabilities = []
    for ordinal in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        if (
            driver.cuDeviceGet(ctypes.byref(device), ordinal)
            or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
            or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
        ):
            return ()
        capabilities.append(f"{major.value}{minor.value}")
    return tuple(capabilities)


if __name__ == "__main__":
    raise SystemExit(main())
