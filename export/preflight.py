"""Would every TensorRT plan in a model repository load on this machine? Asked before Triton, which says less, later.

    python3 preflight.py REPOSITORY     this file alone, inside a serving image, ahead of `tritonserver`
    pe-export preflight                 the same, in the exporter's environment

Exit status: 0 if all fit (as they do where there are none), 1 if one does not (each in a line on standard error, with
the command that builds it anew), 2 if there is no such repository. It needs Python's own library and nothing else, as
of 3.10: a serving image has no more.
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
from typing import Any

CERTIFICATE = "parity.json"

# Where images and packages of NVIDIA keep the library, should the loader's own list not name it.
_LIBRARY_DIRECTORIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/tensorrt/lib",
    "/opt/tensorrt/lib",
)
_LIBRARY = re.compile(r"libnvinfer\.so\.(\d+\.\d+\.\d+)")
_SERVED_AS_PLAN = re.compile(r"""^\s*(backend|platform)\s*:\s*["']tensorrt(_plan)?["']""", re.MULTILINE)
_TARGET = re.compile(r"tensorrt (\S+) sm(\d+)")
# cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class Machine:
    """What runs plans here."""

    tensorrt: str
    """Version of the TensorRT library; empty if there is none."""
    compute_capabilities: tuple[str, ...]
    """Of each GPU that a process may use, without the dot; empty if there is none."""

    def __str__(self) -> str:
        gpus = ", ".join(self.compute_capabilities)
        return (
            f"{f'TensorRT {self.tensorrt}' if self.tensorrt else 'no TensorRT'}, "
            f"{f'compute capability {gpus}' if gpus else 'no GPU'}"
        )


NEITHER = Machine("", ())


def this_machine() -> Machine:
    """By the library that Triton would load, and the GPUs that the driver would give it."""
    return Machine(_tensorrt_version(_library_directories()), _compute_capabilities(_driver()))


def plans(repository: Path) -> Iterator[Path]:
    """The directory of every model that is served as a plan, and whose newest version tells what it was built for."""
    for model in sorted(path for path in repository.iterdir() if path.is_dir()):
        if _certified_plan(model):
            yield model


def misfit(model: Path, machine: Machine) -> str:
    """Why the plan in a model's directory would not load on `machine`; empty if it would, or if it is none of ours."""
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
        return f"{CERTIFICATE} of version {version.name} does not say what the plan was built for"
    return "; ".join([*_reasons(target[1], target[2], machine), *_damages(version, files)])


def misfits(repository: Path, machine: Machine) -> Iterator[str]:
    """One line for each plan that Triton could not load on `machine`."""
    for model in plans(repository):
        if reason := misfit(model, machine):
            yield f"{model.name}: {reason}. Build it anew where it is served: {_command(model)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this file alone."""
    parser = argparse.ArgumentParser(
        prog="preflight", description="Say which TensorRT plans in a Triton model repository this machine cannot load."
    )
    parser.add_argument("repository", type=Path, metavar="REPOSITORY")
    return report(parser.parse_args(arguments).repository)


def report(repository: Path) -> int:
    """Print what was found, and return the exit status."""
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
        print(f"preflight: {found} TensorRT {'plan fits' if found == 1 else 'plans fit'} this machine: {machine}")
    return 1 if lines else 0


def _certified_plan(model: Path) -> Path | None:
    """The version that Triton serves, the newest, if it is a plan with a certificate: others are none of our making."""
    try:
        served_as_plan = _SERVED_AS_PLAN.search((model / "config.pbtxt").read_text("utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    versions = [path for path in model.iterdir() if path.is_dir() and path.name.isdecimal()]
    newest = max(versions, key=lambda path: int(path.name), default=None)
    return newest if served_as_plan and newest is not None and (newest / CERTIFICATE).is_file() else None


def _command(model: Path) -> str:
    """What made a model's plan, and makes one that fits if it is given here."""
    version = _certified_plan(model)
    try:
        return str(_read(version)["command"]) if version else ""
    except (OSError, ValueError, KeyError, TypeError):
        return "pe-export VARIANT --engine tensorrt"


def _read(version: Path) -> Any:
    return json.loads((version / CERTIFICATE).read_text("utf-8"))


def _reasons(tensorrt: str, capability: str, machine: Machine) -> Iterator[str]:
    # A plan loads only under the TensorRT that built it, and on the compute capability that it was built for.
    if not machine.tensorrt:
        yield f"it is a plan of TensorRT {tensorrt}, and there is no TensorRT here"
    elif tensorrt.split(".")[:3] != machine.tensorrt.split(".")[:3]:
        yield f"it is a plan of TensorRT {tensorrt}, and here is {machine.tensorrt}"
    if not machine.compute_capabilities:
        yield f"it is for a GPU of compute capability {capability}, and there is no GPU here"
    elif any(here != capability for here in machine.compute_capabilities):
        yield f"it is for compute capability {capability}, and here is {', '.join(machine.compute_capabilities)}"


def _damages(version: Path, files: dict[str, str]) -> Iterator[str]:
    for name, digest in files.items():
        path = version / name
        if not path.is_file():
            yield f"{version.name}/{name} is missing"
        elif _sha256(path) != digest:
            yield f"{version.name}/{name} is not the file that was built"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _library_directories() -> list[Path]:
    """Where the loader looks, in its order, then NVIDIA's own places."""
    try:
        known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        known = ""
    named = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    cached = [os.path.dirname(path) for path in re.findall(r"libnvinfer\.so\.\S+ .*=> (\S+)", known)]
    return [Path(directory) for directory in (*named, *cached, *_LIBRARY_DIRECTORIES)]


def _tensorrt_version(directories: Sequence[Path]) -> str:
    """The full version stands in the name of the file that `libnvinfer.so.10` is a link to."""
    for directory in directories:
        for path in sorted(directory.glob("libnvinfer.so.*")):
            if found := _LIBRARY.fullmatch(path.resolve().name):
                return found[1]
    return ""


def _driver() -> Any:
    """NVIDIA's driver library, which is there wherever a process may use a GPU; None where not."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _compute_capabilities(driver: Any) -> tuple[str, ...]:
    """Asked of the driver and not of nvidia-smi, which is not in every container and knows no CUDA_VISIBLE_DEVICES."""
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
