"""`pe-serve` with the real Triton where a machine or its user is unusual: paths, output, disks, homes, locales."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.conftest import MODELS
from tests.running import PE_SERVE, PeServe, free_port

pytestmark = pytest.mark.triton
Start = Callable[..., PeServe]
MakeRepository = Callable[..., Path]

ROOT: Final = Path(__file__).parents[3]


def embed(url: str) -> int:
    """Request the embedding of a text that no cache has. Returns the status; 0 without a response."""
    body = json.dumps({"text": f"modèle {time.monotonic_ns()}"}).encode()
    request = urllib.request.Request(f"{url}/perception_encoder/embed_text", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_until_served(serving: PeServe, url: str, seconds: float = 60) -> None:
    """Wait without the banner, which may be unreadable."""
    end = time.monotonic() + seconds
    while embed(url) != 200:
        assert serving.process.poll() is None, serving.output
        assert time.monotonic() < end, serving.output
        time.sleep(0.1)


def wait_until_ready(serving: PeServe, url: str) -> None:
    """Wait until `pe-serve` has asked its gateway for `/info`, which is the last step before the banner."""
    wait_until_served(serving, url)
    end = time.monotonic() + 30
    while True:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
            if 'route="/info"' in response.read().decode():
                return
        assert time.monotonic() < end
        time.sleep(0.1)


def through_shell(script: str, *arguments: str | Path) -> tuple[str, ...]:
    """Return a command that runs a bash script, whose `exec "$@"` becomes `pe-serve`. `$0` is the first argument."""
    first, *rest = (*map(str, arguments), "") if not arguments else map(str, arguments)
    return ("bash", "-c", script, first, *rest, *PE_SERVE)


# -- Paths


def test_paths_with_any_characters(tmp_path: Path, pe_serve: Start) -> None:
    """A checkout, its environments and the repository below a folder with characters that something may stumble on."""
    checkout = tmp_path / "modèles d'été 日本 $(x)"
    (checkout / "deploy").mkdir(parents=True)
    shutil.copy(ROOT / "deploy/__init__.py", checkout / "deploy")
    for product in ("deploy/embedded", "gateway", "export"):
        shutil.copytree(ROOT / product, checkout / product, ignore=shutil.ignore_patterns("__pycache__"))
    for environment in (".venv", ".venv-triton"):
        (checkout / environment).symlink_to(ROOT / environment)
    repository = checkout / "models"
    for model in ("Tiny-vision", "Tiny-text", "External-text"):
        shutil.copytree(MODELS / model, repository / model)
    command = (str(checkout / ".venv/bin/python"), "-P", "-m", "deploy.embedded.cli")
    serving = pe_serve("--repository", repository, command=command, PYTHONPATH=str(checkout))
    assert embed(serving.wait_until_ready()) == 200
    assert str(checkout) in " ".join(serving.processes().values())


def test_a_path_that_is_not_utf_8_is_refused_by_name(tmp_path: Path, pe_serve: Start) -> None:
    repository = os.fsdecode(os.fsencode(tmp_path) + b"/mod\xe8les")
    for model in ("Tiny-vision", "Tiny-text"):
        shutil.copytree(MODELS / model, f"{repository}/{model}")
    serving = pe_serve("--repository", repository)
    assert serving.wait() == 1
    assert r"/mod\xe8les/Tiny-text/1/model.onnx is not UTF-8. Rename that folder" in serving.output


# -- Output that cannot be written


@pytest.fixture
def unread_pipe(tmp_path: Path) -> Iterator[Path]:
    """A full pipe whose reader never reads."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 2**20)  # pe-serve cannot enlarge it, so it remains full
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    yield path
    os.close(pipe)


@pytest.mark.parametrize(
    "redirection",
    [
        pytest.param(">/dev/full 2>&1", id="full disk"),
        pytest.param("> >(exec true) 2>&1", id="reader gone"),
        pytest.param('>"$0" 2>&1', id="reader stopped reading"),
        pytest.param("<&- >&- 2>&-", id="closed"),
    ],
)
def test_output_that_cannot_be_written_costs_only_the_output(
    pe_serve: Start, make_repository: MakeRepository, unread_pipe: Path, redirection: str
) -> None:
    repository, port = make_repository("Tiny-vision", "Tiny-text"), free_port()
    command = through_shell(f'exec "$@" {redirection}', unread_pipe)
    serving = pe_serve("--repository", repository, "--port", str(port), command=command)
    url = f"http://127.0.0.1:{port}"
    wait_until_ready(serving, url)
    triton = serving.pid_of("tritonserver")
    os.kill(triton, signal.SIGKILL)
    end = time.monotonic() + 60
    while triton in serving.processes():
        assert time.monotonic() < end
        time.sleep(0.05)
    wait_until_served(serving, url)
    assert serving.stop() == 0
    assert serving.processes() == {}
