"""`pe-bench gpu` on the CPU, with the demo: the whole queue, and runs that are cut off."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.bench.gpu import cli
from deploy.bench.speed import perf_analyzer
from deploy.embedded.installation import CHECKOUT

DEMO = ["--variant", "PE-Demo-T8-64", "--device", "cpu", "--batch", "4", "--rounds", "1", "--seconds", "0.05"]
FORMS = ["exported", "FP16 stream, BiasGelu", "FP16 stream, BiasGelu, fixed batch", "packed"]


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def states(folder: Path) -> dict[str, str]:
    return {name: found["state"] for name, found in read(folder / "queue.json")["experiments"].items()}


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A queue in a process of its own, of `torch` alone, which needs no graph."""
    command = [sys.executable, "-m", "deploy.bench.cli", "gpu", *DEMO, "--only", "torch", "--output", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.skipif(not (CHECKOUT / ".venv-export").exists(), reason="no environment with torch")
@pytest.mark.triton
def test_the_whole_queue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        perf_analyzer.find()
    except perf_analyzer.PerfAnalyzerFailed as error:
        pytest.skip(str(error))
    # A busy machine may take its time.
    options = [f"--minutes={name}=9" for name in ("graphs", "rtx", "forms", "torch", "stack")]
    options += ["--output", str(tmp_path), "--workers", "1", "--forms", ";".join(FORMS)]
    assert cli.main([*DEMO, *options]) == 0, (tmp_path / "queue.log").read_text()[-5000:]
    assert states(tmp_path) == dict.fromkeys(("graphs", "rtx", "forms", "torch", "stack"), "done")
    failed = {name: found["failed_steps"] for name, found in read(tmp_path / "queue.json")["experiments"].items()}
    # TensorRT for RTX runs nothing on a CPU, and cannot compile for the GPU of this machine.
    runs = [step for step in failed.pop("rtx") if step != "PE-Demo-T8-64, default: run"]
    assert runs == ["PE-Demo-T8-64, CURRENT: compile"]
    assert failed == {"graphs": [], "forms": ["packed"], "torch": [], "stack": []}

    (compiled, *_) = read(tmp_path / "rtx.json")["steps"]
    assert compiled["engine_bytes"] > 100_000
    assert compiled["kernels"]["fused_attentions"] == compiled["kernels"]["attentions"] > 0
    forms = read(tmp_path / "forms.json")
    assert set(forms["images_per_second"]) == set(FORMS) - {"packed"}
    steps = {step["name"]: step for step in forms["steps"]}
    assert all(0 <= steps[name]["one_minus_cosine"] < 1e-5 for name in forms["images_per_second"])
    assert "Packed QKV" in steps["packed"]["error"]
    of_torch = read(tmp_path / "torch.json")
    assert set(of_torch["images_per_second"]) == {
        f"torch {way} {half}" for way in ("eager", "compiled") for half in ("fp16", "bf16")
    }
    assert all(step["one_minus_cosine"] < 0.01 for step in of_torch["steps"] if "one_minus_cosine" in step)
    served = read(tmp_path / "stack.json")
    for name in ("triton vision 8", "http image raw 8", "http text of 8 tokens 8", "http text of 32 tokens 8"):
        (sample,) = served["series"][name]
        assert sample["items_per_s"] > 1, name
        assert not sample.get("errors"), name
        assert sample["cpu_s"]["tritonserver"] > 0, name
    text = (tmp_path / "gpu.md").read_text()
    assert text in capsys.readouterr().out
    for heading in ("## Targets", "## TensorRT for RTX", "## Graph forms", "## torch", "## Behind Triton"):
        assert heading in text
    assert len(list(tmp_path.iterdir())) <= 8  # Few files to carry back from a machine without a network.


@pytest.mark.slow
def test_what_is_killed_keeps_the_steps_before(queue: subprocess.Popen[str], tmp_path: Path) -> None:
    result = tmp_path / "torch.json"
    end = time.monotonic() + 240
    while not (result.exists() and any(step["state"] == "done" for step in read(result)["steps"])):
        assert queue.poll() is None, queue.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)
    queue.kill()
    queue.wait()
    kept = read(result)
    assert kept["steps"][0]["name"] == "torch eager fp16"
    assert kept["steps"][0]["one_minus_cosine"] < 0.01
    assert states(tmp_path) == {"torch": "begun"}


@pytest.mark.slow
def test_what_is_interrupted_ends_its_experiment(queue: subprocess.Popen[str], tmp_path: Path) -> None:
    end = time.monotonic() + 120
    while not (tmp_path / "queue.json").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    queue.send_signal(signal.SIGTERM)
    _, said = queue.communicate(timeout=120)
    assert queue.returncode == 130
    assert f"interrupted; what was measured is in {tmp_path}" in said
    assert states(tmp_path) == {"torch": "interrupted"}
    children = subprocess.run(
        ["pgrep", "-f", str(tmp_path / "torch.json")], capture_output=True, text=True, check=False
    )
    assert not children.stdout


@pytest.mark.slow
def test_an_experiment_without_time_or_without_its_graphs_does_not_stop_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--output", str(tmp_path), "--only", "graphs,stack", "--minutes", "graphs=0.005"]
    assert cli.main([*DEMO, *options]) == 1
    assert states(tmp_path)["graphs"] == "stopped: out of time"
    assert states(tmp_path)["stack"] == "done"
    (step,) = read(tmp_path / "stack.json")["steps"]
    assert step["state"] == "failed"
    assert step["error"].startswith("StackFailed: ")
    assert "- stack, stack: StackFailed" in capsys.readouterr().out
    assert cli.main([*DEMO, "--output", str(tmp_path), "--only", "torch", "--within", "0"]) == 1
    assert states(tmp_path) == {"graphs": "stopped: out of time", "stack": "done", "torch": "no time left"}
    assert cli.main(["--output", str(tmp_path), "--only", "torch", "--within", "0"]) == 1  # another variant
    assert states(tmp_path) == {"torch": "no time left"}


@pytest.mark.slow
def test_an_experiment_that_breaks_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a GPU, torch says so, and the queue goes on."""
    options = ["--variant", "PE-Demo-T8-64", "--only", "torch", "--output", str(tmp_path)]
    assert cli.main(options) == 1
    experiment = read(tmp_path / "queue.json")["experiments"]["torch"]
    assert experiment["state"] == "ended with status 1"
    if (CHECKOUT / ".venv-export").exists():
        assert "no NVIDIA GPU that torch can use" in read(tmp_path / "torch.json")["error"]
        assert "no NVIDIA GPU" in "\n".join(experiment["said"])
        said = capsys.readouterr().err
        assert re.search(r"gpu: torch: ended with status 1 after \d+ s: .*no NVIDIA GPU that torch can use", said)


@pytest.mark.slow
def test_any_python_can_run_the_queue(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); from deploy.bench.gpu import cli; cli.main(['--help'])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: pe-bench gpu ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "unknown experiment 'nothing': choose from graphs, rtx, forms, torch, stack"),
        (["--minutes", "x=1"], "unknown experiment 'x'"),
        (["--variant", "PE-Core-L14-366"], "unknown variant 'PE-Core-L14-366'"),
    ],
)
def test_a_mistaken_option(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert message in capsys.readouterr().err
