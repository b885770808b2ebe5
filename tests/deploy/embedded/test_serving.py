"""`pe-serve` as a process: the real Triton, the real gateway, signals, and models that Triton cannot load.

What `pe-serve` refuses before it starts a process is tested in test_refusals.py.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import MODELS
from tests.running import PeServe

pytestmark = pytest.mark.triton
Start = Callable[..., PeServe]
MakeRepository = Callable[..., Path]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)


@pytest.fixture
def serving(pe_serve: Start, make_repository: MakeRepository) -> PeServe:
    run = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text"))
    run.wait_until_ready()
    return run


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeServe]:
    """One server for the tests that leave it as it is. Its paths have spaces, and its repository has other entries."""
    directory = tmp_path_factory.mktemp("serving")
    repository, cache = directory / "my models, all", directory / "my cache"
    for name in ("Tiny-vision", "Tiny-text", "External-text"):
        shutil.copytree(MODELS / name, repository / name)
    (repository / ".Tiny-text.half").mkdir()  # as a running export has it
    (repository / ".Tiny-text.half/config.pbtxt").write_text("{")
    (repository / "README.md").touch()
    run = PeServe(directory, "--port", "0", "--repository", repository, XDG_CACHE_HOME=str(cache))
    try:
        run.wait_until_ready()
        yield run
        assert run.stop() == 0, run.output
    finally:
        run.kill()


def test_serves_and_prints_a_command_that_works(shared: PeServe) -> None:
    assert list(get(f"{shared.wait_until_ready()}/info")["models"]) == ["Tiny"]
    assert "Tiny: images 8x8, texts of up to 6 tokens, embeddings of 4 numbers" in shared.output
    command = shared.wait_for("^curl .*$")[0]
    answer = subprocess.run(["bash", "-c", command], check=True, capture_output=True, timeout=30).stdout
    assert len(json.loads(answer)["similarity"]) == 3


def test_listens_on_loopback_only(shared: PeServe) -> None:
    listening = {
        line.split()[1].split(":")[0]
        for pid in shared.processes()
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[9] in _socket_inodes(pid)
    }
    assert listening == {"0100007F"}


def _socket_inodes(pid: int) -> set[str]:
    targets = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            targets.append(os.readlink(descriptor))
        except OSError:
            continue
    return {target.removeprefix("socket:[").removesuffix("]") for target in targets}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stops_when_asked_and_leaves_nothing(serving: PeServe, signum: int, tmp_path: Path) -> None:
    segments = serving.shared_memory()
    assert len(segments) == 2
    assert all(segment.exists() for segment in segments)
    assert serving.stop(signum) == 0
    assert serving.processes() == {}
    assert not any(segment.exists() for segment in segments)
    assert list((tmp_path / "run-0/cache/perception-encoder-server").iterdir()) == []


def test_a_second_ctrl_c_ends_it_at_once(serving: PeServe) -> None:
    os.kill(serving.pid_of("gateway"), signal.SIGSTOP)
    serving.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert serving.process.poll() is None
    started = time.monotonic()
    assert serving.stop(signal.SIGINT) == 0
    assert time.monotonic() - started < 8
    assert serving.processes() == {}


def test_killed_it_takes_everything_along(serving: PeServe) -> None:
    segments = serving.shared_memory()
    serving.process.kill()
    serving.wait_until_gone(15)
    assert not any(segment.exists() for segment in segments)


def test_says_which_process_died(serving: PeServe) -> None:
    os.kill(serving.pid_of("gateway"), signal.SIGKILL)
    assert serving.wait() == 1
    assert "The gateway ended unexpectedly (signal SIGKILL)" in serving.output
    assert serving.processes() == {}


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.6, 1.0, 1.5])
def test_ctrl_c_during_the_start(pe_serve: Start, make_repository: MakeRepository, seconds: float) -> None:
    run = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text"))
    run.wait_for("^Starting")
    time.sleep(seconds)
    segments = run.shared_memory()
    status = run.stop(signal.SIGINT)
    assert run.processes() == {}
    assert not any(segment.exists() for segment in segments)
    assert "Traceback" not in run.output
    if "Ready on" in run.output:
        assert status == 0
    else:
        assert status == 130
        assert "stopped before it was ready (SIGINT)" in run.output


def damaged(repository: Path, name: str, file: str, old: str, new: str) -> None:
    """Add a copy of Tiny-text with one change to a file of it."""
    shutil.copytree(MODELS / "Tiny-text", repository / name)
    config = repository / name / "config.pbtxt"
    config.write_text(config.read_text().replace("Tiny-text", name))
    text = (repository / name / file).read_text()
    assert old in text
    (repository / name / file).write_text(text.replace(old, new))


def test_says_which_models_triton_cannot_load_and_why(pe_serve: Start, make_repository: MakeRepository) -> None:
    repository = make_repository("Tiny-vision", "Tiny-text", "External-text")
    os.truncate(repository / "Tiny-text/1/model.onnx", 200)
    (repository / "External-text/1/weights.bin").unlink()
    damaged(repository, "Renamed-text", "config.pbtxt", '"Renamed-text"', '"Other"')
    damaged(repository, "Tensor-text", "config.pbtxt", '"tokens"', '"ids"')
    run = pe_serve("--repository", repository)
    assert run.wait() == 1
    for said in (
        "  Tiny-text: onnxruntime cannot open",
        "  External-text: onnxruntime cannot open",
        "unexpected directory name 'Renamed-text'",
        "  Tensor-text: config.pbtxt names input ['ids'], but the model has",
    ):
        assert said in run.output
    assert "weights.bin" in run.output
    assert "Tiny-vision" not in run.output
    assert "Traceback" not in run.output
    assert run.processes() == {}
