"""`pe-bench tune` with the real Triton and the real perf_analyzer."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.bench import cli
from deploy.bench.tuning import embedded
from deploy.bench.tuning.control import ControlFailed, ModelControl
from deploy.bench.tuning.grid import Setting, current

MODELS = Path(__file__).parents[2] / "models"
MODEL = "Tiny-vision"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (folder := tmp_path / "models").mkdir()
    for name in (MODEL, "Tiny-text"):
        (folder / name).symlink_to(MODELS / name)
    return folder


@pytest.mark.slow
@pytest.mark.triton
def test_a_sweep_measures_recommends_and_leaves_the_model_as_it_was(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "triton").mkdir()
    with embedded.serve(repository, tmp_path / "triton") as triton:
        with ModelControl(triton) as control:
            before = current(control.config(MODEL))
        effort = ["--rounds=2", "--seconds=1.5", "--concurrency=4", "--towers=vision"]
        choices = ["--instances=2", "--batch-sizes=2", "--delays=0,100", f"--output={tmp_path}"]
        assert cli.main(["tune", "--triton", triton, *effort, *choices]) == 0
        with ModelControl(triton) as control:
            assert current(control.config(MODEL)) == before
    (section,) = json.loads((tmp_path / "tune.json").read_text())["models"]
    settings = [Setting(**row["setting"]) for row in section["rows"]]
    assert settings == [before, Setting(2, 2, 0), Setting(2, 2, 100)]
    for row in section["rows"]:
        assert row["refused"] == ""
        assert len(row["rates"]) == len(row["p99_ms"]) == len(row["alone_ms"]) == 2
        assert min(row["rates"]) > 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "tune.md").read_text()
    assert section["recommendation"] in printed


@pytest.mark.slow
@pytest.mark.triton
def test_a_run_that_is_ended_leaves_no_triton(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.bench.cli", "tune", f"--repository={repository}", f"--output={tmp_path}"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    run = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    assert "round 1" in run.stderr.readline()  # Triton serves, and perf_analyzer has measured the first setting.
    run.send_signal(signal.SIGTERM)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert "interrupted; nothing was written" in said
    left = subprocess.run(["pgrep", "-f", f"tritonserver.*{tmp_path}"], capture_output=True, text=True, check=False)
    assert not left.stdout


@pytest.mark.slow
@pytest.mark.triton
def test_a_setting_that_triton_refuses(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "triton").mkdir()
    with embedded.serve(repository, tmp_path / "triton") as triton, ModelControl(triton) as control:
        config = control.config(MODEL)
        config.backend = "none"
        with pytest.raises(ControlFailed, match=MODEL):
            control.load(MODEL, config)
        assert control.models() == ["Tiny-text", MODEL]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--triton", "127.0.0.1:1"], "Connection refused"),
        (["--repository", "/nonexistent"], "there is no model repository at /nonexistent"),
    ],
)
def test_what_cannot_be_measured(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", *arguments]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    "argument", ["--instances=0", "--instances=x", "--batch-sizes=", "--delays=-1", "--rounds=0", "--towers=image"]
)
def test_invalid_options(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["tune", argument])
    assert argument.partition("=")[0] in capsys.readouterr().err
