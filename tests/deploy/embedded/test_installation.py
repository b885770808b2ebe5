import shutil
from pathlib import Path

import pytest

from deploy.embedded import installation, libpython
from deploy.embedded.engines import ENGINES
from deploy.embedded.errors import EngineMissing, InstallationBroken, InstallationMissing, LibpythonMissing
from deploy.embedded.repository_scan import Model
from export.repository.config_pbtxt import ModelConfig


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
    monkeypatch.setattr(libpython, "ask", lambda python: libpython.Interpreter("3.11", (tmp_path,), site_packages))
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
    assert caught.value.looked_at == (tmp_path / "a", tmp_path / "b")
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
    assert installation.places(tmp_path) == (installation.CHECKOUT / ".venv-triton", tmp_path / "venv-triton")
    monkeypatch.setenv("PE_TRITON_ENVIRONMENT", str(tmp_path))
    assert installation.places(tmp_path) == (tmp_path,)


def test_openvino_is_asked_for_where_a_model_needs_it(environment: Path, tmp_path: Path) -> None:
    models = [Model(f"V-{name}", tmp_path, engine, ModelConfig(), (1,), ()) for name, engine in ENGINES.items()]
    lacking = installation.find((environment,))
    installation.require_engines(lacking, models[:1])
    with pytest.raises(EngineMissing) as caught:
        installation.require_engines(lacking, models)
    assert (caught.value.model, caught.value.environment) == ("V-openvino", environment)
    assert caught.value.engine is ENGINES["openvino"]
    assert ENGINES["openvino"].requirements is not None
    assert ENGINES["openvino"].requirements.is_file()
    (environment / "lib/site-packages/openvino").mkdir()
    (environment / "lib/site-packages/openvino/__init__.py").touch()
    installation.require_engines(installation.find((environment,)), models)


def test_an_engine_that_a_person_chose_is_asked_for_too(environment: Path, tmp_path: Path) -> None:
    model = Model("V-text", tmp_path, ENGINES["onnxruntime"], ModelConfig(), (1,), ())
    with pytest.raises(EngineMissing):
        installation.require_engines(installation.find((environment,)), [model], forced=ENGINES["openvino"])


def test_an_onnxruntime_for_gpus_is_known(environment: Path) -> None:
    assert not installation.find((environment,)).cuda
    (environment / "lib/site-packages/onnxruntime_gpu-1.31.0.dist-info").mkdir()
    assert installation.find((environment,)).cuda
