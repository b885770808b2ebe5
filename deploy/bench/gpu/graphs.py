"""Experiment `graphs`: export all graphs and models from random weights, side by side, into the folder of the queue.

The graphs are too large to carry to the machine. torch's exporter uses one core, so each graph has a
process of its own. The other experiments take what is there.
"""

import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from deploy.bench.gpu import setting as settings
from deploy.bench.gpu.candidates import GRAPHS, chosen
from deploy.bench.gpu.setting import Setting
from deploy.bench.gpu.steps import Record
from deploy.embedded.installation import CHECKOUT
from export.engines import ENGINES
from export.variants import TOWERS, find_variant
from gateway.cpus import usable_cpus

TENSORRT: Final = "tensorrt"
"""The engine whose form of the graph TensorRT compiles. `GRAPHS` are forms for onnxruntime."""
_LINES: Final = 8  # of a command's output, in an error message
# torch, one tower in FP32, and its copy in half precision: L14-336 needs about 3 GB.
_PROCESSES: Final = max(1, usable_cpus() // 2)


def rtx_variants(variant: str) -> tuple[str, ...]:
    """Return the variants that TensorRT for RTX compiles. A smaller one comes first: it shows sooner what works."""
    return tuple(dict.fromkeys(("PE-Core-B16-224", variant))) if variant.startswith("PE-Core-") else (variant,)


def export_random(variant: str, form: str, path: Path) -> dict[str, Any]:
    """Export the vision tower in FP16 with the random weights of `device`. Runs in a process of its own."""
    import torch  # type: ignore[import-not-found,unused-ignore]

    from deploy.bench.gpu import device
    from export.graph import onnx_graph
    from export.graph.forms import FORMS
    from export.graph.typed_towers import typed_tower
    from export.repository.triton_config import INPUTS

    torch.set_num_threads(1)
    _quiet()
    row, unfinished = find_variant(variant), path.parent.with_name(f"{path.parent.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    chosen_form = FORMS[ENGINES[TENSORRT].form] if form == TENSORRT else GRAPHS[form]
    tower = typed_tower(device.random_tower(row), "fp16", chosen_form)
    images = device.random_images(row, 2, "cpu")
    size = onnx_graph.export_graph(tower, INPUTS["vision"][0], images, unfinished / path.name).size
    unfinished.rename(path.parent)  # A graph whose export was cut off is not measured.
    return {"bytes": size}


def export_models(variant: str, repository: Path) -> dict[str, Any]:
    """Export both towers in FP16 by `pe-export`, side by side, into the repository that the stack serves.

    Raises:
        RuntimeError: an export failed. The message holds the end of its output.
    """
    from export.weights import random_checkpoint

    checkpoint = repository.with_name(f"{variant}.safetensors")
    random_checkpoint.write(variant, checkpoint)
    # A repository has one writer at a time, so each tower gets a repository of its own.
    made = {tower: repository.with_name(f"{repository.name}.{tower}") for tower in TOWERS}
    command = [sys.executable, "-m", "export.cli", variant, "--checkpoint", str(checkpoint), "--precision", "fp16"]
    running = [
        subprocess.Popen(
            [*command, "--towers", tower, "--repository", str(folder)],
            cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for tower, folder in made.items()
    ]  # fmt: skip
    said = [process.communicate()[1].splitlines() for process in running]
    if failed := [lines for process, lines in zip(running, said, strict=True) if process.returncode != 0]:
        raise RuntimeError("\n".join(failed[0][-_LINES:]))
    checkpoint.unlink()
    unfinished = repository.with_name(f"{repository.name}.unfinished")
    unfinished.mkdir(exist_ok=True)
    for folder in made.values():
        for model in folder.glob(f"{variant}-*"):
            model.rename(unfinished / model.name)
    unfinished.rename(repository)
    return {"exported": [lines[-1] for lines in said]}


def measure(setting: Setting, record: Record) -> None:
    """Export all graphs that the other experiments measure."""
    wanted = [(variant, TENSORRT) for variant in rtx_variants(setting.variant)]
    wanted += [(setting.variant, graph) for graph in dict.fromkeys(c.graph for c in chosen(setting.forms).values())]
    setting.work.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, Callable[[], dict[str, Any]]] = {}
    if not setting.models.exists():  # It takes longest, so it begins first.
        jobs[f"{setting.variant}, both towers by pe-export"] = partial(export_models, setting.variant, setting.models)
    for variant, form in wanted:
        path = setting.graph(variant, form)
        if not path.exists():
            jobs[f"{variant}, {form}"] = partial(export_random, variant, form, path)
    record.update(processes=_PROCESSES)
    begun = time.monotonic()
    with ProcessPoolExecutor(_PROCESSES, get_context("spawn")) as pool:
        running: dict[Future[dict[str, Any]], str] = {pool.submit(_timed, job): name for name, job in jobs.items()}
        for done in as_completed(running):
            with record.step(running[done]) as figures:
                figures |= done.result() | {"ended_after_s": time.monotonic() - begun}


def _timed(job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    begun = time.monotonic()
    return job() | {"export_s": time.monotonic() - begun}


def _quiet() -> None:
    for name in ("onnxscript", "onnx_ir"):  # They log every node that they do not change.
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    from deploy.bench.gpu import device

    sys.exit(settings.main(measure, device.facts))
