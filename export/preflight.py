"""Check that Triton can load every TensorRT plan in a model repository on this machine.

    python3 preflight.py REPOSITORY     this file alone, inside a serving image, before `tritonserver` starts
    pe-export preflight                 the same check in the exporter's environment

Triton's own message for such a plan comes later and names no remedy. Each plan that Triton cannot load is a line on
standard error, with the command that rebuilds the plan. A plan of another device with the same compute capability gets
a warning: Triton loads it, but the builder chose its kernels for the other device.

Exit status: 0 if Triton can load every plan or there is no plan, 1 if it cannot load one, 2 if the repository cannot be
read or has no model. This file needs only Python 3.10 and the standard library, because a serving image has nothing
else.
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
# Triton ignores directories whose names are no numbers or begin with a zero (its documentation, "Model Versions").
_VERSION: Final = re.compile(r"[1-9][0-9]*")
_LIBRARY: Final = re.compile(r"libnvinfer\.so\.(\d+\.\d+\.\d+)")
_SERVED_AS_PLAN: Final = re.compile(r"""^\s*(backend|platform)\s*:\s*["']tensorrt(_plan)?["']""", re.MULTILINE)
# What `export.engines.tensorrt.TensorRtEngine.target` writes.
_TARGET: Final = re.compile(r"tensorrt (\d+(?:\.\d+)+) sm(\d+)(?: batch \d+)?(?: on (.+))?")
_OTHER_REPOSITORY: Final = (
    "Export the models to it first, or name the folder that has them (in deploy/: PE_MODELS, TRITON_RELEASE)"
)
# cuda.h: CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, _COMPUTE_CAPABILITY_MAJOR and _MINOR.
_MULTIPROCESSORS: Final = 16
_MAJOR: Final = 75
_MINOR: Final = 76
_NAME_BYTES: Final = 256


@dataclass(frozen=True)
class Gpu:
    """What the CUDA driver says about a GPU, or about an instance of a partitioned GPU (MIG)."""

    name: str
    """The driver's name. The name of an instance ends with its profile: "NVIDIA H100 80GB HBM3 MIG 1g.10gb"."""
    compute_capability: str
    """Without the dot: "90" is Hopper."""
    multiprocessors: int
    """Number of streaming multiprocessors (SMs)."""
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name}, {self.multiprocessors} SMs, {self.memory_bytes / 2**30:.0f} GiB"


@dataclass(frozen=True)
class Machine:
    """The TensorRT library and the GPUs of a machine."""

    tensorrt: str
    """Version of the TensorRT library; empty if there is none."""
    gpus: tuple[Gpu, ...]
    """The GPUs that a process may use, in the driver's order."""
    why_no_gpu: str = ""
    """What keeps a process from using a GPU, if `gpus` is empty and it is known."""

    def __str__(self) -> str:
        gpus = "; ".join(f"{gpu}, compute capability {gpu.compute_capability}" for gpu in self.gpus)
        return f"{f'TensorRT {self.tensorrt}' if self.tensorrt else 'no TensorRT'}, {gpus or 'no GPU'}"


NEITHER: Final = Machine("", ())
"""A machine without TensorRT and without a GPU."""


def this_machine() -> Machine:
    """Find the library that Triton would load, and the GPUs that the driver would give to Triton."""
    driver = _driver()
    return Machine(_tensorrt_version(_library_directories()), *_gpus(driver))


def gpus() -> tuple[Gpu, ...]:
    """Ask the CUDA driver for the GPUs that this process may use; empty if there is none, or no driver."""
    return _gpus(_driver())[0]


def driver_cuda_version() -> str:
    """Return the newest version of CUDA that the driver supports, such as "12.8"; empty if there is no driver."""
    return _cuda_version(_driver())


def plans(repository: Path) -> Iterator[Path]:
    """Yield the directory of every model whose newest version is a plan with a certificate."""
    for model in sorted(path for path in repository.iterdir() if path.is_dir()):
        if _certified_plan(model):
            yield model


def version_numbers(model: Path) -> list[int]:
    """Return the numbers of a model's versions, ascending."""
    return sorted(int(entry.name) for entry in model.iterdir() if _VERSION.fullmatch(entry.name) and entry.is_dir())


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
        target = _TARGET.fullmatch(certificate["inputs"]["target"])
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
            remedy = "Rebuild" if machine.gpus else "Make the GPU usable, or rebuild"
            yield f"{model.name}: {reason}. {remedy} the plan on the serving machine: {_command(model)}"


def caution(model: Path, machine: Machine) -> str:
    """Explain in which way the GPUs of `machine` differ from the GPU for which a model's plan was built.

    Only GPUs of the plan's compute capability count, because on others Triton cannot load the plan.

    Args:
        model: directory of the model.

    Returns:
        The difference, on one line. Empty if there is none, or if the certificate does not name the GPU.
    """
    version = _certified_plan(model)
    try:
        target = _TARGET.fullmatch(_read(version)["inputs"]["target"]) if version else None
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # `misfit` reports it.
    if target is None or target[3] is None:
        return ""
    others = [str(gpu) for gpu in machine.gpus if gpu.compute_capability == target[2] and str(gpu) != target[3]]
    return (
        f"the plan was built for {target[3]}, and this machine has {'; '.join(dict.fromkeys(others))}" if others else ""
    )


