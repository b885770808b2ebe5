"""`pe-bench first-check`, with the real stack."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.bench import cli
from tests.running import PeServe
from tests.tools import ROOT


@pytest.mark.slow
@pytest.mark.triton
def test_a_stack_that_runs_passes(
    pe_serve: Callable[..., PeServe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pe_serve("--repository", ROOT / "model_repository")
    url = run.wait_until_ready()
    assert cli.main(["first-check", "--url", url, "--seconds", "0.5", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "first-check.md").read_text()
    assert printed.startswith("# First check of PE-Demo-T8-64: passed\n")
    results = json.loads((tmp_path / "first-check.json").read_text())
    assert [step["name"] for step in results["steps"]] == ["serve", "replay", "measure"]
    assert url not in printed
    rates = results["steps"][2]["found"]
    assert {rate["what"] for rate in rates} == {"picture", "list of 16 pictures", "new text"}
    assert all(rate["items_per_s"] > 0 for rate in rates)


@pytest.mark.slow
@pytest.mark.triton
def test_a_server_that_wants_a_key(
    pe_serve: Callable[..., PeServe],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = pe_serve("--repository", ROOT / "model_repository", PE_API_KEYS="right").wait_until_ready()
    arguments = ["first-check", "--url", url, "--seconds", "0.2", "--output", str(tmp_path)]
    assert cli.main(arguments) == 1
    assert "- replay: the server wants an API key: set PE_API_KEY in the environment" in capsys.readouterr().out
    monkeypatch.setenv("PE_API_KEY", "right")
    assert cli.main(arguments) == 0
    assert "right" not in (tmp_path / "first-check.json").read_text()


@pytest.mark.slow
def test_an_export_that_fails_ends_the_check_and_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["first-check", "PE-Unknown", "--output", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert "- export: pe-export ended with status 1" in printed
    assert [step["name"] for step in json.loads((tmp_path / "first-check.json").read_text())["steps"]] == ["export"]


def test_a_server_that_cannot_be_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["first-check", "--url", "http://127.0.0.1:1", "--output", str(tmp_path)]) == 1
    assert "- serve: " in capsys.readouterr().out


def test_options_of_the_export_do_not_go_with_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["first-check", "--url", "http://127.0.0.1:1", "--engine", "onnx"])
    assert "with --url nothing is exported, so there is no --engine" in capsys.readouterr().err
