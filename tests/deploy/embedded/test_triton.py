from pathlib import Path

import pytest

from deploy.embedded import triton
from deploy.embedded.installation import Installation
from deploy.embedded.repository import Model


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    wheel = tmp_path / "wheel"
    (wheel / "backend/__pycache__").mkdir(parents=True)
    for name in ("backend/libtriton_python.so", "triton_python_backend_stub", "libpython3.11.so.1.0"):
        (wheel / name).touch()
    return Installation(
        tmp_path / ".venv-triton",
        wheel / "tritonserver",
        wheel / "libs",
        wheel / "backend",
        wheel / "triton_python_backend_stub",
        wheel / "libpython3.11.so.1.0",
        openvino=False,
    )


def test_lays_out_what_triton_wants(installation: Installation, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "V-text").mkdir()
    triton._lay_out(run, installation, [Model("V-text", tmp_path / "V-text", "onnxruntime")])
    assert (run / "models/V-text").resolve() == tmp_path / "V-text"
    # Real files: Triton refuses a library that a link leads out of its directory.
    python = run / "backends/python"
    assert {entry.name for entry in python.iterdir()} == {"libtriton_python.so", "triton_python_backend_stub"}
    assert not any(entry.is_symlink() for entry in python.iterdir())
    assert (run / "backends/onnxruntime/model.py").samefile(run / "backends/openvino/model.py")
    assert (run / "lib/libpython3.11.so.1.0").resolve() == installation.libpython


def test_its_environment_leads_the_stub_to_the_right_python(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/theirs")
    environment = triton._environment(installation, tmp_path)
    assert environment["LD_LIBRARY_PATH"] == f"{tmp_path}/lib:{installation.libraries}:/theirs"
    assert environment["PATH"].startswith(f"{installation.environment}/bin:")
    assert "PYTHONPATH" not in environment
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert not triton._environment(installation, tmp_path)["LD_LIBRARY_PATH"].endswith(":")


@pytest.mark.parametrize(
    ("reason", "plain"),
    [
        ("Internal: TritonModelException: it is torn\n\nAt:\n  /a/model.py(1): _open\n", "it is torn"),
        ("Internal: ValueError: odd\n\nAt:\n  /a/model.py(1): _open\n", "ValueError: odd"),
        ("Invalid argument: unable to find backend library", "unable to find backend library"),
    ],
)
def test_reasons_lose_what_says_nothing_to_a_person(reason: str, plain: str) -> None:
    assert triton._plain(reason) == plain
