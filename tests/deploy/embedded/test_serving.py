"""pe-serve as a person meets it: the real Triton, the real gateway, signals, and everything that can be in the way."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


def test_serves_and_prints_a_command_that_works(pe_serve: Start, make_repository: MakeRepository) -> None:
    run = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text", "External-text"))
    url = run.wait_until_ready()
    assert list(get(f"{url}/info")["models"]) == ["Tiny"]
    assert "Tiny: images 8x8, texts of 6 tokens, embeddings of 4 numbers" in run.output
    command = run.wait_for("^curl .*$")[0]
    answer = subprocess.run(["bash", "-c", command], check=True, capture_output=True, timeout=30).stdout
    assert len(json.loads(answer)["similarity"]) == 3


def test_listens_on_loopback_only(serving: PeServe) -> None:
    listening = {
        line.split()[1].split(":")[0]
        for pid in serving.processes()
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


def test_a_busy_port(pe_serve: Start, make_repository: MakeRepository) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text"), "--port", str(port))
        assert run.wait() == 1
    assert f"port {port} on 127.0.0.1 is in use" in run.output


def remove(path: str) -> Callable[[Path], None]:
    def damage(repository: Path) -> None:
        target = repository / path
        if target.is_dir():
            for entry in target.iterdir():
                entry.unlink()
            target.rmdir()
        else:
            target.unlink()

    return damage


def truncate(path: str, size: int) -> Callable[[Path], None]:
    return lambda repository: os.truncate(repository / path, size)


def replace(path: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(repository: Path) -> None:
        text = (repository / path).read_text()
        assert old in text
        (repository / path).write_text(text.replace(old, new))

    return damage


TEXT = "Tiny-text/config.pbtxt"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(remove(TEXT), "model Tiny-text is incomplete", id="no config.pbtxt"),
        pytest.param(remove("Tiny-text/1"), "has no a version directory", id="no version directory"),
        pytest.param(remove("Tiny-text/1/model.onnx"), "has no 1/model.onnx", id="no model.onnx"),
        pytest.param(truncate("Tiny-text/1/model.onnx", 0), "has no 1/model.onnx", id="empty model.onnx"),
        pytest.param(truncate("Tiny-text/1/model.onnx", 200), "Tiny-text: onnxruntime cannot open", id="truncated"),
        pytest.param(replace(TEXT, "onnxruntime", "tensorrt"), "Tiny-text is for Triton's tensorrt backend", id="plan"),
        pytest.param(
            replace(TEXT, "onnxruntime", "nothing"), "Tiny-text is for Triton's nothing backend", id="unknown"
        ),
        pytest.param(replace(TEXT, "max_batch_size", "max_bach_size"), 'no field named "max_bach_size"', id="syntax"),
        pytest.param(replace(TEXT, '"Tiny-text"', '"Other"'), "unexpected directory name 'Tiny-text'", id="other name"),
        pytest.param(replace(TEXT, '"tokens"', '"ids"'), "names input ['ids'], but the model has", id="tensor name"),
        pytest.param(replace("Tiny-text/config.pbtxt", "TYPE_FP32", "TYPE_FP23"), "TYPE_FP23", id="bad dtype"),
    ],
)
def test_says_which_model_cannot_be_loaded_and_why(
    pe_serve: Start, make_repository: MakeRepository, damage: Callable[[Path], None], said: str
) -> None:
    repository = make_repository("Tiny-vision", "Tiny-text")
    damage(repository)
    run = pe_serve("--repository", repository)
    assert run.wait() == 1
    assert said in run.output
    assert "Tiny-vision" not in run.output
    assert "Traceback" not in run.output
    assert run.processes() == {}


def test_external_weights_missing(pe_serve: Start, make_repository: MakeRepository) -> None:
    repository = make_repository("Tiny-vision", "Tiny-text", "External-text")
    (repository / "External-text/1/weights.bin").unlink()
    run = pe_serve("--repository", repository)
    assert run.wait() == 1
    assert "External-text: onnxruntime cannot open" in run.output
    assert "weights.bin" in run.output


def test_what_an_export_leaves_behind_does_not_matter(pe_serve: Start, make_repository: MakeRepository) -> None:
    repository = make_repository("Tiny-vision", "Tiny-text")
    (repository / ".Tiny-text.half").mkdir()
    (repository / ".Tiny-text.half/config.pbtxt").write_text("{")
    (repository / "README.md").touch()
    pe_serve("--repository", repository).wait_until_ready()


def test_no_triton_environment(pe_serve: Start, make_repository: MakeRepository, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    run = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text"), PE_TRITON_ENVIRONMENT=str(missing))
    assert run.wait() == 1
    assert f"the Triton environment is missing: {missing} is not there" in run.output
    assert "make serve" in run.output


def skeleton(environment: Path, libpython_in: Path | None = None) -> Path:
    """What looks like a Triton environment without OpenVINO, for a Python of which only its library may be there."""
    site_packages = environment / "lib"
    for file in ("pytriton/tritonserver/bin/tritonserver", "onnxruntime/__init__.py", "nvidia_pytriton.libs/x"):
        (site_packages / file).parent.mkdir(parents=True)
        (site_packages / file).touch()
    stub = site_packages / "pytriton/tritonserver/python_backend_stubs/3.99/triton_python_backend_stub"
    stub.parent.mkdir(parents=True)
    stub.touch()
    python = environment / "bin/python"
    python.parent.mkdir()
    directories = [None, str(libpython_in or "/nowhere")]
    said = json.dumps({"version": "3.99", "directories": directories, "site_packages": str(site_packages)})
    python.write_text(f"#!/bin/sh\necho '{said}'\n")
    python.chmod(0o755)
    return environment


def test_a_python_without_its_library(pe_serve: Start, make_repository: MakeRepository, tmp_path: Path) -> None:
    """A Triton environment whose Python says that it is one no library can be found for."""
    environment = skeleton(tmp_path / "venv")
    run = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text"), PE_TRITON_ENVIRONMENT=str(environment))
    assert run.wait() == 1
    assert f"Triton needs libpython3.99.so.1.0, which {environment}/bin/python does not bring along" in run.output
    assert "apt-get install libpython3.99" in run.output


def test_an_openvino_model_without_openvino(pe_serve: Start, make_repository: MakeRepository, tmp_path: Path) -> None:
    repository = make_repository("Tiny-vision", "Tiny-text")
    config = repository / "Tiny-text/config.pbtxt"
    named = config.read_text().replace("onnxruntime", "openvino") + 'default_model_filename: "model.onnx"\n'
    config.write_text(named)
    (tmp_path / "libpython3.99.so.1.0").touch()
    environment = skeleton(tmp_path / "venv", libpython_in=tmp_path)
    run = pe_serve("--repository", repository, PE_TRITON_ENVIRONMENT=str(environment))
    assert run.wait() == 1
    assert f"model Tiny-text needs OpenVINO, which {environment} lacks" in run.output
    assert "requirements-openvino.txt" in run.output


def test_paths_with_spaces(pe_serve: Start, make_repository: MakeRepository, tmp_path: Path) -> None:
    made = make_repository("Tiny-vision", "Tiny-text")
    spaced = made.rename(made.with_name("my models, all"))
    pe_serve("--repository", spaced, XDG_CACHE_HOME=str(tmp_path / "my cache")).wait_until_ready()
