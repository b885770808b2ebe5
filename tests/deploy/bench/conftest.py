"""Results that a run could have. Tests that need torch are not imported in an environment without it."""

from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("torch") is None:
    collect_ignore = ["gpu/test_device.py"]

LATENCIES = {"p50": 1.0, "p95": 2.0, "p99": 3.0}


def load(number: int, rate: float, **cpu: float) -> dict[str, Any]:
    return {
        "round": number,
        "items_per_s": rate,
        "ms": LATENCIES,
        "cpu_s": cpu,
        "batches": {"1": 10, "4": 10},
        "errors": {"429": 1} if rate < 20 else {},
        "generator": {"cores": 0.1, "bottleneck": "1.0 ms late" if rate < 20 else ""},
    }


@pytest.fixture
def results() -> dict[str, Any]:
    """Return results of two rounds, the second on a machine half as fast."""
    speeds = list(enumerate((1.0, 0.5)))
    series: dict[str, Any] = {
        name: [load(i, rate * speed, gateway=0.004 / speed, bare=0.002 / speed) for i, speed in speeds]
        for name, rate in {
            "triton vision 1": 80.0,
            "triton vision 8": 100.0,
            "http image base64 1": 30.0,
            "http image base64 8": 96.0,
            "http list of 32 1": 90.0,
            "http text new 8": 50.0,
            "bare grpc 8": 200.0,
            "http text repeated 8": 700.0,
            "bare ready 8": 1000.0,
        }.items()
    }
    series["decode 640x480"] = [{"round": i, "cpu_s": 0.003 / speed} for i, speed in speeds]
    series["gemm"] = [{"round": i, "numpy fp32": 10 * speed, "onnxruntime fp32": 200 * speed} for i, speed in speeds]
    series["one image base64"] = [{"round": i, "ms_by_stage": {"decode": 2.0, "gateway": 1.0}} for i, _ in speeds]
    return {
        "variant": "PE-Core-B16-224",
        "info": {"precision": "fp32"},
        "machine": {
            "cpu": "A processor", "cores": 2, "instructions": ["avx2"], "system": "Linux", "python": "3.11",
            "load_before": 0.1,
        },
        "versions": {"Triton": "2.51.0"},
        "effort": {"rounds": 2, "seconds": 1.0, "levels": [1, 8]},
        "at": 8,
        "open_loop": 0.7,
        "pictures": "photographs",
        "gflop": {"vision": 1.5, "text": None},
        "memory": {"requests": 1000, "mb": 150.0},
        "series": series,
        "took_s": 90.0,
    }  # fmt: skip
