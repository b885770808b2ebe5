"""Export towers with random weights and compile them with TensorRT for RTX, which needs no GPU.

    .venv-export/bin/python -m tests.export.engines.compile_towers PE-Core-L14-336

prints the seconds of each step for both towers in FP16 and in BF16. `make test` compiles the small variants in
`test_tensorrt_compiler.py`; this command is for the large ones. PE-Core-G14-448 needs about 20 GB of memory.
"""

import argparse
import importlib
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from export.engines.tensorrt import shape_range
from export.engines.tensorrt_compiler import ShapeRange, compile_graph
from export.files import readable_size
from export.graph import onnx_graph
from export.graph.forms import FORMS
from export.graph.spec import Precision
from export.graph.typed_towers import release_weights, typed_tower
from export.repository.triton_config import INPUTS
from export.variants import TOWERS, Tower, Variant, find_variant
from export.weights.random_checkpoint import random_tower

PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16")


def export_tower(variant: Variant, tower: Tower, precision: Precision, directory: Path) -> onnx_graph.OnnxGraph:
    """Export a tower with random weights in the form that the engine `tensorrt` needs."""
    network = typed_tower(random_tower(variant, tower), precision, FORMS["elementary"])
    dtype = torch.uint8 if tower == "vision" else torch.int32
    example = torch.zeros((2, *variant.input_shapes(tower)[-1]), dtype=dtype)
    graph = onnx_graph.export_graph(network, INPUTS[tower][0], example, directory / "model.onnx")
    release_weights(network)
    return graph


def shapes(variant: Variant, tower: Tower) -> dict[str, ShapeRange]:
    """Return the optimization profile for the variant's default `--max-batch-size`."""
    return {INPUTS[tower][0]: shape_range(variant.input_shapes(tower), variant.max_batch_size)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.export.engines.compile_towers")
    parser.add_argument("variant", metavar="VARIANT", type=find_variant)
    parser.add_argument("--towers", type=lambda text: text.split(","), default=TOWERS)
    parser.add_argument("--precisions", type=lambda text: text.split(","), default=PRECISIONS)
    options = parser.parse_args()
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)  # They log every node that they do not change.
    trt: Any = importlib.import_module("tensorrt_rtx_bindings")
    for tower in options.towers:
        for precision in options.precisions:
            with tempfile.TemporaryDirectory() as directory:
                times = [(time.perf_counter(), time.process_time())]
                graph = export_tower(options.variant, tower, precision, Path(directory))
                times.append((time.perf_counter(), time.process_time()))
                plan = compile_graph(trt, graph.path, shapes(options.variant, tower))
                times.append((time.perf_counter(), time.process_time()))
                steps = [
                    f"{step} {end[0] - begin[0]:.1f} s ({end[1] - begin[1]:.1f} s of CPU)"
                    for step, begin, end in zip(("export", "compile"), times, times[1:], strict=False)
                ]
                size = f"graph {readable_size(graph.size)}, plan {readable_size(memoryview(plan).nbytes)}"
                sys.stdout.write(f"{options.variant.name} {tower} {precision}: {', '.join(steps)}, {size}\n")
                sys.stdout.flush()
                del plan
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
