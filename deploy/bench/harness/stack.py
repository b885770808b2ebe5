"""The stack under test: a pe-serve started for it, or one that runs already."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from deploy.bench.harness import processes as cpu

_START_S: Final = 600.0  # a large variant from a cold disk


class StackFailed(Exception):
    """It did not start, or does not serve what was asked for."""


@dataclass(frozen=True)
class Stack:
    """Addresses; and process ids by role (gateway, tritonserver, stub vision, stub text), where they are known."""

    url: str
    triton_grpc: str
    triton_http: str
    variant: str
    info: dict[str, Any]  # what the gateway says of the variant
    pids: dict[str, list[int]] = field(default_factory=dict)
    # Known of one that was started for this:
    triton_metrics: str = ""
    launcher: int = 0  # its pe-serve's process id

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.info["image_size"]
        return height, width

    def batches(self, tower: str) -> dict[int, int]:
        """How many batches of each size Triton has run so far (its statistics extension)."""
        statistics = get_json(f"http://{self.triton_http}/v2/models/{self.variant}-{tower}/stats")
        (model,) = statistics["model_stats"]
        return {int(b["batch_size"]): int(b["compute_infer"]["count"]) for b in model.get("batch_stats", [])}


def get_json(url: str) -> dict[str, Any]:
    """A JSON object. Raises OSError: no answer, or no success (URLError, HTTPError)."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        value: dict[str, Any] = json.load(answer)
    return value


def attach(url: str, triton_grpc: str, triton_http: str, variant: str | None, pid: int | None = None) -> Stack:
    """A stack by its addresses; ``pid``: the pe-serve whose processes are to be told apart.

    Raises:
        StackFailed: it does not serve the variant.
    """
    models: dict[str, dict[str, Any]] = get_json(f"{url}/info").get("models") or {}
    chosen = variant or next(iter(models), "")
    if chosen not in models:
        raise StackFailed(f"{url} serves {', '.join(models) or 'nothing'}, and not {variant}.")
    pids: dict[str, list[int]] = {}
    for child, command in cpu.descendants(pid).items() if pid else ():
        if role := _role(command, chosen):
            pids.setdefault(role, []).append(child)
    return Stack(url.rstrip("/"), triton_grpc, triton_http, chosen, models[chosen], pids)


def _role(command: str, variant: str) -> str | None:
    if "triton_python_backend_stub" in command:
        return next((f"stub {tower}" for tower in ("vision", "text") if f"/{variant}-{tower}/" in command), None)
    if re.match(r"\S*tritonserver ", command):
        return "tritonserver"
    # With several workers, the children of the first.
    return "gateway" if " -m gateway" in command or "multiprocessing" in command else None


@contextmanager
def start(
    repository: Path,
    directory: Path,
    variant: str | None,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """A pe-serve of its own, on free ports, ended with the block. ``environment``: settings beside our own.

    Raises:
        StackFailed
    """
    log = directory / "pe-serve.txt"
    command = [sys.executable, "-m", "deploy.embedded.cli", "--port", "0", "--repository", str(repository), *options]
    with log.open("wb") as output:
        # Its log goes to a file, not to a pipe that would have to be read meanwhile.
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        url = _ready(process, log)
        triton = next(c for c in cpu.descendants(process.pid).values() if re.match(r"\S*tritonserver ", c))
        ports = dict(re.findall(r"--(\w+)-port=(\d+)", triton))
        found = attach(url, f"127.0.0.1:{ports['grpc']}", f"127.0.0.1:{ports['http']}", variant, process.pid)
        yield replace(found, triton_metrics=f"127.0.0.1:{ports['metrics']}", launcher=process.pid)
    finally:
        process.terminate()
        process.wait(90)


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + _START_S
    while not (found := re.search(r"^Ready on (\S+)", said := log.read_text(errors="replace"), re.MULTILINE)):
        if process.poll() is not None or time.monotonic() > end:
            raise StackFailed("\n".join(["pe-serve did not start:", *said.splitlines()[-8:]]))
        time.sleep(0.1)
    return found[1]
