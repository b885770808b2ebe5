"""``pe-bench --gpu``: the served stack on an NVIDIA GPU, beside what torch and onnxruntime do alone on the same card.

The model repository is one that `pe-export` made in FP16 or BF16; Triton's environment has onnxruntime-gpu in place of
onnxruntime (README.md of this folder). What the card can do is measured by ``gpu``, in the exporter's environment, once
the stack is gone: a card serves one at a time.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.bench.harness.spread import Spread, ratio, spread
from deploy.bench.harness.table import table
from deploy.bench.harness.worker import HelperFailed
from deploy.bench.speed.targets import Results, Target, best, cpu, sweep
from deploy.embedded.installation import CHECKOUT

_MINUTES: Final = 8


def measure(variant: str, precision: str, folder: Path, *options: str | Path) -> Results:
    """What ``gpu`` found, as its JSON has it; ``options`` are more of its own: whose export, above all.

    Raises:
        HelperFailed: it did not get there, with the end of what it said.
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
        raise HelperFailed("\n".join(["the card could not be measured:", *done.stderr.splitlines()[-8:]]))
    found: Results = json.loads(output.read_text())
    return found


def _alone(results: Results) -> float:
    """Images a second of our export by onnxruntime, without Triton, at its best batch size."""
    rates: dict[str, dict[str, float]] = results["card"]["images_per_second"]
    return max(found["median"] for name, found in rates.items() if name.startswith("onnxruntime"))


def targets(results: Results) -> list[Target]:
    """How much of the card reaches the tower, and how much of the tower reaches Triton's clients."""
    card = results["card"]
    limit = card["matmul_tflops"][card["precision"]]["median"]
    alone = _alone(results)
    served = best(results, sweep(results, "triton vision"))
    return [
        Target(
            f"vision tower by onnxruntime / the card's {card['precision'].upper()} matrix product", "FLOP/s",
            spread([alone * card["gflop_per_image"] / 1e3 / limit]), 0.5, None,
        ),
        Target(
            "vision model through Triton / vision tower by onnxruntime", "images/s",
            ratio(served, [alone] * len(served)), 0.9, None,
        ),
    ]  # fmt: skip


def cores(results: Results) -> Spread | None:
    """CPU cores that the gateway needs for 1,000 images a second: its CPU ms an image, at the best of its levels."""
    levels = [cpu(results, name, "gateway") for name in sweep(results, "http image base64")]
    return spread([min(seconds) * 1e3 for seconds in zip(*levels, strict=True)])


def markdown(results: Results) -> str:
    """The part of the summary that is about the card."""
    card = results["card"]
    rows = [
        [name, f"{found['median']:.4g} ({found['low']:.4g}-{found['high']:.4g})"]
        for name, found in card["images_per_second"].items()
    ]
    products = ", ".join(f"{half} {found['median']:.4g} TFLOP/s" for half, found in card["matmul_tflops"].items())
    needed = cores(results)
    lines = [
        f"{card['device']}. Matrix products: {products}. {card['gflop_per_image']:.4g} GFLOP an image.",
        table(["vision tower alone", "images/s"], rows),
    ]
    if needed:
        lines.append(f"The gateway's CPU, in cores for 1,000 images/s: {needed:.2f}.")
    return "\n\n".join(lines)
