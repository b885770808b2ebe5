"""The stack under test: a `pe-serve` that a benchmark starts, or one that is already running."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness import processes
from deploy.embedded import ports

_START_S: Final = 600.0  # for a large variant on a disk that is not cached
_GATEWAY_START_S: Final = 60.0
_LINES: Final = 8  # of a log, in an error message
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StackFailed(Exception):
    """The stack did not start, or does not serve the variant."""


@dataclass(frozen=True)
class Stack:
    """Addresses of a running stack, and its process ids if they are known."""

    url: str  # of the gateway, http://host:port
    triton_grpc: str  # host:port, as the others
    triton_http: str
    variant: str
    info: dict[str, Any]  # what the gateway's /info reports about the variant
    pids: dict[str, list[int]] = field(default_factory=dict)  # by role: gateway, tritonserver, stub vision, stub text
    # Only for a stack that was started here:
    triton_metrics: str = ""
    launcher: int = 0  # process id of `pe-serve`

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.info["image_size"]
        return height, width

    def batches(self, tower: str) -> dict[int, int]:
        """Return how many batches of each size Triton has run so far (its statistics extension)."""
        statistics = get_json(f"http://{self.triton_http}/v2/models/{self.variant}-{tower}/stats")
        (model,) = statistics["model_stats"]
        return {int(b["batch_size"]): int(b["compute_infer"]["count"]) for b in model.get("batch_stats", [])}


def get_json(url: str) -> dict[str, Any]:
    """Get a JSON object, without a proxy.

    Raises:
        OSError: no response, or a status other than success (URLError, HTTPError).
    """
    with _DIRECT.open(url, timeout=30) as answer:
        value: dict[str, Any] = json.load(answer)
    return value


def attach(url: str, triton_grpc: str, triton_http: str, variant: str | None, pid: int | None = None) -> Stack:
    """Describe a running stack by its addresses. `pid` is its `pe-serve`, whose child processes are measured.

    `url` may lack `http://`.

    Raises:
        StackFailed: the gateway does not answer, or does not serve the variant.
    """
    url = url if "://" in url else f"http://{url}"
    try:
        models: dict[str, dict[str, Any]] = get_json(f"{url}/info").get("models") or {}
    except (OSError, ValueError) as error:
        raise StackFailed(f"no gateway answers at {url}: {error}") from error
    chosen = variant or next(iter(models), "")
    if chosen not in models:
        raise StackFailed(f"{url} serves {', '.join(models) or 'nothing'}, and not {variant}.")
    pids: dict[str, list[int]] = {}
    for child, command in processes.descendants(pid).items() if pid else ():
        if role := _role(command, chosen):
            pids.setdefault(role, []).append(child)
    return Stack(url.rstrip("/"), triton_grpc, triton_http, chosen, models[chosen], pids)


def _role(command: str, variant: str) -> str | None:
    if "triton_python_backend_stub" in command:
        return next((f"stub {tower}" for tower in ("vision", "text") if f"/{variant}-{tower}/" in command), None)
    if re.match(r"\S*tritonserver ", command):
        return "tritonserver"
    # With several workers, the first gateway process starts the others through multiprocessing.
    # The processes that decode images are below a gateway process, and are measured with it.
    return "gateway" if re.search(r" -m gateway( |$)", command) or "multiprocessing" in command else None


@contextmanager
def start(
    repository: Path,
    directory: Path,
    variant: str | None,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Start a `pe-serve` on free ports, and stop it at the end of the block.

    Args:
        repository: model repository to serve.
        directory: for its log.
        variant: to measure; the first one by default.
        options: more command-line options.
        environment: settings in addition to those of this process.

    Raises:
        StackFailed: it did not start, or does not serve the variant.
    """
    log = directory / "pe-serve.txt"
    # The benchmarks read Triton's statistics and metrics by HTTP, and perf_analyzer knows no sockets.
    command = [sys.executable, "-m", "deploy.embedded.cli", "--port=0", "--triton-ports=0,0,0", *options]
    command += ["--repository", str(repository)]
    process = spawn(command, environment or {}, log)
    try:
        url = _ready(process, log)
        triton = next(c for c in processes.descendants(process.pid).values() if re.match(r"\S*tritonserver ", c))
        served = dict(re.findall(r"--(\w+)-port=(\d+)", triton))
        grpc, http, metrics = (f"{ports.LOOPBACK}:{served[name]}" for name in ("grpc", "http", "metrics"))
        yield replace(attach(url, grpc, http, variant, process.pid), triton_metrics=metrics, launcher=process.pid)
    finally:
        process.terminate()
        process.wait(90)


def spawn(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a process group of its own. Its output goes to a file, because nobody would read a pipe."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until `pe-serve` is ready and return its URL."""
    end = time.monotonic() + _START_S
    while not (found := re.search(r"^Ready on (\S+)", log.read_text(errors="replace"), re.MULTILINE)):
        if process.poll() is not None or time.monotonic() > end:
            raise _failed("pe-serve did not start", log)
        time.sleep(0.1)
    return found[1]


def _failed(what: str, log: Path) -> StackFailed:
    return StackFailed("\n".join([f"{what}:", *log.read_text(errors="replace").splitlines()[-_LINES:]]))


@dataclass(frozen=True)
class Gateway:
    """A gateway that was started alone."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid


@contextmanager
def gateway(
    directory: Path,
    tritons: str,
    *,
    ready: bool = True,
    prefix: Sequence[str] = (),
    **environment: str,
) -> Iterator[Gateway]:
    """Start a gateway alone, and kill it at the end of the block.

    Args:
        directory: for its log.
        tritons: `PE_TRITON_URL`.
        ready: wait until it is ready; otherwise, until it is alive.
        prefix: a command that runs the gateway's command.
        environment: more settings.

    Raises:
        StackFailed: it did not start.
    """
    (port,) = ports.free(1)
    log = directory / f"gateway-{port}.txt"
    settings = {"HOST": ports.LOOPBACK, "PORT": str(port), "PE_TRITON_URL": tritons, **environment}
    process = spawn([*prefix, sys.executable, "-P", "-m", "gateway"], settings, log)
    started = Gateway(process, f"http://{ports.LOOPBACK}:{port}", log)
    try:
        end = time.monotonic() + _GATEWAY_START_S
        while not _succeeds(started.url + ("/readiness" if ready else "/healthz")):
            if process.poll() is not None or time.monotonic() > end:
                raise _failed("the gateway did not start", log)
            time.sleep(0.05)
        yield started
    finally:
        process.kill()
        process.wait()


def _succeeds(url: str) -> bool:
    with suppress(OSError):
        get_json(url)
        return True
    return False
