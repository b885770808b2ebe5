"""What another user of the machine can reach of a `pe-serve` with the real Triton, and what a proxy can."""

import json
import os
import re
import socket
import stat
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tritonclient.grpc import InferenceServerClient

from gateway.triton import addresses, channel
from tests.deploy.conftest import MODELS
from tests.running import PeServe, free_port

pytestmark = pytest.mark.triton
Start = Callable[..., PeServe]
MakeRepository = Callable[..., Path]
_NOBODY: Final = "65534"
# Without a group or a capability of ours.
_AS_NOBODY: Final = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--bounding-set=-all")
_CONNECT: Final = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Path]:
    """The directory for sockets, as a desktop gives one to each user. Its path is shorter than that of `tmp_path`."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, runtime: Path) -> Iterator[PeServe]:
    """A server with two workers, whose proxies are ports where nothing listens. It has answered requests."""
    directory = tmp_path_factory.mktemp("run")
    # Everybody may enter the directories above, so that only the ones of the run protect it.
    for above in (directory, *directory.parents[:3], runtime):
        above.chmod(0o755)
    environment = {**dead_proxies(), "XDG_RUNTIME_DIR": str(runtime)}
    run = PeServe(directory, "--port", "0", "--workers", "2", "--repository", MODELS, **environment)
    try:
        url = run.wait_until_ready()
        for number in range(8):
            embed(url, f"text {number}")
        yield run
        assert run.stop() == 0, run.output
        assert list(runtime.iterdir()) == []
    finally:
        run.kill()


def dead_proxies() -> dict[str, str]:
    proxy = f"http://127.0.0.1:{free_port()}"
    return {"http_proxy": proxy, "https_proxy": proxy, "grpc_proxy": proxy, "no_proxy": "", "no_grpc_proxy": ""}


def embed(url: str, text: str) -> None:
    body = json.dumps({"text": text, "perception_encoder_version_id": "Tiny"}).encode()
    request = urllib.request.Request(f"{url}/perception_encoder/embed_text", body, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
        assert response.status == 200


def socket_path(run: PeServe) -> Path:
    (address,) = addresses.parse(run.triton())
    assert isinstance(address, addresses.UnixSocket)
    return Path(address.path)


def as_nobody(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_AS_NOBODY, *command], capture_output=True, text=True, check=False)


def denied(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode != 0 and bool(re.search("Permission denied|PermissionError", done.stderr))


def test_triton_listens_on_its_socket_alone(serving: PeServe, runtime: Path) -> None:
    path = socket_path(serving)
    assert path.parent.parent == runtime
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    triton = serving.pid_of("tritonserver")
    sockets = {os.readlink(entry) for entry in Path(f"/proc/{triton}/fd").iterdir() if entry.exists()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{triton}/net/{table}").read_text().splitlines()[1:]:
            assert f"socket:[{line.split()[9]}]" not in sockets


def test_its_files_are_for_its_user_alone(serving: PeServe) -> None:
    segments = serving.shared_memory()
    assert len(segments) >= 2
    assert {stat.S_IMODE(segment.stat().st_mode) for segment in segments} == {0o600}
    (run,) = (serving.directory / "cache/perception-encoder-server").glob("pe-serve-*")
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert stat.S_IMODE((run / "triton.log").stat().st_mode) & 0o022 == 0


@as_root
def test_another_user_can_open_nothing(serving: PeServe) -> None:
    path = socket_path(serving)
    assert denied(as_nobody("python3", "-c", _CONNECT, path))
    assert denied(as_nobody("ls", path.parent))
    assert as_nobody("ls", path.parent.parent).returncode == 0  # the test itself can see as far as that
    for segment in serving.shared_memory():
        assert as_nobody("stat", segment).returncode == 0
        assert denied(as_nobody("cat", segment))
    (run,) = (serving.directory / "cache/perception-encoder-server").glob("pe-serve-*")
    assert denied(as_nobody("cat", run / "triton.log"))


def test_tritonclient_reaches_it_as_its_user(serving: PeServe) -> None:
    with InferenceServerClient(serving.triton(), channel_args=channel.OPTIONS) as client:
        assert client.is_server_ready()
        assert client.get_server_metadata().version == "2.51.0"


def test_ports_are_opened_where_asked(pe_serve: Start, make_repository: MakeRepository) -> None:
    repository = make_repository("Tiny-vision", "Tiny-text")
    run = pe_serve("--repository", repository, "--triton-ports=0,0,0", **dead_proxies())
    embed(run.wait_until_ready(), "a text")
    http, grpc, metrics = run.wait_for(r"machine: HTTP (\S+), gRPC (\S+), metrics (\S+)$").groups()
    with urllib.request.urlopen(f"http://{http}/v2", timeout=10) as response:
        assert json.load(response)["version"] == "2.51.0"
    with urllib.request.urlopen(metrics, timeout=10) as response:
        assert b"nv_inference_request_success" in response.read()
    with InferenceServerClient(grpc, channel_args=channel.OPTIONS) as client:
        assert client.is_server_ready()
    assert {stat.S_IMODE(segment.stat().st_mode) for segment in run.shared_memory()} == {0o600}


def test_a_port_that_is_taken_is_refused(pe_serve: Start, make_repository: MakeRepository) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run = pe_serve("--repository", make_repository("Tiny-vision", "Tiny-text"), f"--triton-ports=0,{port},0")
        assert run.wait() == 1
    assert f"port {port} on 127.0.0.1, which Triton is to use, is in use by another program" in run.output


def test_two_side_by_side_and_what_a_killed_one_leaves(
    pe_serve: Start, make_repository: MakeRepository, runtime: Path
) -> None:
    repository = make_repository("Tiny-vision", "Tiny-text")
    first, second = (pe_serve("--repository", repository, XDG_RUNTIME_DIR=str(runtime)) for _ in range(2))
    for run in (first, second):
        embed(run.wait_until_ready(), "a text")
    paths = [socket_path(run) for run in (first, second)]
    assert paths[0] != paths[1]
    first.process.kill()
    first.wait_until_gone(15)
    assert paths[0].parent.exists()  # nobody was left to remove it
    embed(second.wait_until_ready(), "another text")
    os.utime(paths[0].parent, (0, 0))
    third = pe_serve("--repository", repository, XDG_RUNTIME_DIR=str(runtime))
    embed(third.wait_until_ready(), "a text")
    assert not paths[0].parent.exists()
    for run, path in ((second, paths[1]), (third, socket_path(third))):
        assert run.stop() == 0
        assert not path.parent.exists()
