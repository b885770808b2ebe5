import shutil
from pathlib import Path

import pytest

from deploy import generate_chart
from deploy.generate_chart import CHART, MANIFESTS, ROOT


def test_the_chart_has_what_the_generator_writes() -> None:
    assert generate_chart.main(["--check"]) == 0


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in (CHART, MANIFESTS):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in (*generate_chart.SCRIPTS, Path("pyproject.toml")):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    monkeypatch.setattr(generate_chart, "ROOT", tmp_path)
    monkeypatch.setattr(generate_chart.generated, "__defaults__", (tmp_path,))
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "old", "new", "written"),
    [
        ("deploy/kubernetes/base/deployment.yaml", "HistoryLimit: 3", "HistoryLimit: 5", "templates/deployment.yaml"),
        ("deploy/triton/start.sh", "set -euo pipefail", "set -eu", "files/start.txt"),
        ("pyproject.toml", 'version = "', 'version = "1', "Chart.yaml"),
    ],
)
def test_a_change_of_a_source_reaches_the_chart(
    checkout: Path, changed: str, old: str, new: str, written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = checkout / changed
    assert old in source.read_text()
    source.write_text(source.read_text().replace(old, new))
    before = (checkout / CHART / written).read_text()
    assert generate_chart.main(["--check"]) == 1
    assert capsys.readouterr().err == f"{CHART / written} is not what deploy/generate_chart.py writes\n"
    assert (checkout / CHART / written).read_text() == before
    assert generate_chart.main([]) == 0
    assert (checkout / CHART / written).read_text() != before
    assert generate_chart.main(["--check"]) == 0
