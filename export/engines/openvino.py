"""Engine `openvino`: Triton's OpenVINO backend runs an FP32 graph on the CPU, in FP32 or in BF16.

The README of github.com/triton-inference-server/openvino_backend documents the parameters. With `HINT_BF16`, OpenVINO
computes in BF16 if the CPU supports BF16 (AMX, AVX512-BF16). Without the hint, the embedded server computes in FP32.
Without the hint, Triton's own backend leaves the choice to OpenVINO, which chooses BF16 on such a CPU.
"""

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from export.engines.engine import Engine, Runtime, set_instances, set_parameters
from export.errors import ParityError
from export.gpu_memory import GpuMemory
from export.graph.spec import Precision
from export.parity import Array, Embed


class OpenVinoEngine(Engine):
    """`model.onnx` with operators that every runtime supports."""

    name = "openvino"
    backend = "openvino"
    precisions = ("bf16", "fp32")
    form = "elementary"

    def graph_precision(self, precision: Precision) -> Precision:
        return "fp32"  # OpenVINO lowers the precision when it compiles the graph.

    def runtime(self, precision: Precision) -> Runtime | None:
        try:
            openvino = importlib.import_module("openvino")
        except ImportError:
            return None
        capable = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not capable:  # OpenVINO would silently compute in FP32.
            return None
        return Runtime(f"openvino {openvino.__version__} CPU {precision}", partial(openvino_model, precision=precision))

    def missing_runtime(self, precision: Precision) -> str:
        unproven = "or publish it unproven with --unverified"
        if importlib.util.find_spec("openvino") is None:
            return f"the openvino package is not installed: install the extra [export], {unproven}"
        return f"this CPU has no {precision}: export on one that has (AMX), take --precision fp32, {unproven}"

    def configure(
        self,
        config: Any,
        precision: Precision,
        file: str,
        input_shapes: tuple[tuple[int, ...], ...],
        memory: GpuMemory,
    ) -> None:
        config.default_model_filename = file  # The backend's default is model.xml.
        set_instances(config, 2, "KIND_CPU")
        set_parameters(config, PERFORMANCE_HINT="THROUGHPUT")
        if precision == "bf16":
            set_parameters(config, HINT_BF16="YES")


@contextmanager
def openvino_model(path: Path, precision: str) -> Iterator[Embed]:
    """Open a graph in OpenVINO on the CPU, with `precision` as its inference hint.

    Raises:
        ParityError: OpenVINO cannot load or run the graph.
    """
    openvino = importlib.import_module("openvino")
    hint = {"bf16": "bf16", "fp32": "f32"}[precision]
    try:
        model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": hint})

        def embed(batch: Array) -> Array:
            embeddings: Array = model([batch])[0]
            return embeddings

        yield embed
    except RuntimeError as error:  # OpenVINO's bindings raise it for every error.
        raise ParityError(f"OpenVINO cannot run {path.name}: {str(error).splitlines()[0]}") from error