def cautions(repository: Path, machine: Machine) -> Iterator[str]:
    """Yield one line for each plan that Triton can load on `machine`, but that was built for another device."""
    for model in plans(repository):
        if reason := caution(model, machine):
            yield (
                f"{model.name}: {reason}. Triton loads the plan, but a plan built here may be faster, and this one may "
                f"need more memory than there is. Rebuild the plan on the serving machine: {_command(model)}"
            )


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
        if not any((path / "config.pbtxt").is_file() for path in repository.iterdir()):
            print(f"preflight: {repository} has no model. {_OTHER_REPOSITORY}", file=sys.stderr)
            return 2
        found = len(list(plans(repository)))
        lines = list(misfits(repository, machine))
        warnings = list(cautions(repository, machine))
    except FileNotFoundError:
        others = ", ".join(_folders_beside(repository))
        beside = f", only {others}" if others else ""
        print(f"preflight: there is no model repository {repository}{beside}. {_OTHER_REPOSITORY}", file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or repository
        print(f"preflight: user {os.getuid()} cannot read {where}: {error.strerror}", file=sys.stderr)
        return 2
    for line in (*lines, *(f"warning: {warning}" for warning in warnings)):
        print(f"preflight: {line}", file=sys.stderr)
    if not lines and found:
        print(f"preflight: {found} TensorRT {'plan matches' if found == 1 else 'plans match'} this machine: {machine}")
    return 1 if lines else 0


def _folders_beside(repository: Path) -> list[str]:
    try:
        return sorted(path.name for path in repository.parent.iterdir() if path.is_dir() and path.name[0] != ".")
    except OSError:
        return []


def _certified_plan(model: Path) -> Path | None:
    """Find the newest version, which Triton serves. None if it is not a plan, or has no certificate of pe-export."""
    try:
        served_as_plan = _SERVED_AS_PLAN.search((model / "config.pbtxt").read_text("utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    versions = version_numbers(model)
    newest = model / str(versions[-1]) if versions else None
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
    elif not _same_version(tensorrt, machine.tensorrt):
        yield f"the plan needs TensorRT {tensorrt}, and this machine has {machine.tensorrt}"
    here = [gpu.compute_capability for gpu in machine.gpus]
    if not here:
        why = f" that a process can use: {machine.why_no_gpu}" if machine.why_no_gpu else ""
        yield f"the plan needs a GPU of compute capability {capability}, and this machine has no GPU{why}"
    elif any(other != capability for other in here):
        mixed = f", so give Triton only GPUs of {capability}" if capability in here else ""
        yield f"the plan needs compute capability {capability}, and this machine has {', '.join(here)}{mixed}"


def _same_version(one: str, other: str) -> bool:
    # Plans need an equal build number, too (https://docs.nvidia.com/deeplearning/tensorrt, "Support Policies"). The
    # name of a library's file lacks it.
    return all(mine == yours for mine, yours in zip(one.split("."), other.split("."), strict=False))


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

    The library reports four numbers. If it cannot be loaded, three are in the name of its file: `libnvinfer.so.10` is a
    link to that file.
    """
    for directory in directories:
        for path in sorted(directory.glob("libnvinfer.so.*")):
            if found := _LIBRARY.fullmatch(path.resolve().name):
                return _reported_version(path) or found[1]
    return ""


def _reported_version(library: Path) -> str:
    """Load a TensorRT library and ask for its version. Empty if it cannot be loaded or reports none."""
    try:
        loaded = ctypes.CDLL(str(library))
        parts = [int(getattr(loaded, f"getInferLib{part}Version")()) for part in ("Major", "Minor", "Patch", "Build")]
    except (OSError, AttributeError):
        return ""
    return ".".join(str(part) for part in parts) if parts[0] > 0 else ""


def _driver() -> Any:
    """Load NVIDIA's driver library. None if a process on this machine cannot use a GPU."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _cuda_version(driver: Any) -> str:
    version = ctypes.c_int()
    # cuda.h: 1000 x major + 10 x minor. The call needs no cuInit, so it also works where the driver is too old.
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)):
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _gpus(driver: Any) -> tuple[tuple[Gpu, ...], str]:
    """Ask the driver for each GPU.

    nvidia-smi is not used: not every container has it, and it ignores CUDA_VISIBLE_DEVICES.

    Returns:
        The GPUs, and the reason if there is none.
    """
    if driver is None:
        return (), "there is no libcuda.so.1, so there is no NVIDIA driver, or this container was started without a GPU"
    count = ctypes.c_int()
    if status := driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        version = _cuda_version(driver)
        supports = f", which supports CUDA {version}," if version else ""
        return (), f"NVIDIA's driver{supports} reports {_error_name(driver, status)}"
    found = []
    for ordinal in range(count.value):
        device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
        numbers = {attribute: ctypes.c_int() for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS)}
        status = (
            driver.cuDeviceGet(ctypes.byref(device), ordinal)
            or driver.cuDeviceGetName(name, _NAME_BYTES, device)
            or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        )
        for attribute, value in numbers.items():
            status = status or driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        if status:
            return (), f"NVIDIA's driver reports {_error_name(driver, status)} for GPU {ordinal}"
        found.append(
            Gpu(
                name=" ".join(name.value.decode("utf-8", errors="replace").split()) or "unnamed GPU",
                compute_capability=f"{numbers[_MAJOR].value}{numbers[_MINOR].value}",
                multiprocessors=numbers[_MULTIPROCESSORS].value,
                memory_bytes=memory.value,
            )
        )
    return tuple(found), "" if found else "NVIDIA's driver lists none"


def _error_name(driver: Any, status: int) -> str:
    """Return the driver's name of an error, such as "error 100 (CUDA_ERROR_NO_DEVICE)"."""
    name = ctypes.c_char_p()
    known = driver.cuGetErrorName(status, ctypes.byref(name)) == 0 and name.value
    return f"error {status} ({name.value.decode()})" if known and name.value else f"error {status}"


if __name__ == "__main__":
    raise SystemExit(main())
