"""`pe-serve` with the real Triton where a machine or its user is unusual: paths, output, disks, homes, locales."""

import base64
import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from PIL import Image

from tests.deploy.conftest import MODELS
from tests.running import PE_SERVE, PeServe, free_port, through_shell, with_own_mounts

pytestmark = pytest.mark.triton
Start = Callable[..., PeServe]
MakeRepository = Callable[..., Path]

ROOT: Final = Path(__file__).parents[3]
DEMO: Final = ROOT / "model_repository"


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


def test_modules_in_the_current_directory_are_not_imported(
    tmp_path: Path, pe_serve: Start, make_repository: MakeRepository
) -> None:
    for name in ("numpy", "onnxruntime", "gateway", "json"):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "__init__.py").touch()
    command = through_shell((sys.executable, "-P", *PE_SERVE[1:]), 'cd "$0"; exec "$@"', tmp_path / "here")
    serving = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text"), command=command)
    assert embed(serving.wait_until_ready()) == 200


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
    command = through_shell(PE_SERVE, f'exec "$@" {redirection}', unread_pipe)
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


# -- Disks


def test_no_disk_with_room_is_a_message(pe_serve: Start) -> None:
    # A checkout below one of the directories is mounted again where it was.
    script = (
        'cd "$0" && for d in /tmp /var/tmp; do mount -t tmpfs -o size=1m tmpfs $d || exit; done && '
        '{ [ -d "$0" ] || { mkdir -p "$0" && mount --bind . "$0"; }; } && exec "$@"'
    )
    command = with_own_mounts(PE_SERVE, script, ROOT)
    serving = pe_serve("--repository", DEMO, command=command, XDG_CACHE_HOME="/tmp/cache")
    assert serving.wait() == 1
    assert "Traceback" not in serving.output
    for directory in ("/tmp/cache/perception-encoder-server", "/tmp", "/var/tmp"):
        assert f"\n  {directory}: less than 16 MiB are free\n" in serving.output
    assert "Free some space there" in serving.output


def test_a_disk_that_becomes_full_stops_nothing(pe_serve: Start, make_repository: MakeRepository) -> None:
    repository = make_repository("Tiny-vision", "Tiny-text")
    cache = repository.parent / "small"
    cache.mkdir()
    command = with_own_mounts(PE_SERVE, 'mount -t tmpfs -o size=20m tmpfs "$0" && exec "$@"', cache)
    serving = pe_serve("--repository", repository, command=command, XDG_CACHE_HOME=str(cache))
    url = serving.wait_until_ready()
    filler = Path(f"/proc/{serving.process.pid}/root{cache}/filler")
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    os.kill(serving.pid_of("tritonserver"), signal.SIGKILL)
    serving.wait_for("^pe-serve: Triton is back")
    shutil.copytree(repository / "Tiny-text/1", repository / "Tiny-text/2")
    serving.wait_for(r"^pe-serve: Triton's files cannot be written, or not be run:\n.*: No space left on device$")
    wait_until_served(serving, url)
    filler.unlink()
    serving.wait_for("^pe-serve: model Tiny-text: version 2 is served now")
    assert serving.stop() == 0


def test_the_shared_memory_of_a_container(pe_serve: Start) -> None:
    """Docker gives a container 64 MiB. Here are 16, for a batch as large as a request may be."""
    command = with_own_mounts(PE_SERVE, 'mount -t tmpfs -o size=16m tmpfs /dev/shm && exec "$@"')
    serving = pe_serve("--repository", DEMO, command=command)
    url = serving.wait_until_ready()
    images = [{"type": "base64", "value": base64.b64encode(noise(i)).decode()} for i in range(64)]
    body = json.dumps({"image": images}).encode()
    request = urllib.request.Request(
        f"{url}/perception_encoder/embed_image", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        assert len(json.load(response)["embeddings"]) == 64


def noise(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


# -- The user


@pytest.mark.parametrize(
    ("script", "environment"),
    [
        pytest.param("unset HOME", {"XDG_CACHE_HOME": ""}, id="no HOME"),
        pytest.param(":", {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": ""}, id="a home that cannot be written"),
        pytest.param("umask 077; cd /proc", {}, id="a umask and a directory that cannot be written"),
        pytest.param(":", {"LC_ALL": "tr_TR.UTF-8", "TZ": ":nowhere"}, id="a locale and a zone that are not installed"),
        pytest.param(":", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, id="ASCII"),
    ],
)
def test_an_unusual_user(tmp_path: Path, pe_serve: Start, script: str, environment: dict[str, str]) -> None:
    repository = tmp_path / "modèles"
    for model in ("Tiny-vision", "Tiny-text"):
        shutil.copytree(MODELS / model, repository / model)
    command = through_shell(PE_SERVE, f'{script}; exec "$@"')
    serving = pe_serve("--repository", repository, command=command, **environment)
    assert embed(serving.wait_until_ready()) == 200
    shutil.rmtree(repository / "Tiny-text")
    serving.wait_for("^pe-serve: model Tiny-text is not in the repository any more")
    assert serving.stop() == 0
    assert "Traceback" not in serving.output


def test_two_servers_with_one_cache_leave_each_other_alone(
    tmp_path: Path, pe_serve: Start, make_repository: MakeRepository
) -> None:
    repository, cache = make_repository("Tiny-vision", "Tiny-text"), str(tmp_path / "cache")
    first, second = (pe_serve("--repository", repository, XDG_CACHE_HOME=cache) for _ in range(2))
    url = first.wait_until_ready()
    second.wait_until_ready()
    os.kill(second.pid_of("tritonserver"), signal.SIGKILL)
    second.wait_for("^pe-serve: Triton is back")
    assert embed(url) == 200
    assert second.stop() == 0
    assert embed(url) == 200
    assert first.stop() == 0
    assert [path for path in Path(cache).rglob("*") if path.is_file()] == []  # and onnxruntime kept no telemetry
