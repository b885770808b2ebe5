import os
from pathlib import Path

import pytest

from deploy.embedded import triton_process
from deploy.embedded.installation import Installation


def test_its_environment_leads_the_stub_to_the_right_python(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/theirs")
    environment = triton_process.process_environment(installation, tmp_path / "lib")
    assert environment["LD_LIBRARY_PATH"] == f"{tmp_path}/lib:{installation.libraries}:/theirs"
    assert environment["PATH"].startswith(f"{installation.environment}/bin:")
    assert "PYTHONPATH" not in environment
    for path in ("", "/opt/venv/bin"):
        monkeypatch.setenv("PATH", path)
        found = triton_process.process_environment(installation, tmp_path / "lib")["PATH"].split(":")
        assert found == [f"{installation.environment}/bin", *filter(None, [path]), *os.defpath.split(":")]
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert not triton_process.process_environment(installation, tmp_path / "lib")["LD_LIBRARY_PATH"].endswith(":")


@pytest.mark.parametrize(
    ("reason", "plain"),
    [
        ("Internal: TritonModelException: it is torn\n\nAt:\n  /a/model.py(1): _open\n", "it is torn"),
        ("Internal: ValueError: odd\n\nAt:\n  /a/model.py(1): _open\n", "ValueError: odd"),
        ("Invalid argument: unable to find backend library", "unable to find backend library"),
    ],
)
def test_reasons_lose_what_says_nothing_to_a_person(reason: str, plain: str) -> None:
    assert triton_process._plain(reason) == plain


def test_onnxruntime_reports_nothing_to_its_maker_unless_it_may(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    assert triton_process.process_environment(installation, tmp_path)["ORT_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert triton_process.process_environment(installation, tmp_path)["ORT_DISABLE_TELEMETRY"] == "0"
