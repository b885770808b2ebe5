"""Find TensorRT's Python module, and the version of the library that it loaded."""

import ctypes
import importlib
import sys
from contextlib import suppress
from typing import Any, Final

from export.errors import TargetError

WHERE_TO_BUILD: Final = (
    "Plans are built where they are served: on the serving machine, with the extra [gpu] in place of [export], "
    "or inside the serving image with --gpus all"
)

# The serving image has the library in the system and only the bindings as a Python package.
_MODULES: Final = ("tensorrt", "tensorrt_bindings")


def load_library() -> Any:
    """Import TensorRT. The import is by name, because the library has no types and most machines do not have it.

    Raises:
        TargetError: no module of TensorRT can be imported.
    """
    failures = []
    for name in _MODULES:
        try:
            return importlib.import_module(name)
        except ImportError as error:  # The bindings raise it, too, if they do not find the library.
            if getattr(error, "name", None) != name:
                failures.append(str(error))
    why = f" ({'; '.join(failures)})" if failures else ""
    raise TargetError(f"the tensorrt package is not installed{why}. {WHERE_TO_BUILD}")


def library_version(trt: Any) -> str:
    """Return the version that the loaded library reports, such as "11.1.0.106".

    `trt.__version__` is the version of the wheel with the bindings, which can differ from the library's. A plan loads
    only if major, minor, patch and build are equal (https://docs.nvidia.com/deeplearning/tensorrt, "Support Policies").

    Args:
        trt: TensorRT's Python module.

    Raises:
        TargetError: the library reports no version.
    """
    extension = getattr(sys.modules.get(trt.Builder.__module__), "__file__", None)
    parts: list[int] = []
    with suppress(OSError, AttributeError, TypeError):
        # The loader also searches the libraries that the extension is linked with.
        library = ctypes.CDLL(extension) if extension else None
        # NvInferRuntime.h: int32_t getInferLib...Version() noexcept.
        parts = [int(getattr(library, f"getInferLib{part}Version")()) for part in ("Major", "Minor", "Patch", "Build")]
    if not parts or parts[0] <= 0 or min(parts) < 0:
        raise TargetError(
            f"the library behind the Python module {trt.__name__} reports no version, so a plan could not be matched "
            "with the library that serves it: install bindings and library of one TensorRT, 10.13 or later"
        )
    return ".".join(str(part) for part in parts)
