"""Experiment `rtx`: compile TensorRT's form of the graph by TensorRT for RTX, load it, run it, compare it with torch.

It decides whether a card accepts TensorRT for RTX at all. NVIDIA documents compute capabilities 8.0, 8.6, 8.9, 12.0
"and later". Whether Hopper (9.0) is among them is unknown. A compilation needs no GPU, so on a CPU the rest fails.
"""

import importlib
import sys
import time
from functools import partial
from typing import Any, Final

import torch  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor  # type: ignore[import-not-found,unused-ignore]

from deploy.bench.gpu import device, graphs
from deploy.bench.gpu import setting as settings
from deploy.bench.gpu.setting import Setting
from deploy.bench.gpu.steps import Record
from deploy.bench.harness import flops
from export.engines.tensorrt_compiler import compile_graph, profile_shapes, write_warnings
from export.engines.tensorrt_kernels import CompilerMessages, detailed, read_graph, report
from export.errors import GraphError, TargetError
from export.variants import find_variant

TARGETS: Final = ("default", "CURRENT")
"""Compute capabilities to compile for: the compiler's default, then that of the GPU in this machine alone."""

_KERNELS: Final = 30  # of a profile


def tensorrt_rtx() -> Any:
    """Import the bindings. The package `tensorrt-rtx-cu13` would import them under a shorter name."""
    return importlib.import_module("tensorrt_rtx_bindings")


class RtxRun:
    """A run on images in the GPU's memory. The results are in `embeddings`, FP32 [N, D]."""

    def __init__(self, trt: Any, engine: bytes, images: Tensor, embed_dim: int) -> None:
        self._images = images  # The context knows only addresses.
        self.embeddings = torch.empty((len(images), embed_dim), dtype=torch.float32, device=images.device)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise TargetError("TensorRT for RTX cannot load the engine on this card: its messages are in the log")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise TargetError("TensorRT for RTX cannot create an execution context: its messages are in the log")
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self._context.set_input_shape(name, tuple(images.shape))
                self._context.set_tensor_address(name, images.data_ptr())
            else:
                self._context.set_tensor_address(name, self.embeddings.data_ptr())
        self._stream = torch.cuda.Stream()

    def __call__(self) -> None:
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise TargetError("TensorRT for RTX could not run the engine: its messages are in the log")
        self._stream.synchronize()


def measure(setting: Setting, record: Record) -> None:
    """Compile, load, run and compare the towers by TensorRT for RTX."""
    trt = tensorrt_rtx()
    record.update(tensorrt_rtx=trt.__version__)
    for name in graphs.rtx_variants(setting.variant):
        for target in TARGETS:
            _measure(trt, name, target, setting, record)


def _measure(trt: Any, name: str, target: str, setting: Setting, record: Record) -> None:
    variant, graph = find_variant(name), setting.graph(name, graphs.TENSORRT)
    gflop = flops.vision_gflop(name, variant.image_size) or float("nan")
    engine = b""
    label = f"{name}, {target}"
    with record.step(f"{label}: compile") as figures:
        messages, begun = CompilerMessages(), time.monotonic()
        shapes = profile_shapes(variant.input_shapes("vision"), setting.batch)
        configured, heard = partial(_configure, trt, target), partial(_hear, messages)
        engine = bytes(compile_graph(trt, graph, {"image": shapes}, configure=configured, listen=heard))
        figures |= {"compile_s": time.monotonic() - begun, "engine_bytes": len(engine)}
        found = report(messages, read_graph(graph))
        figures["kernels"] = found.as_json() if found else None
    if not engine:
        return
    with record.step(f"{label}: run") as figures:
        images = device.random_images(variant, setting.batch, setting.device)
        if setting.device == "cpu":
            raise TargetError("an engine of TensorRT for RTX needs a GPU")
        begun = time.monotonic()
        run = RtxRun(trt, engine, images, variant.embed_dim)
        figures["load_s"] = time.monotonic() - begun
        record.write()  # Each figure is kept as soon as it is known, because the next call may end the process.
        run()
        figures["first_run_s"] = time.monotonic() - begun - figures["load_s"]
        record.write()
        expected = device.expected_embeddings(variant, images, setting.device)
        figures["one_minus_cosine"] = device.cosine_loss(expected, run.embeddings)
        record.write()
        figures["images_per_s"] = device.rate(run, setting.batch, setting.seconds)
        figures["of_the_limit"] = figures["images_per_s"] * gflop / 1e3 / device.matmul_tflops("fp16", "cuda", 1.0)
        record.write()
        figures["kernel_ms"] = dict(list(device.kernel_ms(run, setting.device).items())[:_KERNELS])


def _configure(trt: Any, target: str, config: Any) -> None:
    detailed(trt, config)
    if target != "default":
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(getattr(trt.ComputeCapability, target), 0):
            raise GraphError(f"the compiler rejects the compute capability {target}")


def _hear(messages: CompilerMessages, severity: Any, text: str) -> None:
    messages.hear(severity, text)
    write_warnings(severity, text)


if __name__ == "__main__":
    sys.exit(settings.main(measure, device.facts))
