from pathlib import Path

import pytest

from export.cli import main
from export.variants import VARIANTS


def listed(repository: Path, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    assert main(["list", "--repository", str(repository)]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_every_variant_is_listed_with_its_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {cells[0]: cells for cells in listed(tmp_path / "absent", capsys)}
    assert list(rows) == ["VARIANT", *VARIANTS]
    assert rows["PE-Core-L14-336"][1:8] == ["336x336", "32", "1024", "1.27", "GB", "1.42", "GB"]
    assert rows["PE-Demo-T8-64"][-1] == "included"


def test_a_model_without_certificate_is_not_passed_off_as_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "resnet" / "7").mkdir(parents=True)
    (tmp_path / "clip" / "1").mkdir(parents=True)
    (tmp_path / "clip" / "1" / "parity.json").write_text("not json")
    rows = listed(tmp_path, capsys)
    assert ["resnet/7", "-", "-", "no", "certificate", "-", "-"] in rows
    assert ["clip/1", "-", "-", "unreadable:", "export", "again", "-", "-"] in rows


def test_an_empty_repository_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(tmp_path, capsys)[-1] == [str(tmp_path), "holds", "no", "models"]


@pytest.mark.export
def test_exported_models_are_listed_with_their_proof(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {cells[0]: cells for cells in listed(exported, capsys) if cells}
    model = rows["PE-Demo-T8-64-vision/1"]
    assert model[1:4] == ["onnx", "fp32", "1.00000000"]
    assert "random.safetensors" in model
