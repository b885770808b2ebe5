"""Compile a tower with the TensorRT library at hand, and show what its compiler made of the graph. No GPU is needed.

    python -m export.inspection PE-Core-L14-336 --precisions fp16

The towers have random weights: the compiler chooses its kernels by shapes and types. Each tower is compiled twice. The
first build has the optimization profile that `pe-export` uses; the second has the largest batch alone, so that the
listing has the sizes that bytes and FLOP are estimated from.
"""

import argparse
import importlib
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from export.engines import ENGINES
from export.engines.roofline import GPUS, Work, work_of
from export.engines.tensorrt_compiler import ShapeRange, compile_graph, profile_shapes
from export.engines.tensorrt_kernels import CompilerMessages, KernelReport, detailed, parse, read_graph, report
from export.errors import ExportError, TargetError
from export.files import readable_size
from export.graph import onnx_graph
from export.graph.forms import FORMS
from export.graph.spec import GraphForm, Precision
from export.graph.typed_towers import release_weights, typed_tower
from export.repository.triton_config import INPUTS
from export.variants import TOWERS, Tower, Variant, find_variant
from export.weights.random_checkpoint import random_tower

# TensorRT for RTX has the same API and compiles without a GPU. It comes last, because plans are TensorRT's.
_LIBRARIES: Final = ("tensorrt", "tensorrt_bindings", "tensorrt_rtx_bindings")


@dataclass(frozen=True)
class Inspection:
    """What a compiler made of one tower."""

    kernels: KernelReport | None
    """None if the listing is not known."""
    work: Sequence[Work] | None
    """The work of each kernel for the largest batch. None if it is not known."""
    batch: int
    """The largest batch."""
    compile_cpu_seconds: float
    """CPU time of the first build, in seconds."""
    engine_bytes: int
    """Size of the first build's engine."""


def library() -> Any:
    """Import the first Python module with TensorRT's API.

    Raises:
        TargetError: there is none.
    """
    for name in _LIBRARIES:
        with suppress(ImportError):
            return importlib.import_module(name)
    raise TargetError(f"no TensorRT to compile with: install one of {', '.join(_LIBRARIES)}")


def export_random(
    variant: Variant, tower: Tower, precision: Precision, directory: Path, form: GraphForm | None = None
) -> onnx_graph.OnnxGraph:
    """Export a tower with random weights, by default in the form that the engine `tensorrt` needs."""
    network = typed_tower(random_tower(variant, tower), precision, FORMS[form or ENGINES["tensorrt"].form])
    dtype = torch.uint8 if tower == "vision" else torch.int32
    example = torch.zeros((2, *variant.input_shapes(tower)[-1]), dtype=dtype)
    graph = onnx_graph.export_graph(network, INPUTS[tower][0], example, directory / "model.onnx")
    release_weights(network)
    return graph


def profile(variant: Variant, tower: Tower) -> dict[str, ShapeRange]:
    """Return the optimization profile that `pe-export` uses for the variant's default `--max-batch-size`."""
    return {INPUTS[tower][0]: profile_shapes(variant.input_shapes(tower), variant.max_batch_size)}


def largest_alone(profile: dict[str, ShapeRange]) -> dict[str, ShapeRange]:
    """Return an optimization profile for the largest shape alone, so that kernels are listed with its sizes."""
    return {name: ShapeRange(*[shapes.largest] * 3) for name, shapes in profile.items()}


def inspect_graph(trt: Any, graph: Path, variant: Variant, tower: Tower) -> Inspection:
    """Compile a graph for the variant's largest batch, and read what its kernels are.

    Args:
        trt: TensorRT's Python module.

    Raises:
        GraphError: TensorRT cannot read or compile the graph.
    """
    nodes = read_graph(graph)
    messages, fixed = CompilerMessages(), CompilerMessages()

    def compile_for(inputs: dict[str, ShapeRange], listener: CompilerMessages) -> int:
        plan = compile_graph(
            trt,
            graph,
            inputs,
            configure=lambda config: detailed(trt, config),
            listen=listener.hear,
        )
        return memoryview(plan).nbytes

    begin = time.process_time()
    size = compile_for(profile(variant, tower), messages)
    seconds = time.process_time() - begin
    compile_for(largest_alone(profile(variant, tower)), fixed)
    kernels = parse(fixed.listing)
    return Inspection(
        kernels=report(messages, nodes),
        work=work_of(kernels, nodes.operators) if kernels else None,
        batch=variant.max_batch_size,
        compile_cpu_seconds=seconds,
        engine_bytes=size,
    )


