"""What was aimed at, and how near a run came: each a ratio of two things measured in the same round."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.bench.harness.spread import Spread, paired, ratio, spread

Results = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A ratio, what is due and what was aimed at."""

    what: str
    of: str
    measured: Spread | None  # None: could not be, in this run
    due: float
    aim: float | None
    at_most: bool = False  # else at least
    only: str = ""  # the target is for this variant; others are shown for comparison
    amx: bool = False  # and for CPUs that have it

    def verdict(self, variant: str, instructions: Sequence[str]) -> str:
        """In a word, by the median."""
        if self.measured is None:
            return "not measured"
        if self.only and variant != self.only:
            return f"for {self.only}"
        if self.amx and "amx_bf16" not in instructions:
            return "for a CPU with AMX"

        def met(limit: float) -> bool:
            assert self.measured
            return self.measured.median <= limit if self.at_most else self.measured.median >= limit

        if not met(self.due):
            return "missed"
        return "met" if self.aim is None or not met(self.aim) else "aim met"


def values(results: Results, name: str, get: Callable[[dict[str, Any]], Any]) -> list[float]:
    """One figure of a measurement, in the order of the rounds; NaN where that round lacks it."""
    by_round = {sample["round"]: sample for sample in results["series"].get(name, [])}
    found = [get(by_round[i]) if i in by_round else None for i in range(results["effort"]["rounds"])]
    return [math.nan if value is None else float(value) for value in found]  # JSON has null for NaN


def rates(results: Results, name: str) -> list[float]:
    """Items a second in each round."""
    return values(results, name, lambda sample: sample["items_per_s"])


def cpu(results: Results, name: str, role: str) -> list[float]:
    """CPU seconds of a role's processes an item."""
    return values(results, name, lambda sample: sample["cpu_s"].get(role))


def best(results: Results, names: Iterable[str]) -> list[float]:
    """The highest rate in each round."""
    known = [rates(results, name) for name in names if name in results["series"]]
    return [max((v for v in column if v == v), default=math.nan) for column in zip(*known, strict=True)]


def sweep(results: Results, kind: str) -> list[str]:
    """A kind's series, by how many requests were in flight."""
    return [f"{kind} {level}" for level in results["effort"]["levels"]]


def gemm(results: Results, precision: str) -> list[float]:
    """GFLOP/s of the fastest library in each round."""
    return values(
        results, "gemm", lambda s: max((v for k, v in s.items() if k.endswith(f" {precision}")), default=math.nan)
    )


def targets(results: Results) -> Sequence[Target]:
    """All of them, of one run."""
    at = results["at"]
    image, text, repeated = f"http image base64 {at}", f"http text new {at}", f"http text repeated {at}"
    precision = results["info"].get("precision") or results["info"].get("vision", {}).get("precision", "fp32")
    half = precision == "bf16"
    gflop = results["gflop"]["vision"]
    tower = [rate * gflop for rate in best(results, sweep(results, "triton vision"))] if gflop else []
    torch = values(results, "torch fp32", lambda s: max(s["1"], s["8"]))
    return [
        Target(
            f"HTTP embed_image / perf_analyzer on the vision model, {at} in flight", "images/s",
            ratio(rates(results, image), rates(results, f"triton vision {at}")), 0.93, 0.97, only="PE-Core-B16-224",
        ),
        Target(
            "bare decode and resize / gateway process, 640x480 JPEG in base64 JSON", "CPU s",
            ratio(values(results, "decode 640x480", lambda s: s["cpu_s"]), cpu(results, image, "gateway")), 0.75, 0.85,
        ),
        Target(
            "embed_text repeated / the bare route", "requests/s",
            ratio(rates(results, repeated), rates(results, f"bare ready {at}")), 0.60, 0.75,
        ),
        Target(
            "embed_text new / the bare route with one bare grpc.aio call", "CPU s",
            ratio(cpu(results, text, "gateway"), cpu(results, f"bare grpc {at}", "bare")), 1.3, None, at_most=True,
        ),
        Target(
            "list of 32 in one request / best single-image concurrency", "images/s",
            ratio(rates(results, "http list of 32 1"), best(results, sweep(results, "http image base64"))), 0.95, None,
        ),
        Target(
            f"vision tower through Triton / the machine's {precision.upper()} GEMM", "GFLOP/s",
            ratio(tower, gemm(results, "bf16" if half else "fp32")), 0.35 if half else 0.6, 0.5 if half else 0.75,
            only="PE-Core-B16-224",
        ),
        Target(
            f"HTTP at {at} clients / torch FP32 eager in a bare loop", "images/s",
            ratio(rates(results, image), torch), 2.0, 3.0, only="PE-Core-B16-224", amx=True,
        ),
        Target(
            f"gateway memory after {results['memory']['requests']} requests of 640x480, {at} in flight", "MB",
            spread([results["memory"]["mb"]]), 200, None, at_most=True,
        ),
    ]  # fmt: skip


def overhead_ms(results: Results) -> Spread | None:
    """The gateway's CPU an image beyond decoding and resizing, in ms."""
    decode = values(results, "decode 640x480", lambda s: s["cpu_s"])
    gateway = cpu(results, f"http image base64 {results['at']}", "gateway")
    return paired(lambda a, b: (a - b) * 1e3, gateway, decode)
