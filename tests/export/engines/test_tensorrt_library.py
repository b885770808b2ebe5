import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

from export.engines import tensorrt_library
from export.errors import TargetError

pytestmark = pytest.mark.export

# Imports TensorRT for RTX under the names of TensorRT's module and prints which module is taken.
ONLY = """
import sys
import tensorrt_rtx_bindings
from export.engines import tensorrt_library
for name in ("tensorrt", "tensorrt_bindings"):
    sys.modules[name] = tensorrt_rtx_bindings if name in sys.argv else None
print(tensorrt_library.library_version(tensorrt_library.load_library()))
"""


def test_the_version_is_that_of_the_library_and_not_of_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = import_module("tensorrt_rtx_bindings")
    monkeypatch.setattr(trt, "__version__", "10.0.0.1")
    version = tensorrt_library.library_version(trt)
    assert version != "10.0.0.1"
    # These two wheels belong together, so here the wheel's version must be the library's.
    monkeypatch.undo()
    assert version == trt.__version__


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_bindings"])
def test_the_bindings_alone_will_do(module: str) -> None:
    """The serving image has the library, and only the bindings as a Python package."""
    result = subprocess.run([sys.executable, "-c", ONLY, module], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("1.")


def without_version() -> ModuleType:
    module = ModuleType("tensorrt")
    module.Builder = type("Builder", (), {"__module__": __name__})  # type: ignore[attr-defined]
    return module


def another_library() -> ModuleType:
    module = ModuleType("tensorrt")
    extension = import_module("_ctypes")  # A shared library without TensorRT's functions.
    module.Builder = type("Builder", (), {"__module__": extension.__name__})  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("module", [without_version(), another_library()])
def test_a_library_without_a_version_is_one_clear_error(module: ModuleType) -> None:
    with pytest.raises(TargetError, match="the Python module tensorrt reports no version, so a plan could not be"):
        tensorrt_library.library_version(module)


@pytest.mark.parametrize("numbers", [(0, 0, 0, 0), (-1, 7, 1, 116), (10, -1, 0, 0)])
def test_a_version_that_makes_no_sense_is_the_same_error(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...]
) -> None:
    names = ("Major", "Minor", "Patch", "Build")
    functions = {
        f"getInferLib{name}Version": lambda value=value: value for name, value in zip(names, numbers, strict=True)
    }
    monkeypatch.setattr("ctypes.CDLL", lambda path: type("Library", (), functions))
    with pytest.raises(TargetError, match="reports no version"):
        tensorrt_library.library_version(import_module("tensorrt_rtx_bindings"))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TargetError, match=r"tensorrt package is not installed.*Plans are built where they are served"):
        tensorrt_library.load_library()