def inspect_tower(variant: Variant, tower: Tower, precision: Precision, form: GraphForm | None = None) -> Inspection:
    """Export a tower with random weights to a temporary directory, and inspect it.

    Raises:
        GraphError: TensorRT cannot read or compile the graph.
        TargetError: there is no TensorRT.
    """
    trt = library()
    with tempfile.TemporaryDirectory() as directory:
        graph = export_random(variant, tower, precision, Path(directory), form)
        return inspect_graph(trt, graph.path, variant, tower)


def describe(inspection: Inspection) -> str:
    """Return an inspection as lines of text."""
    found, work = inspection.kernels, inspection.work
    lines = [
        f"compiled in {inspection.compile_cpu_seconds:.1f} s of CPU, engine {readable_size(inspection.engine_bytes)}"
    ]
    if found is None:
        lines.append("kernels unknown: TensorRT did not list them in a known format")
    else:
        scratch = "unknown" if found.scratch_bytes is None else readable_size(found.scratch_bytes)
        lines += [
            f"{found.kernels} kernels, {found.kernels_per_block} per block: {found.products} products, "
            f"{found.attentions} attentions, {found.norms} norms, {found.moving} that move data",
            f"{found.fused_attentions} of {found.attentions} attentions fused, {found.fp32_products} products in FP32, "
            f"scratch memory {scratch}",
            *(f"warning: {problem}" for problem in found.problems()),
        ]
    if work is None:
        return "\n".join([*lines, "work unknown: a kernel's sizes are not in the listing"])
    lines.append(f"a batch of {inspection.batch}, estimated from shapes and types:")
    lines.append(f"{'':32}{'GFLOP':>10}{'GB':>8}" + "".join(f"{gpu.name.partition(',')[0]:>12}" for gpu in GPUS))
    roles = ("product", "attention", "norm", "moving")
    for name, parts in [(role, [part for part in work if part.role == role]) for role in roles] + [("all", list(work))]:
        flop, size = sum(part.flop for part in parts), sum(part.bytes for part in parts)
        times = "".join(f"{1e3 * sum(part.seconds(gpu) for part in parts):>9.2f} ms" for gpu in GPUS)
        lines.append(f"{name:32}{flop / 1e9:>10.1f}{size / 1e9:>8.2f}{times}")
    rates = (inspection.batch / sum(part.seconds(gpu) for part in work) for gpu in GPUS)
    lines.append(f"{'inputs/s at most':50}" + "".join(f"{rate:>12.0f}" for rate in rates))
    lines.append(f"the second {GPUS[1].name.partition(',')[0]} is with its measured rate of matrix products")
    return "\n".join(lines)


def main() -> int:
    """Run the command, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.inspection", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("variant", metavar="VARIANT")
    parser.add_argument("--towers", nargs="+", choices=TOWERS, default=TOWERS)
    parser.add_argument("--precisions", nargs="+", choices=("fp16", "bf16", "fp32"), default=("fp16", "bf16"))
    parser.add_argument("--form", choices=FORMS, help="form of the graph; unset, that of the engine tensorrt")
    options = parser.parse_args()
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)  # They log every node that they do not change.
    try:
        variant = find_variant(options.variant)
        for tower in options.towers:
            for precision in options.precisions:
                inspection = inspect_tower(variant, tower, precision, options.form)
                title = f"{variant.name} {tower} {precision}"
                sys.stdout.write(f"{title}\n{describe(inspection)}\n\n")
                sys.stdout.flush()
    except ExportError as error:
        sys.stderr.write(f"inspection: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
