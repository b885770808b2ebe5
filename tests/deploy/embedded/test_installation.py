import shutil
from pathlib import Path

import pytest

from deploy.embedded import installation, libpython
from deploy.embedded.engines import ONNXRUNTIME, OPENVINO
from deploy.embedded.errors import EngineMissing, InstallationBroken, InstallationMissing, LibpythonMissing


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The skeleton of a Triton environment."""
    root = tmp_path / ".venv-triton"
    site_packages = root / "lib/site-packages"
    for directory in ("nvidia_pytriton.libs", "pytriton/tritonserver/backends/python"):
        (site_packages / directory).mkdir(parents=True)
    for file in (
        "pytriton/tritonserver/bin/tritonserver",
        "pytriton/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub",
        "onnxruntime/__init__.py",
    ):
        (site_packages / file).parent.mkdir(parents=True, exist_ok=True)
        (site_packages / file).touch()
    monkeypatch.setattr(
        libpython, "inspect_interpreter", lambda python: libpython.Interpreter("3.11", (tmp_path,), site_packages)
    )
    (tmp_path / "libpython3.11.so.1.0").touch()
    return root


def test_takes_the_first_that_is_there(environment: Path, tmp_path: Path) -> None:
    found = installation.find((tmp_path / "not here", environment, tmp_path))
    assert found.environment == environment
    assert found.stub.is_file()
    assert found.libpython == tmp_path / "libpython3.11.so.1.0"


def test_none_there(tmp_path: Path) -> None:
    with pytest.raises(InstallationMissing) as caught:
        installation.find((tmp_path / "a", tmp_path / "b"))
    assert caught.value.candidates == (tmp_path / "a", tmp_path / "b")
    assert caught.value.requirements.is_file()


def test_without_a_python(tmp_path: Path) -> None:
    with pytest.raises(InstallationBroken):
        installation.find((tmp_path,))


@pytest.mark.parametrize("part", ["pytriton", "onnxruntime", "nvidia_pytriton.libs"])
def test_half_installed(environment: Path, part: str) -> None:
    shutil.rmtree(environment / "lib/site-packages" / part)
    with pytest.raises(InstallationBroken) as caught:
        installation.find((environment,))
    assert part in caught.value.missing


def test_without_libpython(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libpython, "find", lambda interpreter: None)
    with pytest.raises(LibpythonMissing) as caught:
        installation.find((environment,))
    assert caught.value.library == "libpython3.11.so.1.0"


def test_the_checkout_comes_before_the_cache_and_a_choice_before_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PE_TRITON_ENVIRONMENT", raising=False)
    assert installation.candidate_environments(tmp_path) == (
        installation.CHECKOUT / ".venv-triton",
        tmp_path / "venv-triton",
    )
    monkeypatch.setenv("PE_TRITON_ENVIRONMENT", str(tmp_path))
    assert installation.candidate_environments(tmp_path) == (tmp_path,)


def test_an_optional_engine_is_required_only_by_its_models(environment: Path) -> None:
    lacking = installation.find((environment,))
    lacking.require_engine(ONNXRUNTIME, "V-onnx")
    with pytest.raises(EngineMissing) as caught:
        lacking.require_engine(OPENVINO, "V-openvino")
    assert (caught.value.model, caught.value.environment) == ("V-openvino", environment)
    assert caught.value.engine is OPENVINO
    (environment / "lib/site-packages/openvino").mkdir()
    (environment / "lib/site-packages/openvino/__init__.py").touch()
    installation.find((environment,)).require_engine(OPENVINO, "V-openvino")


def test_an_onnxruntime_for_gpus_is_known(environment: Path) -> None:
    assert not installation.find((environment,)).cuda
    (environment / "lib/site-packages/onnxruntime_gpu-1.31.0.dist-info").mkdir()
    assert installation.find((environment,)).cuda
