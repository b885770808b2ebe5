"""Bring the packages of the GPU queue to a machine without a network: wheels in parts, joined and installed there.

    python3 deploy/bench/gpu/bring.py pack FOLDER [rtx cuda stack]      with a network
    python3 deploy/bench/gpu/bring.py install FOLDER [rtx cuda stack]   on the machine with the GPU

`pack` writes FOLDER/GROUP.tar.1-of-N and so on. `install` makes the environments of the checkout, as `deploy/setup.sh`
names them. `.venv-export` also sees the packages of the Python that runs `install`, because torch is too large to
carry. This file needs Python's standard library and pip alone.
"""

import argparse
import io
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[3]
_MANIFEST: Final = "environments.json"
_LIBRARIES: Final = "libraries"
# A part travels with the working tree, which has 21 MB, and both together may have 64 MiB.
PART_MIB: Final = 41
# pip takes the platforms of the target literally: a wheel for manylinux_2_35 is not found under manylinux_2_39.
_PLATFORMS: Final = ("manylinux1", "manylinux2010", "manylinux2014", *(f"manylinux_2_{n}" for n in range(5, 40)))

EXPORT, GATEWAY, TRITON, BENCH = ".venv-export", ".venv", ".venv-triton", ".venv-bench"
# What an environment takes from the Python that runs `install`: all of its packages, or CUDA's libraries alone.
_SEES_ALL: Final = (EXPORT,)
_SEES_CUDA: Final = (EXPORT, TRITON)
_RUNS_CHECKOUT: Final = (EXPORT, GATEWAY)

# What the machine has (README.md) is not listed: torch, torchvision, numpy, onnx, onnxscript, pillow, regex, grpcio.
_OF_EXPORT: Final = (
    "ftfy", "open-clip-torch", "protobuf", "python-rapidjson", "safetensors", "tensorrt-rtx-cu13-bindings",
    "tensorrt-rtx-cu13-libs", "timm", "tritonclient",
)  # fmt: skip
_ONNXRUNTIME: Final = "onnxruntime-gpu>=1.31,<2"


def pins(name: str, only: Iterable[str] = ()) -> list[str]:
    """Return `package==version` of each line of constraints/NAME.txt, or of the named packages alone."""
    text = (CHECKOUT / "constraints" / f"{name}.txt").read_text()
    found = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", text, re.MULTILINE))
    return [f"{package}=={found[package]}" for package in (only or found)]


def groups() -> dict[str, dict[str, list[str]]]:
    """Return the requirements of each environment, by group, in the order in which the queue needs the groups."""
    triton = [pin for pin in pins("triton") if not pin.startswith("onnxruntime")]
    return {
        "rtx": {EXPORT: pins("export-dev", _OF_EXPORT)},
        "cuda": {EXPORT: [_ONNXRUNTIME], TRITON: [_ONNXRUNTIME]},
        "stack": {GATEWAY: pins("gateway"), TRITON: triton, BENCH: pins("bench")},
    }


