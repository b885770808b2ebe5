"""`pe-bench gpu`: the served stack on an NVIDIA GPU, beside torch and onnxruntime alone on the same GPU.

`pe-export` made the model repository in FP16 or BF16, and Triton's environment has onnxruntime-gpu instead of
onnxruntime (`deploy/bench/README.md`). `tower` measures the GPU alone, in the exporter's environment, after the stack
has stopped, because each needs the whole GPU.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.bench.harness.figures import Figure, table
from deploy.bench.harness.spread import Spread, ratio, spread
from deploy.bench.harness.worker import WorkerFailed
from deploy.bench.speed.targets import Results, best, cpu, sweep
from deploy.embedded.installation import CHECKOUT

_MINUTES: Final = 8
_LINES: Final = 8


def measure(variant: str, precision: str, folder: Path, *options: str | Path) -> Results:
    """Run `tower` with these options, and return its JSON from `folder`.

    Raises:
        WorkerFailed: it ended with an error.
    """
    python, output = CHECKOUT / ".venv-export/bin/python", folder / "gpu.json"
    command = [
        python if python.exists() else sys.executable, "-m", "deploy.bench.gpu.tower", variant,
        "--precision", precision, "--output", output, *options,
    ]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), cwd=CHECKOUT, capture_output=True, text=True, timeout=_MINUTES * 60, check=False
    )
    if done.returncode != 0:
        raise WorkerFailed("\n".join(["the card could not be measured:", *done.stderr.splitlines()[-_LINES:]]))
    found: Results = json.loads(output.read_text())
    return found


def _alone(results: Results) -> float:
    """Return images/s of our export by onnxruntime, without Triton, at its best batch size."""
    rates: dict[str, dict[str, float]] = results["card"]["images_per_second"]
    return max(found["median"] for name, found in rates.items() if name.startswith("onnxruntime"))


def targets(results: Results) -> list[Figure]:
    """Compute how much of the GPU the tower uses, and how much of the tower's rate Triton's clients get."""
    card = results["card"]
    limit = card["matmul_tflops"][card["precision"]]["median"]
    alone = _alone(results)
    served = best(results, sweep(results, "triton vision"))
    return [
        Figure(
            f"vision tower by onnxruntime / the card's {card['precision'].upper()} matrix product",
            spread([alone * card["gflop_per_image"] / 1e3 / limit]), "x", 0.5, "at least", note="FLOP/s",
        ),
        Figure(
            "vision model through Triton / vision tower by onnxruntime",
            ratio(served, [alone] * len(served)), "x", 0.9, "at least", note="images/s",
        ),
    ]  # fmt: skip


def cores(results: Results) -> Spread | None:
    """Return the CPU cores that the gateway needs for 1,000 images/s: its CPU ms per image at its best level."""
    levels = [cpu(results, name, "gateway") for name in sweep(results, "http image base64")]
    return spread([min(seconds) * 1e3 for seconds in zip(*levels, strict=True)])


def markdown(results: Results) -> str:
    """Write the part of the summary that is about the GPU."""
    card = results["card"]
    rows = [
        [name, f"{found['median']:.4g} ({found['low']:.4g}-{found['high']:.4g})"]
        for name, found in card["images_per_second"].items()
    ]
    products = ", ".join(f"{half} {found['median']:.4g} TFLOP/s" for half, found in card["matmul_tflops"].items())
    needed = cores(results)
    lines = [
        f"{card['device']}. Matrix products: {products}. {card['gflop_per_image']:.4g} GFLOP per image.",
        table(["vision tower alone", "images/s"], rows),
    ]
    if needed:
        lines.append(f"The gateway's CPU, in cores for 1,000 images/s: {needed:.2f}.")
    return "\n\n".join(lines)
