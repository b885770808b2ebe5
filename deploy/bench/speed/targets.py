"""The targets of a run. Each is a ratio of two measurements of the same round."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from deploy.bench.harness.figures import Figure
from deploy.bench.harness.spread import Spread, paired, ratio, spread

Results = dict[str, Any]


def values(results: Results, name: str, get: Callable[[dict[str, Any]], Any]) -> list[float]:
    """Return one value of a measurement per round, in order; NaN for a round without it."""
    by_round = {sample["round"]: sample for sample in results["series"].get(name, [])}
    found = [get(by_round[i]) if i in by_round else None for i in range(results["effort"]["rounds"])]
    return [math.nan if value is None else float(value) for value in found]  # JSON has null for NaN


def rates(results: Results, name: str) -> list[float]:
    """Return items/s per round."""
    return values(results, name, lambda sample: sample["items_per_s"])


def cpu(results: Results, name: str, role: str) -> list[float]:
    """Return the CPU seconds per item of the processes of a role, per round."""
    return values(results, name, lambda sample: sample["cpu_s"].get(role))


def best(results: Results, names: Iterable[str]) -> list[float]:
    """Return the highest rate of several measurements, per round."""
    known = [rates(results, name) for name in names if name in results["series"]]
    return [max((v for v in column if v == v), default=math.nan) for column in zip(*known, strict=True)]


def sweep(results: Results, kind: str) -> list[str]:
    """Return the names of a kind's measurements at all levels of concurrency."""
    return [f"{kind} {level}" for level in results["effort"]["levels"]]


def gemm(results: Results, precision: str) -> list[float]:
    """Return GFLOP/s of the fastest library, per round."""
    return values(
        results, "gemm", lambda s: max((v for k, v in s.items() if k.endswith(f" {precision}")), default=math.nan)
    )


def targets(results: Results) -> list[Figure]:
    """Compute all figures that have a target."""
    at = results["at"]
    image, text, repeated = f"http image base64 {at}", f"http text new {at}", f"http text repeated {at}"
    precision = results["info"].get("precision") or results["info"].get("vision", {}).get("precision", "fp32")
    half = precision == "bf16"
    gflop = results["gflop"]["vision"]
    tower = [rate * gflop for rate in best(results, sweep(results, "triton vision"))] if gflop else []
    torch = values(results, "torch fp32", lambda s: max(s["1"], s["8"]))
    only = "" if results["variant"] == "PE-Core-B16-224" else "for PE-Core-B16-224"
    amx = "" if "amx_bf16" in results["machine"]["instructions"] else "for a CPU with AMX"
    return [
        Figure(
            f"HTTP embed_image / perf_analyzer on the vision model, {at} in flight",
            ratio(rates(results, image), rates(results, f"triton vision {at}")), "x", 0.93, "at least", 0.97,
            note="images/s", exempt=only,
        ),
        Figure(
            "bare decode and resize / gateway process, 640x480 JPEG in base64 JSON",
            ratio(values(results, "decode 640x480", lambda s: s["cpu_s"]), cpu(results, image, "gateway")), "x", 0.75,
            "at least", 0.85, note="CPU s",
        ),
        Figure(
            "embed_text repeated / the bare route",
            ratio(rates(results, repeated), rates(results, f"bare ready {at}")), "x", 0.6, "at least", 0.75,
            note="requests/s",
        ),
        Figure(
            "embed_text new / the bare route with one bare grpc.aio call",
            ratio(cpu(results, text, "gateway"), cpu(results, f"bare grpc {at}", "bare")), "x", 1.3, "at most",
            note="CPU s",
        ),
        Figure(
            "list of 32 in one request / best concurrency of single images",
            ratio(rates(results, "http list of 32 1"), best(results, sweep(results, "http image base64"))), "x", 0.95,
            "at least", note="images/s",
        ),
        Figure(
            f"vision tower through Triton / the machine's {precision.upper()} GEMM",
            ratio(tower, gemm(results, "bf16" if half else "fp32")), "x", 0.35 if half else 0.6, "at least",
            0.5 if half else 0.75, note="GFLOP/s", exempt=only,
        ),
        Figure(
            f"HTTP at {at} clients / torch FP32 eager in a bare loop",
            ratio(rates(results, image), torch), "x", 2, "at least", 3, note="images/s", exempt=only or amx,
        ),
        Figure(
            f"gateway memory after {results['memory']['requests']} requests of 640x480, {at} in flight",
            spread([results["memory"]["mb"]]), "MB", 200, "at most",
        ),
    ]  # fmt: skip


def overhead_ms(results: Results) -> Spread | None:
    """Compute the gateway's CPU per image beyond decoding and resizing, in ms."""
    decode = values(results, "decode 640x480", lambda s: s["cpu_s"])
    gateway = cpu(results, f"http image base64 {results['at']}", "gateway")
    return paired(lambda a, b: (a - b) * 1e3, gateway, decode)
