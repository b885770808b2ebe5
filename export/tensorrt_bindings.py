"""Install Python bindings for the TensorRT library of a serving image into an environment of the exporter.

    python3 -m export.tensorrt_bindings ENVIRONMENT

Triton's images have the library, whose exact version can be one that PyPI never had (8.6.1.2 and 8.6.3.1: issues 5975
and 7221 of github.com/triton-inference-server/server). A plan needs the exact version of the library. The bindings
need not: they are linked with the library by its major version, and within a major version the interface stays
compatible (https://docs.nvidia.com/deeplearning/tensorrt, "Support Policies"). So these are tried in turn, and the
first ones that load the image's library stay:

    1. the image's own bindings
    2. tensorrt-cu13-bindings of the library's version from PyPI
    3. the newest of the same major, minor and patch version
    4. the newest of the same major and minor version

The image's `trtexec` could build a plan without bindings. But the comparison with torch runs the plan in Python.

This file needs only Python 3.10, the standard library and pip.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from export import preflight

PACKAGE: Final = "tensorrt-cu13-bindings"
_MODULES: Final = ("tensorrt", "tensorrt_bindings")
_ASK: Final = (
    "from export.engines.tensorrt_library import library_version, load_library; print(library_version(load_library()))"
)
_PACKAGES: Final = "import sys, sysconfig; from pathlib import Path; packages = Path(sysconfig.get_path('purelib')); "
_LINK: Final = f"{_PACKAGES}[(packages / Path(own).name).symlink_to(own) for own in sys.argv[1:]]"
_UNLINK: Final = f"{_PACKAGES}[path.unlink() for path in packages.glob('tensorrt*') if path.is_symlink()]"


class NoBindings(Exception):
    """No bindings load the library. `str()` says why, and what to do."""


def install(library: str, environment: Path) -> str:
    """Install bindings into `environment`, which has the exporter, until one loads the library.

    Args:
        library: version of the TensorRT library, of three or four numbers.
        environment: directory of a virtual environment.

    Returns:
        The name of the bindings that load the library.

    Raises:
        NoBindings: there is no library, or no bindings load it.
    """
    if not re.fullmatch(r"\d+(\.\d+){2,3}", library):
        raise NoBindings(
            f"this image has no TensorRT library that tells its version ({library!r}): build on an image "
            "nvcr.io/nvidia/tritonserver:YY.MM-py3"
        )
    python = environment / "bin" / "python"
    failures = []
    for name, put in _candidates(library, python):
        done = _run(put)
        if done.returncode == 0:
            done = _run([python, "-c", _ASK])
            if done.returncode == 0 and f"{done.stdout.strip()}.".startswith(f"{library}."):
                return name
            _run([python, "-c", _UNLINK])  # Bindings that pip installs next must not be shadowed.
        why = done.stderr.strip() or f"they load TensorRT {done.stdout.strip()}"
        failures.append(f"{name}: {why.splitlines()[-1]}")
    tried = "\n".join(f"  {failure}" for failure in failures)
    raise NoBindings(
        f"no Python bindings load this image's TensorRT {library}:\n{tried}\n"
        "Build on another release of Triton (--build-arg TRITON_RELEASE=YY.MM), and serve with the same one."
    )


def _candidates(library: str, python: Path) -> Iterator[tuple[str, list[str | Path]]]:
    """Yield the name of each candidate and the command that puts it into the environment of `python`."""
    own = [str(Path(spec.origin).parent) for name in _MODULES if (spec := find_spec(name)) and spec.origin]
    if own:
        yield "the image's own bindings", [python, "-c", _LINK, *own]
    parts = library.split(".")
    wanted = [f"{PACKAGE}=={library}"] if len(parts) == 4 else []
    wanted += [f"{PACKAGE}=={'.'.join(parts[:count])}.*" for count in (3, 2)]
    for requirement in wanted:
        pip: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--no-deps",
            "--only-binary",
            ":all:",
        ]
        yield requirement, [*pip, "--force-reinstall", requirement]


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m export.tensorrt_bindings",
        description="Install Python bindings for this image's TensorRT library into an environment.",
    )
    parser.add_argument("environment", type=Path, metavar="ENVIRONMENT")
    library = preflight.this_machine().tensorrt
    try:
        name = install(library, parser.parse_args(arguments).environment)
    except NoBindings as error:
        sys.stderr.write(f"tensorrt_bindings: {error}\n")
        return 1
    sys.stderr.write(f"tensorrt_bindings: TensorRT {library} by {name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
