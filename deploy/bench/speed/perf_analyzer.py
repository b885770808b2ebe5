"""Measure Triton alone with NVIDIA's perf_analyzer: real tensors over gRPC, closed and open loop.

The binary is on PATH (in Triton's SDK container) or in `.venv-bench`, where `make bench` installs it. The wheel of
tritonclient 2.50.0 (BSD licence) carries it. It links libcudart.so.12 from NVIDIA's wheel nvidia-cuda-runtime-cu12
(CUDA's EULA) and Debian's libb64-0d (public domain). Its options and output are documented at
https://github.com/triton-inference-server/perf_analyzer/tree/main/docs.
"""

import base64
import csv
import json
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from deploy.embedded.installation import CHECKOUT

_ENVIRONMENT: Final = CHECKOUT / ".venv-bench"
_WINDOWS: Final = 3  # perf_analyzer needs at least three; our stability threshold makes it stop after three
# gRPC would send even calls to loopback there.
_PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")


class PerfAnalyzerFailed(Exception):
    """perf_analyzer is missing, or measured nothing."""


def find() -> Path:
    """Find the binary.

    Raises:
        PerfAnalyzerFailed: it is not installed.
    """
    if found := shutil.which("perf_analyzer"):
        return Path(found)
    if (fetched := _ENVIRONMENT / "bin/perf_analyzer").exists():
        fetched.chmod(0o755)  # The wheel does not mark it as executable.
        return fetched
    raise PerfAnalyzerFailed("perf_analyzer is neither on PATH nor in .venv-bench: `make bench` fetches it.")


def libraries() -> str:
    """Return the library path that a binary in `.venv-bench` needs."""
    cuda = [str(path) for path in _ENVIRONMENT.glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib")]
    return ":".join([*cuda, os.environ.get("LD_LIBRARY_PATH", "")])


def input_data(name: str, tensors: Sequence[NDArray[Any]], file: Path) -> Path:
    """Write tensors [...] without batch axis in the format of `--input-data`: raw little-endian bytes in base64."""
    entries = [
        {name: {"content": {"b64": base64.b64encode(tensor.tobytes()).decode()}, "shape": list(tensor.shape)}}
        for tensor in tensors
    ]
    file.write_text(json.dumps({"data": entries}))
    return file


def measure(
    url: str, model: str, data: Path, directory: Path, seconds: float, concurrency: int | None = None, rate: float = 0
) -> dict[str, Any]:
    """Measure one model.

    Args:
        url: gRPC address of Triton, host:port.
        model: its name.
        data: a file of `input_data`.
        directory: for its report.
        seconds: in all, in three windows.
        concurrency: requests in flight (closed loop).
        rate: without a concurrency, requests per second as a Poisson process (open loop).

    Raises:
        PerfAnalyzerFailed: it ended with an error.
    """
    binary, report = find(), directory / "perf_analyzer.csv"
    report.unlink(missing_ok=True)
    load = (
        [f"--concurrency-range={concurrency}"]
        if concurrency
        else [f"--request-rate-range={rate:.3f}", "--request-distribution=poisson", "--max-threads=4"]
    )
    command = [
        str(binary), "-m", model, "-i", "grpc", "-u", url, "--async", f"--input-data={data}", *load,
        # By default it continues until three windows agree, which may never happen on a shared machine.
        f"--measurement-interval={max(100, round(seconds / _WINDOWS * 1000))}", "--stability-percentage=999",
        f"--max-trials={_WINDOWS}", "--percentile=99", "--verbose-csv", "-f", str(report),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name not in _PROXIES}
    environment["LD_LIBRARY_PATH"] = libraries()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds * 10 + 300)
    if done.returncode != 0 or not report.exists():
        said = (done.stdout + done.stderr).strip().splitlines()[-8:]
        raise PerfAnalyzerFailed("perf_analyzer failed:\n" + "\n".join(said))
    return parse(report.read_text()) | {"kept_up": "not able to keep up" not in done.stdout + done.stderr}


def parse(text: str) -> dict[str, Any]:
    """Parse its CSV report of one load level: items/s, latencies in ms, and the server's time by part in ms.

    Raises:
        PerfAnalyzerFailed: the report has no row.
    """
    row = next(csv.DictReader(text.splitlines()), None)
    if row is None or "Inferences/Second" not in row:
        raise PerfAnalyzerFailed(f"perf_analyzer reported nothing: {text[:200]!r}")

    def ms(column: str) -> float:
        return float(row[column]) / 1e3 if row.get(column) else math.nan

    return {
        "items_per_s": float(row["Inferences/Second"]),
        "ms": {f"p{p}": ms(f"p{p} latency") for p in (50, 95, 99)},
        "server_ms": {
            part.lower().replace(" ", "_"): ms(part)
            for part in ("Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output")
        },
    }
