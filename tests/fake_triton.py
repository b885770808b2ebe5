"""A fake Triton: a gRPC server on loopback whose replies, errors and delays a test configures.

Tests in tests/e2e use the real Triton, which cannot be made to reply wrongly.
"""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import grpc
import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

CONFIGS: Final = {
    "V-vision": """
        name: "V-vision" backend: "onnxruntime" max_batch_size: 4
        input { name: "image" data_type: TYPE_UINT8 dims: [2, 3, 3] }
        output { name: "embedding" data_type: TYPE_FP32 dims: [5] }
        parameters { key: "precision" value { string_value: "fp32" } }
    """,
    "V-text": """
        name: "V-text" backend: "onnxruntime" max_batch_size: 16
        input { name: "tokens" data_type: TYPE_INT32 dims: [7] }
        output { name: "embedding" data_type: TYPE_FP32 dims: [5] }
    """,
}


def unit_rows(batch: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Unit vectors [N, 5] that differ between rows of a batch."""
    rows = 1 + batch.reshape(len(batch), -1)[:, :5].astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)  # type: ignore[no-any-return]


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The configuration of a fake Triton, and a record of the calls that it received."""

    configs: dict[str, str] = field(default_factory=lambda: dict(CONFIGS))
    version: str = "1"
    answer: Callable[[np.ndarray], np.ndarray] = unit_rows  # type: ignore[type-arg]
    abort: tuple[grpc.StatusCode, str] | None = None
    seconds: float = 0
    received: list[tuple[str, np.ndarray]] = field(default_factory=list)  # type: ignore[type-arg]
    versions: list[str] = field(default_factory=list)  # that the inference calls named
    traceparents: list[str] = field(default_factory=list)
    slow_polls: int = 0  # this many of the next `RepositoryIndex` calls take a second
    infer_calls: int = 0
    cancelled: int = 0

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.slow_polls:
            self.slow_polls -= 1
            await asyncio.sleep(1)
        models = [{"name": name, "version": self.version, "state": "READY"} for name in self.configs]
        return service_pb2.RepositoryIndexResponse(
            models=[*models, {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "no file"}]
        )

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        config = text_format.Parse(self.configs[request.name], model_config_pb2.ModelConfig())
        return service_pb2.ModelConfigResponse(config=config)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.infer_calls += 1
        self.versions.append(request.model_version)
        self.traceparents += [value for key, value in context.invocation_metadata() if key == "traceparent"]
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.abort:
            await context.abort(*self.abort)
        dtype = {"UINT8": np.uint8, "INT32": np.int32}[request.inputs[0].datatype]
        batch = np.frombuffer(request.raw_input_contents[0], dtype).reshape(request.inputs[0].shape)
        self.received.append((request.model_name, batch))
        embedding = self.answer(batch)
        datatype = {"float32": "FP32", "float64": "FP64"}[embedding.dtype.name]
        return service_pb2.ModelInferResponse(
            outputs=[{"name": "embedding", "datatype": datatype, "shape": embedding.shape}],
            raw_output_contents=[embedding.tobytes()],
        )


@asynccontextmanager
async def served(triton: FakeTriton, port: int = 0, address: str = "") -> AsyncIterator[int]:
    """Serve a fake Triton in this process, on a port of loopback or at another address. Yields the port."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port(address or f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class FakeTritonProcess:
    """A context manager that runs a `FakeTriton` in a separate process, which a test can kill or stop."""

    def __init__(self, seconds: float = 0, port: int = 0) -> None:
        command = [sys.executable, "-m", "tests.fake_triton", str(seconds), str(port)]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        assert self.process.stdout is not None
        self.target = f"127.0.0.1:{int(self.process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)


async def _main(seconds: float, port: int) -> None:
    async with served(FakeTriton(seconds=seconds), port) as port:
        print(port, flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1]), int(sys.argv[2])))
