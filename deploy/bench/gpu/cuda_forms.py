"""Experiment `forms`: every queued graph form by onnxruntime's CUDA provider, with images and embeddings on the card.

It decides which form is exported. All forms are measured in turn in each round, beside the card's matrix product.
"""

import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import torch  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor  # type: ignore[import-not-found,unused-ignore]

from deploy.bench.gpu import device
from deploy.bench.gpu import setting as settings
from deploy.bench.gpu.candidates import Candidate, chosen
from deploy.bench.gpu.setting import Device, Setting
from deploy.bench.gpu.steps import Record
from export.errors import TargetError
from export.variants import find_variant

_PROVIDERS: Final = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
# With a fixed batch, this optimizer turns products with a bias into Gemm, and an H100 was slower with Gemm
# (export/README.md). It also takes the bias from BiasGelu.
_NOT_WITH_FIXED_BATCH: Final = ("MatMulAddFusion",)
_BATCH_AXIS: Final = "batch"  # the name that `export.graph.onnx_graph` gives the dynamic axis
_FIRST_RUNS: Final = 3  # The first run allocates memory, the second records a CUDA graph, the third replays the graph.
_KERNELS: Final = 40  # of a profile


def session(path: Path, candidate: Candidate, batch: int, on: Device) -> Any:
    """Load a graph on the device.

    Raises:
        TargetError: it would run on another device, which onnxruntime does without an error.
    """
    if on == "cuda":
        onnxruntime.preload_dlls()  # CUDA and cuDNN from torch's wheels
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if candidate.fixed_batch:
        options.add_free_dimension_override_by_name(_BATCH_AXIS, batch)
    provider = _PROVIDERS[on]
    if provider not in onnxruntime.get_available_providers():
        raise TargetError(f"this onnxruntime has no {provider}: install onnxruntime-gpu in place of onnxruntime")
    with_options = (provider, candidate.provider_options if on == "cuda" else {})
    without = _NOT_WITH_FIXED_BATCH if candidate.fixed_batch else ()
    opened = onnxruntime.InferenceSession(path, options, providers=[with_options], disabled_optimizers=list(without))
    if opened.get_providers()[0] != provider:
        raise TargetError(f"onnxruntime does not use {provider} here: its messages are in the log")
    return opened


class OnnxRuntimeRun:
    """A run on images in the device's memory. The results are in `embeddings`, FP32 [N, D]."""

    def __init__(self, opened: Any, images: Tensor, embed_dim: int, on: Device) -> None:
        # The binding knows only the addresses, so this object keeps the tensors alive.
        self.images = images
        self.embeddings = torch.empty((len(images), embed_dim), dtype=torch.float32, device=on)
        self._session, self._binding = opened, opened.io_binding()
        for bind, value, tensor, dtype in (
            (self._binding.bind_input, opened.get_inputs()[0], self.images, np.uint8),
            (self._binding.bind_output, opened.get_outputs()[0], self.embeddings, np.float32),
        ):
            bind(value.name, on, 0, dtype, tuple(tensor.shape), tensor.data_ptr())

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)  # returns when the GPU has finished


def measure(setting: Setting, record: Record) -> None:
    """Measure the graph forms by onnxruntime."""
    variant = find_variant(setting.variant)
    images = device.random_images(variant, setting.batch, setting.device)
    expected = device.expected_embeddings(variant, images, setting.device)
    runs: dict[str, tuple[device.Run, int]] = {}
    for name, candidate in chosen(setting.forms).items():
        with record.step(name) as figures:
            path = setting.graph(setting.variant, candidate.graph)
            begun = time.monotonic()
            opened = session(path, candidate, setting.batch, setting.device)
            figures["load_s"] = time.monotonic() - begun
            run = OnnxRuntimeRun(opened, images, variant.embed_dim, setting.device)
            run.embeddings.fill_(torch.nan)
            device.synchronize(setting.device)  # onnxruntime has a stream of its own.
            for _ in range(_FIRST_RUNS):
                run()
            figures["one_minus_cosine"] = device.cosine_loss(expected, run.embeddings)
            figures["images_per_s"] = device.rate(run, setting.batch, setting.seconds / 2)
            runs[name] = run, setting.batch
    if not runs:
        return
    with record.step("rates in turn"):
        device.alternate(runs, setting, "fp16", lambda found: record.update(**found))
    with record.step("profile of the best") as figures:
        rates: dict[str, Any] = record.values["images_per_second"]
        best = max(rates, key=lambda name: float(rates[name]["median"]))
        kernels = device.kernel_ms(runs[best][0], setting.device)
        figures |= {"form": best, "kernel_ms": dict(list(kernels.items())[:_KERNELS])}


if __name__ == "__main__":
    sys.exit(settings.main(measure, device.facts))
