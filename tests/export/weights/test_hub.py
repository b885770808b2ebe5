"""Test downloads with the real `huggingface_hub` client and a small HTTP server."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.export.weights.hub_server import COMMIT, Hub, serve

pytestmark = pytest.mark.export

ROOT = Path(__file__).parents[3]
REPOSITORY, FILE = "timm/PE-Core-T-16-384", "open_clip_model.safetensors"

FETCH = """
import sys
from export.weights import hub
from export.errors import CheckpointError
try:
    print(*vars(hub.fetch(hub.HubFile(sys.argv[1], sys.argv[2]), sys.argv[3])).values(), sep="\\n")
except CheckpointError as error:
    sys.exit(f"CheckpointError: {error}")
"""

# pe-export with the demo variant, as if the demo's weights were on the hub, because this variant is small.
EXPORT_DEMO = """
import dataclasses, sys
from pathlib import Path
from export import cli, variants
from export.graph import onnx_graph
from tests.export.graph_replay import GraphReplay
onnx_graph.export_graph = GraphReplay(Path(sys.argv[1]))  # Tracing is slow and not under test.
published = dataclasses.replace(variants.find_variant("PE-Demo-T8-64"), hub_repository="timm/PE-Core-T-16-384")
variants.VARIANTS = {published.name: published}
sys.exit(cli.main(["PE-Demo-T8-64", "--from", "hub", "--towers", "text", "--repository", *sys.argv[2:]]))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    # Larger than the client's buffer of 10 MB, so that a broken download leaves a part to resume.
    with serve(Hub(REPOSITORY, FILE, os.urandom(12_000_000))) as served:
        yield served


