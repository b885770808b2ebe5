"""NVIDIA's perf_analyzer as the yardstick of Triton alone: real tensors over gRPC, closed and open loop.

The binary is found on PATH (Triton's SDK container has it) or in ``.venv-bench``, where ``make bench`` puts it: the
wheel of tritonclient 2.50.0, BSD licence, carries it; it links libcudart.so.12 from NVIDIA's wheel
nvidia-cuda-runtime-cu12 (CUDA's EULA) and Debian's libb64-0d (public domain). Options and output as documented at
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
_WINDOWS: Final = 3  # what it takes for a steady state at least, and with our threshold also at most


class PerfAnalyzerFailed(Exception):
    """It is not there, or measured nothing; the message says what to do, or what it said."""


def find() -> Path:
    """Raises PerfAnalyzerFailed."""
    if found := shutil.which("perf_analyzer"):
        return Path(found)
    if (fetched := _ENVIRONMENT / "bin/perf_analyzer").exists():
        fetched.chmod(0o755)  # its wheel forgets that it is a program
        return fetched
    raise PerfAnalyzerFailed("perf_analyzer is neither on PATH nor in .venv-bench: `make bench` fetches it.")


def libraries() -> str:
    """The library path that a fetched one needs."""
    cuda = [str(path) for path in _ENVIRONMENT.glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib")]
    return ":".join([*cuda, os.environ.get("LD_LIBRARY_PATH", "")])


def input_data(name: str, tensors: Sequence[NDArray[Any]], file: Path) -> Path:
    """Writes tensors [...] without batch axis as ``--input-data`` has them: raw little-endian bytes in base64."""
    entries = [
        {name: {"content": {"b64": base64.b64encode(tensor.tobytes()).decode()}, "shape": list(tensor.shape)}}
        for tensor in tensors
    ]
    file.write_text(json.dumps({"data": entries}))
    return file


def measure(
    url: str, model: str, data: Path, directory: Path, seconds: float, concurrency: int | None = None, rate: float = 0
) -> dict[str, Any]:
    """``seconds`` in three windows: at a concurrency, or requests at ``rate`` a second, as a Poisson process.

    Raises:
        PerfAnalyzerFailed
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
        # It would go on until three windows agree, which a shared machine may never do; we repeat instead.
        f"--measurement-interval={max(100, round(seconds / _WINDOWS * 1000))}", "--stability-percentage=999",
        f"--max-trials={_WINDOWS}", "--percentile=99", "--verbose-csv", "-f", str(report),
    ]  # fmt: skip
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds * 10 + 300)
    if done.returncode != 0 or not report.exists():
        said = (done.stdout + done.stderr).strip().splitlines()[-8:]
        raise PerfAnalyzerFailed("perf_analyzer failed:\n" + "\n".join(said))
    return parse(report.read_text()) | {"kept_up": "not able to keep up" not in done.stdout + done.stderr}


def parse(text: str) -> dict[str, Any]:
    """Its CSV report of one load level: items a second, latencies in ms, and how the time was spent, in ms.

    Raises:
        PerfAnalyzerFailed: no row.
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
