"""Install bindings with the real pip from a folder of wheels. The library is that of TensorRT for RTX."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from export import preflight
from export.tensorrt_bindings import PACKAGE, NoBindings, install, main

ROOT = Path(__file__).parents[2]
EXPORTER = ROOT / ".venv-export"
LIBRARY = "1.7.1.116"
WORKS = "from tensorrt_rtx_bindings import *\n"
OTHER = "import _ctypes\nclass Builder: __module__ = '_ctypes'\n"
"""Bindings that load a library which is not TensorRT."""


def wheel(folder: Path, version: str, content: str = WORKS, module: str = "tensorrt_bindings") -> None:
    """Write a wheel of the bindings."""
    name = f"{PACKAGE.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}/__init__.py", content)
        info = f"{name}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for PyPI."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return folder


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that sees the exporter's packages."""
    path = tmp_path / "environment"
    subprocess.run([EXPORTER / "bin/python", "-m", "venv", "--without-pip", path], check=True)
    [packages] = path.glob("lib/python*/site-packages")
    [installed] = EXPORTER.glob("lib/python*/site-packages")
    (packages / "exporter.pth").write_text(f"{ROOT}\n{installed}\n")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("published", "taken"),
    [
        (["1.7.0.5", "1.7.1.99", "1.7.1.116"], f"{PACKAGE}==1.7.1.116"),
        (["1.7.0.5", "1.7.1.99", "1.7.2.1", "1.8.0.1"], f"{PACKAGE}==1.7.1.*"),
        (["1.6.9.9", "1.7.0.5", "1.7.2.1", "1.8.0.1"], f"{PACKAGE}==1.7.*"),
    ],
)
def test_the_nearest_published_bindings_are_taken(
    wheels: Path, environment: Path, published: list[str], taken: str
) -> None:
    for version in published:
        wheel(wheels, version)
    assert install(LIBRARY, environment) == taken


@pytest.mark.slow
def test_bindings_that_do_not_load_the_library_are_replaced(wheels: Path, environment: Path) -> None:
    wheel(wheels, "1.7.1.116", "raise ImportError('libnvinfer.so.1: cannot open shared object file')\n")
    wheel(wheels, "1.7.1.117", OTHER)
    wheel(wheels, "1.7.2.1")
    assert install(LIBRARY, environment) == f"{PACKAGE}==1.7.*"


@pytest.mark.slow
def test_the_images_own_bindings_come_first(
    wheels: Path, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(wheels, "1.7.1.116")
    own = tmp_path / "dist-packages" / "tensorrt"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text(WORKS)
    monkeypatch.syspath_prepend(own.parent)
    assert install(LIBRARY, environment) == "the image's own bindings"
    [linked] = environment.glob("lib/python*/site-packages/tensorrt")
    linked.unlink()
    # Those that load another library leave nothing. Three numbers, as in the name of a library's file, are enough.
    (own / "__init__.py").write_text(OTHER)
    assert install("1.7.1", environment) == f"{PACKAGE}==1.7.1.*"
    assert not linked.is_symlink()


@pytest.mark.slow
def test_if_none_loads_the_library_each_has_its_reason(wheels: Path, environment: Path) -> None:
    wheel(wheels, "1.8.0.1")
    wheel(wheels, "1.7.0.1", OTHER)
    with pytest.raises(NoBindings) as caught:
        install(LIBRARY, environment)
    first, *reasons, last = str(caught.value).splitlines()
    assert first == f"no Python bindings load this image's TensorRT {LIBRARY}:"
    assert [reason.split(":")[0].strip() for reason in reasons] == [
        f"{PACKAGE}==1.7.1.116",
        f"{PACKAGE}==1.7.1.*",
        f"{PACKAGE}==1.7.*",
    ]
    assert "No matching distribution found" in reasons[0]
    assert "reports no version" in reasons[2]
    assert "--build-arg TRITON_RELEASE=YY.MM" in last


@pytest.mark.parametrize("version", ["", "11", "11.1", "11.1.0.106.7", "11.1.x", "11.1.0; rm", "unknown"])
def test_without_a_version_it_is_one_clear_error(tmp_path: Path, version: str) -> None:
    with pytest.raises(NoBindings, match="this image has no TensorRT library that tells its version") as caught:
        install(version, tmp_path)
    assert "\n" not in str(caught.value)


def test_the_command_says_so_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "this_machine", lambda: preflight.NEITHER)
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("tensorrt_bindings: this image has no TensorRT library that tells its version ('')")


def test_it_runs_with_what_the_image_has() -> None:
    """Python 3.10 and the standard library."""
    for path in (ROOT / "export/__init__.py", ROOT / "export/tensorrt_bindings.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 10))
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {module.partition(".")[0] for module in modules} <= {*sys.stdlib_module_names, "export"}