def client(code: str, *arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a new process, because the client reads its environment only when it is imported."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "HF_HOME": str(home), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def fetched(result: subprocess.CompletedProcess[str]) -> tuple[Path, str, str]:
    assert result.returncode == 0, result.stderr
    path, source, digest = result.stdout.splitlines()
    return Path(path), source, digest


def test_a_file_arrives_through_hf_endpoint_with_commit_and_digest(hub: Hub, tmp_path: Path) -> None:
    path, source, digest = fetched(client(FETCH, REPOSITORY, FILE, "main", home=tmp_path, HF_ENDPOINT=hub.url))
    assert path.read_bytes() == hub.content
    assert source == f"{REPOSITORY}@{COMMIT}/{FILE}"
    assert digest == hashlib.sha256(hub.content).hexdigest()


def test_a_revision_can_be_pinned(hub: Hub, tmp_path: Path) -> None:
    fetched(client(FETCH, REPOSITORY, FILE, COMMIT, home=tmp_path, HF_ENDPOINT=hub.url))
    assert f"GET /{REPOSITORY}/resolve/{COMMIT}/{FILE}" in hub.requests


def test_a_broken_download_is_resumed(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = 11_000_000
    path, _, _ = fetched(client(FETCH, REPOSITORY, FILE, "main", home=tmp_path, HF_ENDPOINT=hub.url))
    assert path.read_bytes() == hub.content
    assert any(request.startswith("GET") and "bytes=1" in request for request in hub.requests), hub.requests


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_download_whose_process_ended_is_resumed_by_the_next_one(
    hub: Hub, tmp_path: Path, ending: signal.Signals
) -> None:
    hub.stall_after = 11_000_000
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
    command = [sys.executable, "-c", FETCH, REPOSITORY, FILE, "main"]
    with subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert hub.stalled.wait(60)
        # The client writes 10 MiB in several steps.
        (partial,) = wait_for(lambda: [path for path in tmp_path.rglob("*.partial") if path.stat().st_size > 10**7])
        process.send_signal(ending)
        process.communicate(timeout=60)
    kept = partial.stat().st_size
    assert 10_000_000 <= kept <= 11_000_000
    hub.requests.clear()
    result = client(FETCH, REPOSITORY, FILE, "main", home=tmp_path, HF_ENDPOINT=hub.url)
    path, _, digest = fetched(result)
    assert path.read_bytes() == hub.content
    assert path.resolve().name == digest == hashlib.sha256(hub.content).hexdigest()
    (get,) = downloads(hub)
    assert get.endswith(f" bytes={kept}-")
    assert "open_clip_model.safetensors, 12.0 MB, resumed at 10.5 MB" in result.stderr
    assert not list(tmp_path.rglob("*.partial"))


def downloads(hub: Hub) -> list[str]:
    return [request for request in hub.requests if request.startswith(f"GET /{REPOSITORY}/")]


def wait_for(found: Callable[[], list[Path]]) -> list[Path]:
    end = time.monotonic() + 60
    while not (paths := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return paths


def test_two_processes_that_want_the_same_file_download_it_once(hub: Hub, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
    command = [sys.executable, "-c", FETCH, REPOSITORY, FILE, "main"]
    both = [subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {process.communicate(timeout=120)[0].splitlines()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    (path,) = paths
    assert Path(path).read_bytes() == hub.content
    assert len(downloads(hub)) == 1


def test_a_disk_without_room_is_noticed_before_the_download(hub: Hub, tmp_path: Path) -> None:
    code = FETCH.replace(
        "sys.argv[3])", "sys.argv[3], also_needed=[Need('the models', Path('/'), 10**18, '--repository')])"
    )
    code = code.replace("CheckpointError", "ExportError").replace("import sys", IMPORTS)
    result = client(code, REPOSITORY, FILE, "main", home=tmp_path, HF_ENDPOINT=hub.url)
    assert result.returncode == 1
    assert "too little disk space: " in result.stderr
    assert not downloads(hub)


IMPORTS = """import sys
from pathlib import Path
from export.free_space import Need"""


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {}], ids=["told to be offline", "hub gone"])
def test_the_cache_needs_no_network(hub: Hub, tmp_path: Path, environment: dict[str, str]) -> None:
    fetched(client(FETCH, REPOSITORY, FILE, "main", home=tmp_path, HF_ENDPOINT=hub.url))
    elsewhere = {"HF_ENDPOINT": "http://127.0.0.1:9", **environment}
    path, source, _ = fetched(client(FETCH, REPOSITORY, FILE, "main", home=tmp_path, **elsewhere))
    assert path.read_bytes() == hub.content
    assert COMMIT in source


@pytest.mark.parametrize(
    ("repository", "file", "revision", "message"),
    [
        ("timm/absent", FILE, "main", "the hub has no repository timm/absent"),
        (REPOSITORY, "absent.bin", "main", f"the hub has no {REPOSITORY}/absent.bin at main"),
    ],
)
def test_what_the_hub_lacks_is_one_line(
    hub: Hub, tmp_path: Path, repository: str, file: str, revision: str, message: str
) -> None:
    result = client(FETCH, repository, file, revision, home=tmp_path, HF_ENDPOINT=hub.url)
    assert result.returncode == 1
    assert f"CheckpointError: {message}" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "cannot be downloaded: the hub answers 401 (`hf auth login` helps where an account is needed)"),
        (403, "is not in the local cache, and the hub answers 403: set HF_ENDPOINT to a mirror, or bring "),
        (404, "is not in the local cache, and the hub answers 404: set HF_ENDPOINT to a mirror, or bring "),
        (501, "is not in the local cache, and the hub answers 501: set HF_ENDPOINT to a mirror, or bring "),
    ],
)
def test_a_refusal_is_told_by_its_number(hub: Hub, tmp_path: Path, status: int, message: str) -> None:
    hub.status = status
    result = client(FETCH, REPOSITORY, FILE, "main", home=tmp_path, HF_ENDPOINT=hub.url)
    assert result.returncode == 1
    assert message in result.stderr.splitlines()[-1]


def test_a_download_that_never_arrives_whole_is_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.break_after, hub.always_break = 1000, True
    result = client(FETCH, REPOSITORY, FILE, "main", home=tmp_path, HF_ENDPOINT=hub.url)
    assert result.returncode == 1
    assert (
        f"CheckpointError: the download of {REPOSITORY}/{FILE} at main is incomplete: "
        in result.stderr.splitlines()[-1]
    )
    assert "Traceback" not in result.stderr


def test_no_network_and_no_cache_is_one_line(tmp_path: Path) -> None:
    result = client(FETCH, REPOSITORY, FILE, "main", home=tmp_path, HF_HUB_OFFLINE="1")
    assert result.returncode == 1
    said = result.stderr.splitlines()[-1]
    assert "is not in the local cache, and the hub cannot be reached" in said
    bring = f"bring https://huggingface.co/{REPOSITORY}/resolve/main/{FILE} from another machine and pass --checkpoint"
    assert bring in said


@pytest.mark.parametrize(
    ("proxy", "hint"),
    [
        ({"HTTPS_PROXY": "http://user:secret@127.0.0.1:1"}, "; the proxy of HTTPS_PROXY was used)"),
        ({"HTTPS_PROXY": "", "HF_ENDPOINT": "https://127.0.0.1:1"}, "; HTTPS_PROXY=URL names a proxy)"),
    ],
)
def test_without_a_connection_the_message_names_the_proxy(tmp_path: Path, proxy: dict[str, str], hint: str) -> None:
    retry_at_once = "import time; time.sleep = lambda seconds: None"
    none = dict.fromkeys(("https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"), "")
    result = client(retry_at_once + FETCH, REPOSITORY, FILE, "main", home=tmp_path, **{**none, **proxy})
    assert result.returncode == 1
    said = result.stderr.splitlines()[-1]
    assert "is not in the local cache, and the hub cannot be reached (" in said
    assert hint in said
    assert "secret" not in result.stderr


def test_a_certificate_that_is_not_trusted_is_told_with_the_remedy(tmp_path: Path) -> None:
    """As behind a proxy that opens TLS."""
    certificate = ROOT / "tests/gateway/images/tls_for_tests.pem"
    with serve(Hub(REPOSITORY, FILE, b"weights"), certificate) as hub:
        result = client(FETCH, REPOSITORY, FILE, "main", home=tmp_path, HF_ENDPOINT=hub.url, SSL_CERT_FILE="")
    assert result.returncode == 1
    said = result.stderr.splitlines()[-1]
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert "SSL_CERT_FILE=FILE names the certificates to trust" in said


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    result = client(FETCH, REPOSITORY, FILE, "main", home=tmp_path, SSL_CERT_FILE="/absent/ca.crt")
    assert result.returncode == 1
    assert result.stderr == "CheckpointError: SSL_CERT_FILE names /absent/ca.crt, which is no file\n"


def commits(models: Path) -> list[str]:
    """List the commit of each version of the text model, in order."""
    versions = sorted((models / "PE-Demo-T8-64-text").glob("*/parity.json"), key=lambda path: int(path.parent.name))
    sources = [json.loads(path.read_text())["checkpoint_source"] for path in versions]
    return [source.removeprefix(f"{REPOSITORY}@").removesuffix(f"/{FILE}") for source in sources]


def test_pe_export_from_the_hub_keeps_to_the_commit_it_recorded(
    random_checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    models, home, newer = tmp_path / "models", tmp_path / "home", "beef" + "0" * 36
    content = random_checkpoint.read_bytes()
    with serve(Hub(REPOSITORY, FILE, content)) as hub:
        result = client(EXPORT_DEMO, str(exported), str(models), home=home, HF_ENDPOINT=hub.url)
        assert result.returncode == 0, result.stderr
        assert f"weights from the hub: {REPOSITORY} at main\n" in result.stderr
        assert commits(models) == [COMMIT]
        certificate = json.loads((models / "PE-Demo-T8-64-text/1/parity.json").read_text())
        assert certificate["inputs"]["space"]["checkpoint_sha256"] == hashlib.sha256(content).hexdigest()

        hub.commit = newer  # a new commit on main
        result = client(EXPORT_DEMO, str(exported), str(models), home=home, HF_ENDPOINT=hub.url)
        assert result.returncode == 0, result.stderr
        assert f"{REPOSITORY} at {COMMIT}, as in the last export (--revision main takes the newest)\n" in result.stderr
        assert "PE-Demo-T8-64-text/1  up to date" in result.stderr
        result = client(EXPORT_DEMO, str(exported), str(models), "--force", home=home, HF_ENDPOINT=hub.url)
        assert result.returncode == 0, result.stderr
        assert commits(models) == [COMMIT, newer]


def test_bytes_that_are_not_the_published_ones_are_found_by_their_digest(
    random_checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    content = random_checkpoint.read_bytes()
    with serve(Hub(REPOSITORY, FILE, content, sent=content[:-1] + b"\0")) as hub:
        result = client(
            EXPORT_DEMO, str(exported), str(tmp_path / "models"), home=tmp_path / "home", HF_ENDPOINT=hub.url
        )
        assert result.returncode == 1
        assert not list((tmp_path / "models").iterdir())
        [line] = [line for line in result.stderr.splitlines() if "is not what was published: its sha256 is" in line]
        # After deleting the file that the message names, the next run succeeds.
        Path(line.removeprefix("pe-export: ").partition(" is not what")[0]).unlink()
        hub.sent = None
        result = client(
            EXPORT_DEMO, str(exported), str(tmp_path / "models"), home=tmp_path / "home", HF_ENDPOINT=hub.url
        )
    assert result.returncode == 0, result.stderr
