"""The machine's rate of matrix multiplication by numpy and OpenVINO, as a worker in Triton's Python environment.

This is a script and no module of the package, because that environment does not contain the project. A request is a
JSON line with `seconds`; the reply is GFLOP/s by library and precision.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Final

import numpy as np

_SIZE: Final = 2048
_FLOP: Final = 2 * _SIZE**3


def products(threads: int) -> dict[str, Callable[[], object]]:
    """Build one product of two float32 matrices per library and precision, on that many threads."""
    a, b = np.random.default_rng(0).standard_normal((2, _SIZE, _SIZE), np.float32)
    found: dict[str, Callable[[], object]] = {"numpy fp32": lambda: a @ b}
    try:
        import openvino
        from openvino import opset13
    except ImportError:
        return found
    inputs = [opset13.parameter([_SIZE, _SIZE], np.float32) for _ in range(2)]
    model = openvino.Model([opset13.matmul(*inputs, False, False)], inputs)
    for name, hint in (("fp32", "f32"), ("bf16", "bf16")):
        options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
        request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
        for i, matrix in enumerate((a, b)):
            request.set_input_tensor(i, openvino.Tensor(matrix))
        found[f"openvino {name}"] = request.infer
    return found


def rate(run: Callable[[], object], seconds: float) -> float:
    """Measure GFLOP/s. The first run allocates memory and does not count."""
    run()
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds or not count:
        run()
        count += 1
    return count * _FLOP / spent / 1e9


def main() -> None:
    """Answer requests until standard input closes."""
    found = products(len(os.sched_getaffinity(0)))
    for line in sys.stdin:
        seconds = json.loads(line)["seconds"]
        reply = {name: rate(run, seconds / len(found)) for name, run in found.items()}
        print(json.dumps(reply), flush=True)  # noqa: T201  standard output is the protocol


if __name__ == "__main__":
    main()
