"""Compute the tables of deploy/sizing.md from stated inputs: `python -m deploy.bench.sizing`.

A test compares the page with what this prints.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from deploy.bench.harness import flops
from deploy.bench.harness.figures import table
from export.gpu_memory import estimate
from export.graph.spec import Precision
from export.variants import TOWERS, VARIANTS, find_variant

# Measured on an H100 80GB HBM3 (export/README.md): a product of two 8192 x 8192 matrices in FP16, in TFLOP/s, and
# images/s of L14-336's vision tower as an ONNX model in FP16 by onnxruntime's CUDA provider.
H100: Final = "H100 SXM, H200"
H100_MATRIX_TFLOPS: Final = 663.0
H100_ONNX_IMAGES: Final = 705.0
# The part of the matrix rate that TensorRT is expected to reach. No GPU has run our plan.
EXPECTED: Final = 0.60
# Dense FP16 tensor cores with FP32 sums, in TFLOP/s: NVIDIA's data sheets.
PEAK_TFLOPS: Final[Mapping[str, float]] = {
    "T4": 65, "A10G": 70, "L4": 121, "A100": 312, "L40S": 362, H100: 989, "B200": 2250,
}  # fmt: skip
# Measured by deploy/bench/speed/cost.py, in ms of a core (deploy/bench/speed/results/cost.md). Triton's is the most.
GATEWAY_MS: Final = 4.1
TRITON_MS: Final = 0.7
IN_FLIGHT: Final = 64  # the default of PE_MAX_IN_FLIGHT
UTILIZATION: Final = 0.7

LOADS: Final = (1, 100, 10_000)
BATCH: Final = 32
# Of the CUDA context, the libraries' kernels and their workspaces. Assumed: half a gigabyte is usual.
CONTEXT_BYTES: Final = 0.5e9
_SHOWN: Final = ("T4", "L4", "A100", H100)


def image_gflop() -> float:
    """Return the GFLOP of one image of L14-336."""
    variant = find_variant("PE-Core-L14-336")
    found = flops.vision_gflop(variant.name, variant.image_size)
    assert found is not None
    return found


@dataclass(frozen=True)
class Gpu:
    """Rates of one GPU with L14-336. Only the H100's first two are measured; the others scale with the peak."""

    name: str
    peak_tflops: float

    @property
    def matrix_tflops(self) -> float:
        """Rate of a large matrix product, in TFLOP/s."""
        return self.peak_tflops * H100_MATRIX_TFLOPS / PEAK_TFLOPS[H100]

    @property
    def onnx_images(self) -> float:
        """Images/s of the ONNX model in FP16."""
        return H100_ONNX_IMAGES * self.peak_tflops / PEAK_TFLOPS[H100]

    @property
    def expected_images(self) -> float:
        """Images/s at the expected part of the matrix rate."""
        return EXPECTED * self.matrix_tflops * 1e3 / image_gflop()

    def needed(self, load: float, images: float) -> int:
        """Return the number of these GPUs for a load, each at `UTILIZATION` of its limit."""
        return math.ceil(load / (images * UTILIZATION))


def _load(images: int) -> str:
    return f"{images:,} images/s" if images > 1 else "1 image/s"


GPUS: Final = tuple(Gpu(name, peak) for name, peak in PEAK_TFLOPS.items())


def rates() -> str:
    """Write images/s by GPU."""
    rows = []
    for gpu in GPUS:
        how = "measured" if gpu.name == H100 else "computed"
        rows.append(
            [gpu.name, f"{gpu.peak_tflops:,.0f}", f"{gpu.matrix_tflops:,.0f} {how}", f"{gpu.onnx_images:,.0f} {how}",
             f"{gpu.expected_images:,.0f} computed"]
        )  # fmt: skip
    return table(
        ["GPU", "peak, TFLOP/s", "matrix product, TFLOP/s", "ONNX in FP16, images/s", "expected of TensorRT, images/s"],
        rows,
    )


def counts() -> str:
    """Write the number of GPUs by load, for both engines."""
    head = ["GPUs: ONNX, expected of TensorRT", *map(_load, LOADS)]
    rows = []
    for gpu in (gpu for gpu in GPUS if gpu.name in _SHOWN):
        engines = (gpu.onnx_images, gpu.expected_images)
        rows.append([gpu.name, *(", ".join(f"{gpu.needed(load, images):,}" for images in engines) for load in LOADS)])
    return table(head, rows)


def processes() -> str:
    """Write gateway processes and the rest by load, beside H100s."""
    h100 = next(gpu for gpu in GPUS if gpu.name == H100)
    head = ["beside H100s", *map(_load, LOADS)]
    rows: list[list[str]] = [["cores that Tritons keep busy"], ["cores that gateways keep busy"]]
    engines = {"ONNX": h100.onnx_images, "expected of TensorRT": h100.expected_images}
    rows += [[f"Tritons, and gateway processes beside each: {name}"] for name in engines]
    rows += [["requests that those gateways hold: ONNX, expected of TensorRT"], ["network between the two"]]
    for load in LOADS:
        rows[0].append(f"{load * TRITON_MS / 1e3:.3g}")
        rows[1].append(f"{load * GATEWAY_MS / 1e3:.3g}")
        held = []
        for row, images in zip(rows[2:4], engines.values(), strict=True):
            tritons = h100.needed(load, images)
            each = math.ceil(load * GATEWAY_MS / 1e3 / UTILIZATION / tritons)
            row.append(f"{tritons} x {each}")
            held.append(f"{tritons * each * IN_FLIGHT:,}")
        rows[4].append(", ".join(held))
        side = find_variant("PE-Core-L14-336").image_size
        rows[5].append(f"{load * side * side * 3 / 1e6:,.2f} MB/s")
    return table(head, rows)


def memory() -> str:
    """Write GPU memory by variant and precision."""
    head = ["variant", "precision", "weights", f"activations, batch of {BATCH}", "one instance", "two instances"]
    head += ["`gpu_mem_limit`"]
    precisions: tuple[Precision, ...] = ("fp16", "fp32")
    rows = []
    for variant in (variant for variant in VARIANTS.values() if variant.hub_repository):
        for precision in precisions:
            towers = [estimate(variant, tower, precision, BATCH) for tower in TOWERS]
            written = [estimate(variant, tower, precision, variant.max_batch_size).limit for tower in TOWERS]
            used = sum(tower.used for tower in towers)
            rows.append(
                [
                    variant.name,
                    "FP16, BF16" if precision == "fp16" else "FP32",
                    " + ".join(f"{tower.weights / 1e9:.2f}" for tower in towers),
                    " + ".join(f"{tower.activations / 1e9:.2f}" for tower in towers),
                    f"{(used + CONTEXT_BYTES) / 1e9:.1f}",
                    f"{(2 * used + CONTEXT_BYTES) / 1e9:.1f}",
                    " + ".join(f"{limit / 2**30:.4g} GiB" for limit in written),
                ]
            )
    return table(head, rows)


def tables() -> list[str]:
    """Return every table of the page, in Markdown."""
    return [rates(), counts(), processes(), memory()]


def main() -> int:
    """Print the tables."""
    sys.stdout.write("\n\n".join(tables()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
