import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.bench.harness import stack
from deploy.bench.speed import cli, perf_analyzer, plots

ROOT = Path(__file__).parents[4]


def test_says_why_it_cannot_measure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> Path:
        raise perf_analyzer.PerfAnalyzerFailed("`make bench` fetches it")

    monkeypatch.setattr(perf_analyzer, "find", missing)
    assert cli.main([]) == 1
    assert "make bench" in capsys.readouterr().err


def test_a_stack_without_triton_s_own_ports(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `make serve` starts it."""
    monkeypatch.setattr(perf_analyzer, "find", lambda: Path("perf_analyzer"))
    served = stack.Stack("http://gateway", "127.0.0.1:1", "127.0.0.1:1", "V", {}, {})
    monkeypatch.setattr(stack, "attach", lambda *_: served)
    assert cli.main(["--url", "http://gateway"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("pe-bench: no Triton answers at 127.0.0.1:1: ")
    assert "Start pe-serve with --triton-ports" in said


def test_only_the_file_of_a_run_is_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--render", str(tmp_path / "none.json")]) == 1
    assert "--render takes the JSON file of a run: " in capsys.readouterr().err


@pytest.mark.triton
def test_measures_the_demo(tmp_path: Path) -> None:
    try:
        perf_analyzer.find()
    except perf_analyzer.PerfAnalyzerFailed as error:
        pytest.skip(str(error))
    assert cli.main(["--quick", "--rounds", "1", "--seconds", "0.3", "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "PE-Demo-T8-64.json").read_text())
    for name in ("triton vision 8", "http image base64 8", "http text new 8", "bare grpc 8", "bare ready 8"):
        (sample,) = results["series"][name]
        assert sample["items_per_s"] > 1, name
        assert not sample.get("errors"), name
    (sample,) = results["series"]["http image base64 8"]
    assert sample["cpu_s"]["gateway"] > 0
    assert sample["cpu_s"]["stub vision"] > 0
    assert sum(int(size) * count for size, count in sample["batches"].items()) >= sample["requests"]
    assert results["series"]["gemm"][0]["numpy fp32"] > 1
    assert results["memory"]["mb"] > 20
    assert "## Targets\n\nEach figure is a ratio" in (tmp_path / "PE-Demo-T8-64.md").read_text()
    assert str(tmp_path) not in json.dumps(results)
    assert cli.main(["--render", str(tmp_path / "PE-Demo-T8-64.json")]) == 0


def test_an_interruption_keeps_the_rounds_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], results: dict[str, Any]
) -> None:
    def interrupted(*_: object) -> Iterator[dict[str, Any]]:
        yield results
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_measure", interrupted)
    monkeypatch.setattr(plots, "draw", lambda *_: [])  # slow to import
    assert cli.main(["--output", str(tmp_path), "--name", "kept"]) == 130
    assert f"what was measured before is in {tmp_path / 'kept.md'}" in capsys.readouterr().err
    assert json.loads((tmp_path / "kept.json").read_text())["variant"] == results["variant"]
    assert "## Targets" in (tmp_path / "kept.md").read_text()