def pack(folder: Path, names: Sequence[str], python: str, part_bytes: int, libraries: Sequence[Path]) -> list[Path]:
    """Download the wheels of groups, and write the groups in parts. Return the parts.

    Args:
        python: version of the target's Python, like 3.12.
        libraries: files for the group `stack` that perf_analyzer links, and that the machine may lack.

    Raises:
        subprocess.CalledProcessError: pip found no wheel of a package. Its message is on the terminal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            wheels: dict[str, list[str]] = {}
            for environment, requirements in groups()[name].items():
                into = Path(temporary) / environment
                _download(requirements, python, into)
                wheels[environment] = sorted(path.name for path in into.iterdir())
                for path in list(into.iterdir()):  # A wheel of two environments travels once.
                    path.replace(Path(temporary) / path.name)
                into.rmdir()
            files = [path for path in Path(temporary).iterdir() if path.is_file()]
            parts += write_parts(folder, name, files, wheels, part_bytes, libraries if name == "stack" else ())
    return parts


def _download(requirements: Sequence[str], python: str, folder: Path) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--implementation=cp",
        f"--python-version={python}", *(f"--platform={name}_x86_64" for name in _PLATFORMS), "--dest", str(folder),
        *requirements,
    ]  # fmt: skip
    subprocess.run(command, check=True)


def write_parts(
    folder: Path,
    name: str,
    wheels: Sequence[Path],
    environments: dict[str, list[str]],
    part_bytes: int,
    libraries: Sequence[Path] = (),
) -> list[Path]:
    """Write wheels, and which environment gets which, as parts of one tar file. Return the parts."""
    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode="w") as tar:
            for wheel in sorted(wheels):
                tar.add(wheel, wheel.name)
            for library in libraries:
                tar.add(library.resolve(), f"{_LIBRARIES}/{library.name}")
            manifest = json.dumps(environments).encode()
            entry = tarfile.TarInfo(_MANIFEST)
            entry.size = len(manifest)
            tar.addfile(entry, io.BytesIO(manifest))
        count = -(-whole.tell() // part_bytes)
        whole.seek(0)
        for old in folder.glob(f"{name}.tar.*"):
            old.unlink()
        parts = [folder / f"{name}.tar.{number}-of-{count}" for number in range(1, count + 1)]
        for part in parts:
            part.write_bytes(whole.read(part_bytes))
    return parts


def join(folder: Path, name: str, into: Path) -> dict[str, list[str]]:
    """Unpack the parts of a group. Return the wheels of each environment.

    Raises:
        FileNotFoundError: a part is missing.
    """
    found = list(folder.glob(f"{name}.tar.*-of-*"))
    count = int(found[0].name.rpartition("-of-")[2]) if found else 1
    parts = [folder / f"{name}.tar.{number}-of-{count}" for number in range(1, count + 1)]
    if missing := [part.name for part in parts if not part.exists()]:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}")
    with tempfile.TemporaryFile() as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
        whole.seek(0)
        with tarfile.open(fileobj=whole) as tar:
            tar.extractall(into, filter="data")
    environments: dict[str, list[str]] = json.loads((into / _MANIFEST).read_text())
    return environments


def install(folder: Path, names: Sequence[str], checkout: Path = CHECKOUT) -> None:
    """Install groups into the environments of a checkout. An environment that does not exist is made.

    Raises:
        FileNotFoundError: a part is missing.
        subprocess.CalledProcessError: pip or venv failed. The message is on the terminal.
    """
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            for environment, wheels in join(folder, name, Path(temporary)).items():
                target = checkout / environment
                if not (target / "bin/python").exists():
                    _make(target, checkout)
                pip = [sys.executable, "-m", "pip", "--python", str(target / "bin/python"), "install", "--quiet"]
                options = ["--no-index", "--no-deps", "--no-compile", "--no-warn-script-location"]
                files = [str(Path(temporary) / wheel) for wheel in wheels]
                subprocess.run([*pip, *options, *files], check=True)
            for library in Path(temporary).glob(f"{_LIBRARIES}/*"):
                (folder_of_cuda,) = (checkout / BENCH).glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib")
                shutil.copy(library, folder_of_cuda)  # where perf_analyzer is told to look


def _make(environment: Path, checkout: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (packages,) = environment.glob("lib/python3*/site-packages")
    ours = Path(sysconfig.get_path("purelib"))
    # venv's own option would show the packages of the system's Python, and not those of the environment that this is.
    seen = [str(checkout)] if environment.name in _RUNS_CHECKOUT else []
    seen += [str(ours)] if environment.name in _SEES_ALL else []
    (packages / "gpu_queue.pth").write_text("".join(f"{path}\n" for path in seen))
    if environment.name in _SEES_CUDA and (ours / "nvidia").is_dir():
        (packages / "nvidia").symlink_to(ours / "nvidia")  # where onnxruntime looks for CUDA and cuDNN


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0: done. 1: something is missing.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=("pack", "install"))
    parser.add_argument("folder", type=Path, help="of the parts")
    parser.add_argument("group", nargs="*", help=f"of {', '.join(groups())} (default: all)")
    parser.add_argument("--python", default="3.12", help="of the machine with the GPU (default: %(default)s)")
    parser.add_argument("--part-mib", type=float, default=PART_MIB, help="size of a part (default: %(default)s)")
    parser.add_argument("--library", type=Path, action="append", default=[], help="libb64.so.0d, say")
    options = parser.parse_args(arguments)
    names = options.group or list(groups())
    if unknown := set(names) - set(groups()):
        parser.error(f"unknown group {', '.join(unknown)}: choose from {', '.join(groups())}")
    try:
        if options.command == "install":
            install(options.folder, names)
            return 0
        part_bytes = int(options.part_mib * 2**20)
        for part in pack(options.folder, names, options.python, part_bytes, options.library):
            sys.stdout.write(f"{part}  {part.stat().st_size / 2**20:.1f} MiB\n")
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"bring: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
