"""A running `pe-serve` with the real Triton: Triton is restarted, and changes of the repository are served."""

import json
import os
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from gateway.triton import channel
from tests.deploy.conftest import MODELS
from tests.running import PeServe

pytestmark = pytest.mark.triton
Start = Callable[..., PeServe]
MakeRepository = Callable[..., Path]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def wait_for_status(url: str, wanted: int, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while (found := status(url)) != wanted:
        assert time.monotonic() < end, found
        time.sleep(0.05)


def embed(url: str) -> int:
    body = json.dumps({"text": f"a text that no cache knows {time.monotonic_ns()}"}).encode()
    request = urllib.request.Request(f"{url}/perception_encoder/embed_text", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return int(response.status)


def embed_once_noticed(url: str, seconds: float = 5) -> int:
    """Retry as a client does: until the gateway polls Triton, a request for a replaced version is a 503."""
    end = time.monotonic() + seconds
    while True:
        try:
            return embed(url)
        except urllib.error.HTTPError as error:
            if (error.code, error.headers["Retry-After"]) != (503, "1") or time.monotonic() > end:
                raise
            time.sleep(0.1)


def kill_triton(serving: PeServe, signum: int, seconds: float = 30) -> None:
    """Send a signal to Triton as soon as its process exists, ready or not."""
    end = time.monotonic() + seconds
    while not any(Path(command.split(" ")[0]).name == "tritonserver" for command in serving.processes().values()):
        assert time.monotonic() < end, serving.output
        time.sleep(0.02)
    os.kill(serving.pid_of("tritonserver"), signum)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    for name in ("Tiny-vision", "Tiny-text"):
        shutil.copytree(MODELS / name, made / name)
    return made


@pytest.fixture(scope="module")
def serving(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeServe]:
    """One server for the tests that leave it running. Each test adds to what the tests before it changed."""
    run = PeServe(tmp_path_factory.mktemp("run"), "--port", "0", "--repository", repository)
    try:
        run.wait_until_ready()
        yield run
        assert run.stop() == 0, run.output
        assert run.processes() == {}
        assert "Traceback" not in run.output
    finally:
        run.kill()


def test_a_dead_triton_is_started_again_while_the_gateway_runs(serving: PeServe) -> None:
    url = serving.wait_until_ready()
    gateway, segments = serving.pid_of("gateway"), serving.shared_memory()
    os.kill(serving.pid_of("tritonserver"), signal.SIGKILL)
    serving.wait_for(r"^pe-serve: Triton ended unexpectedly \(signal SIGKILL\); starting it again in 0\.1 s")
    serving.wait_for(r"^pe-serve: Triton is back, after")
    wait_for_status(f"{url}/readiness", 200)
    assert embed(url) == 200
    assert serving.pid_of("gateway") == gateway
    assert not any(segment.exists() for segment in segments)


def test_the_fifth_death_within_a_minute_is_the_last(pe_serve: Start, make_repository: MakeRepository) -> None:
    serving = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text"))
    serving.wait_until_ready()
    for number in range(1, 5):  # three of them before Triton is ready again, which saves its start
        kill_triton(serving, signal.SIGABRT)
        serving.wait_for(rf"(?s)(starting it again.*){{{number}}}")
    serving.wait_for("^pe-serve: Triton is back")
    kill_triton(serving, signal.SIGABRT)
    assert serving.wait() == 1
    assert "last with signal SIGABRT: giving up" in serving.output
    started = [line for line in serving.log().read_text().splitlines() if "Started GRPCInferenceService" in line]
    assert started[0] in serving.output
    assert serving.processes() == {}


def test_ctrl_c_while_triton_is_down(pe_serve: Start, make_repository: MakeRepository) -> None:
    serving = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text"))
    serving.wait_until_ready()
    for number in (1, 2):
        kill_triton(serving, signal.SIGKILL)
        serving.wait_for(rf"(?s)(starting it again.*){{{number}}}")
    assert serving.stop(signal.SIGINT) == 0
    assert serving.processes() == {}
    assert "Traceback" not in serving.output


def test_triton_refuses_requests_to_load_models(serving: PeServe) -> None:
    """A load request can contain a configuration and files, so it would run code of whoever can connect."""
    url = serving.wait_until_ready()
    with InferenceServerClient(serving.triton(), channel_args=channel.OPTIONS) as client:
        for action in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="explicit model load / unload is not allowed"):
                action("Tiny-text")
    assert embed(url) == 200


def test_a_new_version_and_a_new_variant_are_served_without_a_restart(serving: PeServe, repository: Path) -> None:
    url = serving.wait_until_ready()
    shutil.copytree(repository / "Tiny-text/1", repository / "Tiny-text/2")
    serving.wait_for(r"^pe-serve: model Tiny-text: version 2 is served now")
    end = time.monotonic() + 20
    while get(f"{url}/info")["models"]["Tiny"]["text"]["version"] != "2":
        assert time.monotonic() < end
        assert embed_once_noticed(url) == 200
    for tower in ("vision", "text"):
        shutil.copytree(repository / f"Tiny-{tower}", repository / f"Other-{tower}")
        config = repository / f"Other-{tower}/config.pbtxt"
        config.write_text(config.read_text().replace("Tiny", "Other"))
    serving.wait_for(r"^pe-serve: model Other-vision: version 1 is served now")
    while "Other" not in get(f"{url}/info")["models"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    shutil.rmtree(repository / "Other-vision")
    serving.wait_for(r"^pe-serve: model Other-vision is not in the repository any more")


def test_a_version_that_cannot_be_loaded_disturbs_nothing(serving: PeServe, repository: Path) -> None:
    url = serving.wait_until_ready()
    (repository / "Tiny-text/3").mkdir()
    (repository / "Tiny-text/3/model.onnx").write_bytes(b"no model")
    serving.wait_for(r"^pe-serve: model Tiny-text: version 3 could not be loaded.*onnxruntime cannot open")
    assert embed(url) == 200
    shutil.copy(repository / "Tiny-text/1/model.onnx", repository / "Tiny-text/3/model.onnx")
    serving.wait_for(r"^pe-serve: model Tiny-text: version 3 is served now")
    assert embed_once_noticed(url) == 200
