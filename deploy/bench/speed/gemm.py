"""The machine's rate of matrix multiplication, run by Triton's own Python: its numpy, onnxruntime and OpenVINO.

A script and no module of the package, because that environment has none of our packages. Asked by JSON lines for
``seconds``, it answers in GFLOP/s by library and precision, the best of a few shapes counting as the limit.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

_SIZE = 2048
_FLOP = 2 * _SIZE**3


def _field(number: int, value: "int | bytes | str") -> bytes:
    """One field of a protobuf message: https://protobuf.dev/programming-guides/encoding/."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def matmul_model() -> bytes:
    """``c = a @ b`` in ONNX, by hand: this environment lacks the onnx package. Numbers: onnx/onnx.proto."""

    def tensor(name: str) -> bytes:
        shape = b"".join(_field(1, _field(1, _SIZE)) for _ in range(2))
        return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))

    node = _field(1, "a") + _field(1, "b") + _field(2, "c") + _field(4, "MatMul")
    graph = (
        _field(1, node) + _field(2, "g") + _field(11, tensor("a")) + _field(11, tensor("b")) + _field(12, tensor("c"))
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 17))


def runners(threads: int) -> dict[str, Callable[[], object]]:
    """One product of two float32 matrices by each library that is installed, on this many threads."""
    a, b = np.random.default_rng(0).standard_normal((2, _SIZE, _SIZE), np.float32)
    found: dict[str, Callable[[], object]] = {"numpy fp32": lambda: a @ b}
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(matmul_model(), options, providers=["CPUExecutionProvider"])
        found["onnxruntime fp32"] = lambda: session.run(None, {"a": a, "b": b})
    except ImportError:
        pass
    try:
        import openvino
    except ImportError:
        return found
    for precision in ("f32", "bf16"):
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(matmul_model()),
            "CPU",
            {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads},
        )
        request = compiled.create_infer_request()
        request.set_tensors({"a": openvino.Tensor(a), "b": openvino.Tensor(b)})
        found[f"openvino {'fp32' if precision == 'f32' else precision}"] = request.infer
    return found


def rate(run: Callable[[], object], seconds: float) -> float:
    """GFLOP/s; the first run, which allocates, does not count."""
    run()
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds or not count:
        run()
        count += 1
    return count * _FLOP / spent / 1e9


def main() -> None:
    found = runners(len(os.sched_getaffinity(0)))
    for line in sys.stdin:
        seconds = json.loads(line)["seconds"]
        answer: dict[str, Any] = {name: rate(run, seconds / len(found)) for name, run in found.items()}
        print(json.dumps(answer), flush=True)  # noqa: T201  the answer


if __name__ == "__main__":
    main()
