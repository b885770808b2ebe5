"""The vision tower on an NVIDIA GPU: our export through onnxruntime's CUDA provider, beside torch on the same card.

    python -m deploy.benchmark.gpu [VARIANT] [--precision fp16|bf16] [--repository DIR | --checkpoint FILE]

Run by a Python with the extra `gpu` (onnxruntime-gpu and a CUDA build of torch); nothing is fetched. Our export is the
newest in the repository, or else made for this, from the checkpoint or with random weights. Torch's weights are the
checkpoint's, or random: that changes no speed. What is measured, in turn, several times over:

    matmul          what the card does at best in each precision, a large product by torch
    torch eager     the tower in torch with its weights in FP16 or BF16
    torch compiled  the same by torch.compile, at the largest batch
    onnxruntime     what `pe-export` made and proved against torch FP32, images and embeddings in the card's memory

All of it also runs on a CPU (`--device cpu`), which is how its tests run: those figures mean nothing.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch  # type: ignore[import-not-found,unused-ignore]  # in the exporter's environment
import torch.nn.functional as F  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor  # type: ignore[import-not-found,unused-ignore]

from deploy.benchmark import flops
from deploy.benchmark.spread import spread
from export import pipeline
from export.engines import ENGINES
from export.errors import ExportError, TargetError
from export.files import readable_size
from export.graph.spec import Precision
from export.graph.towers import VisionTower
from export.progress import Progress
from export.repository.certificate import Certificate
from export.repository.store import Repository
from export.variants import DEFAULT_VARIANT, Variant, find_variant
from export.weights import random_checkpoint
from export.weights.checkpoint import build_tower, load_tower, open_checkpoint

Device = Literal["cuda", "cpu"]
Half = Literal["fp16", "bf16"]
Run = Callable[[], None]
"""Embeds one batch, and returns when its embeddings are there."""

_DTYPES: Mapping[Half, Any] = {"fp16": torch.float16, "bf16": torch.bfloat16}
_PROVIDERS: Mapping[Device, str] = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
# Rows and columns of the products that are tried for the card's limit: which of them is the fastest differs by card.
_MATMUL_SIZES: Mapping[Device, tuple[int, ...]] = {"cuda": (4096, 8192, 16384), "cpu": (256,)}


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 1.0
    """Of one measurement, at least."""
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    compiled: bool = True
    """Whether torch.compile, which takes a minute, has its turn as well."""


def synchronize(device: Device) -> None:
    """Wait until the card has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def rate(run: Run, items: int, seconds: float) -> float:
    """Items a second, of a function that does `items` at a time; the first time, which allocates, does not count."""
    run()
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds or not count:
        run()
        count += items
    return count / spent


def matmul_runs(half: Half, device: Device) -> dict[int, Run]:
    """Products of two square matrices, by their size: 2 x size^3 operations each."""

    def multiply(size: int) -> Run:
        a, b = torch.randn(2, size, size, device=device).to(_DTYPES[half])
        out = torch.empty_like(a)

        def run() -> None:
            for _ in range(8):  # one after another, so that launching costs nothing
                torch.mm(a, b, out=out)
            synchronize(device)

        return run

    return {size: multiply(size) for size in _MATMUL_SIZES[device]}


def matmul_tflops(half: Half, device: Device, seconds: float) -> float:
    """The best rate of any size, in 10^12 operations a second."""
    return max(rate(run, 8, seconds) * 2 * size**3 / 1e12 for size, run in matmul_runs(half, device).items())


def torch_embed(tower: VisionTower, half: Half, device: Device) -> Callable[[Tensor], Tensor]:
    """image uint8 [N, H, W, 3] -> embedding FP32 [N, D], all weights in `half`: the tower is converted in place."""
    visual, dtype = tower.visual.to(device, _DTYPES[half]), _DTYPES[half]

    def embed(image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).to(dtype)
        return F.normalize(visual((pixels / 255 - 0.5) / 0.5).float(), dim=-1)

    return embed


def torch_run(embed: Callable[[Tensor], Tensor], images: Tensor, device: Device) -> Run:
    """One call that returns when the device is done."""

    def run() -> None:
        with torch.inference_mode():
            embed(images)
        synchronize(device)

    return run


def onnxruntime_session(path: Path, device: Device) -> Any:
    """A session on the card; TargetError if it would run anywhere else, which onnxruntime does without a word."""
    if device == "cuda":
        onnxruntime.preload_dlls()  # CUDA and cuDNN of torch's own wheels
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    provider = _PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise TargetError(f"this onnxruntime has no {provider}: install onnxruntime-gpu in place of onnxruntime")
    session = onnxruntime.InferenceSession(path, options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise TargetError(f"onnxruntime does not use {provider} here: its messages are above")
    return session


class OnnxRuntimeRun:
    """A run on images that lie in the device's memory already; `embeddings` is where the answers appear."""

    def __init__(self, session: Any, images: Tensor, embed_dim: int, device: Device) -> None:
        # Both tensors are kept: the binding knows their addresses only.
        self.images = images
        self.embeddings = torch.empty((len(images), embed_dim), dtype=torch.float32, device=device)
        self._session, self._binding = session, session.io_binding()
        for bind, value, tensor, dtype in (
            (self._binding.bind_input, session.get_inputs()[0], self.images, np.uint8),
            (self._binding.bind_output, session.get_outputs()[0], self.embeddings, np.float32),
        ):
            bind(value.name, device, 0, dtype, tuple(tensor.shape), tensor.data_ptr())

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)  # returns when the card is done


def export(variant: Variant, precision: Precision, checkpoint: Path, repository: Path) -> tuple[Path, Certificate]:
    """The vision tower's graph, by the way that every export takes, and its certificate."""
    order = pipeline.ExportRequest(
        variant=variant,
        checkpoint=checkpoint,
        checkpoint_source=checkpoint.name,
        checkpoint_sha256="",
        repository=repository,
        command=f"pe-export {variant.name} --precision {precision} --towers vision",
        max_batch_size=variant.max_batch_size,
        engine=ENGINES["onnx"],
        precision=precision,
        towers=("vision",),
    )
    pipeline.run(order, Progress(sys.stderr))
    version = Repository(repository).version_directory(variant.model_name("vision"), 1)
    certificate = Certificate.read(version)
    return version / certificate.artifact, certificate


def published(variant: Variant, precision: Precision, repository: Path) -> tuple[Path, Certificate]:
    """The newest vision tower in a repository, and its certificate; an ExportError if it is not what was asked for."""
    models = Repository(repository)
    model = variant.model_name("vision")
    version = models.version_directory(model, models.latest_version(model))
    certificate = Certificate.read(version)
    made = (certificate.inputs.engine, certificate.inputs.precision)
    if made != ("onnx", precision):
        raise TargetError(f"{version} is {' in '.join(made)}, not onnx in {precision}")
    return version / certificate.artifact, certificate


def measure(
    variant: Variant,
    precision: Half,
    device: Device,
    effort: Effort,
    checkpoint: Path | None = None,
    repository: Path | None = None,
) -> dict[str, Any]:
    """Everything, as a table for JSON: rates are medians over rounds, with the lowest and highest.

    Raises an ExportError: of an export that fails its parity, or where there is no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise TargetError(
            "no NVIDIA GPU that torch can use; --device cpu tries the script, and measures nothing of use"
        )
    with tempfile.TemporaryDirectory(prefix="pe-bench-gpu-") as name:
        folder = Path(name)
        if repository is not None:
            graph, certificate = published(variant, precision, repository)
        else:
            weights = checkpoint or folder / "random.safetensors"
            if checkpoint is None:
                random_checkpoint.write(variant.name, weights)
            graph, certificate = export(variant, precision, weights, folder / "models")
        session = onnxruntime_session(graph, device)
        runs = _runs(variant, precision, device, effort, checkpoint, session)
    rates: dict[str, list[float]] = {key: [] for key in runs}
    limits: dict[Half, list[float]] = {half: [] for half in _DTYPES}
    for _ in range(effort.rounds):
        for half, found in limits.items():
            found.append(matmul_tflops(half, device, effort.seconds / len(_MATMUL_SIZES[device])))
        for key, (run, batch) in runs.items():
            rates[key].append(rate(run, batch, effort.seconds))
    return {
        "variant": variant.name,
        "precision": precision,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "weights": certificate.checkpoint_source,
        "versions": {name: metadata.version(name) for name in ("torch", "timm")}
        | {"onnxruntime": onnxruntime.__version__, "cuda": torch.version.cuda or "none"},
        "effort": asdict(effort),
        "gflop_per_image": flops.vision_gflop(variant.name, variant.image_size),
        "parity": {"runtime": certificate.runtime, **(asdict(certificate.parity) if certificate.parity else {})},
        "matmul_tflops": {half: _summary(found) for half, found in limits.items()},
        "images_per_second": {key: _summary(found) for key, found in rates.items()},
    }


def _runs(
    variant: Variant, precision: Half, device: Device, effort: Effort, checkpoint: Path | None, session: Any
) -> dict[str, tuple[Run, int]]:
    """What takes turns, by its name, and how many images it embeds at a time."""
    shape = variant.input_shape("vision")
    images = {n: torch.randint(0, 256, (n, *shape), dtype=torch.uint8, device=device) for n in effort.batch_sizes}
    runs: dict[str, tuple[Run, int]] = {}
    for n, batch in images.items():
        runs[f"onnxruntime {precision}, batch {n}"] = OnnxRuntimeRun(session, batch, variant.embed_dim, device), n
    for half in _DTYPES:
        embed = torch_embed(_tower(variant, checkpoint), half, device)
        for n, batch in images.items():
            runs[f"torch eager {half}, batch {n}"] = torch_run(embed, batch, device), n
        if effort.compiled:
            n = max(images)
            runs[f"torch compiled {half}, batch {n}"] = torch_run(torch.compile(embed), images[n], device), n
    return runs


def _tower(variant: Variant, checkpoint: Path | None) -> VisionTower:
    if checkpoint is None:
        return VisionTower(build_tower(variant, "vision"))
    tower = load_tower(variant, "vision", open_checkpoint(checkpoint))
    assert isinstance(tower, VisionTower)
    return tower


def _summary(values: Sequence[float]) -> dict[str, float]:
    found = spread(values)
    assert found is not None  # every round gave one
    return {"median": found.median, "low": found.low, "high": found.high}


def markdown(results: Mapping[str, Any]) -> str:
    """The results as a table for a person, with what fraction of the card's limit each rate is."""
    gflop, limits = results["gflop_per_image"], results["matmul_tflops"]
    best = max(found["median"] for key, found in results["images_per_second"].items() if key.startswith("torch"))
    parity = results["parity"]
    products = ", ".join(f"{half} {found['median']:.4g} TFLOP/s" for half, found in limits.items())
    lines = [
        f"{results['variant']} vision, weights of {results['weights']}, on {results['device']}: "
        f"{gflop:.4g} GFLOP an image; minimum cosine to torch FP32 {parity['min_cosine']:.7f} ({parity['runtime']}).",
        f"Matrix products: {products}.",
        "",
        "| what | images/s | of the matrix rate | of torch's best |",
        "| --- | ---: | ---: | ---: |",
    ]
    for key, found in results["images_per_second"].items():
        half = next(half for half in limits if half in key)
        part = found["median"] * gflop / 1e3 / limits[half]["median"]
        rates = f"{found['median']:.4g} ({found['low']:.4g}-{found['high']:.4g})"
        lines.append(f"| {key} | {rates} | {part:.2f} | {found['median'] / best:.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured. 1: could not."""
    parser = argparse.ArgumentParser(prog="python -m deploy.benchmark.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("variant", nargs="?", default=DEFAULT_VARIANT, metavar="VARIANT")
    parser.add_argument("--precision", choices=tuple(_DTYPES), default="fp16", help="of our export")
    parser.add_argument("--device", choices=tuple(_PROVIDERS), default="cuda")
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--repository", type=Path, metavar="DIR", help="our export, in place of one made for this")
    given.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights, in place of random ones")
    parser.add_argument("--batch-sizes", type=_numbers, default=Effort.batch_sizes, metavar="1,8,32")
    parser.add_argument("--rounds", type=int, default=Effort.rounds)
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="of one measurement, at least")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the figures go as JSON")
    options = parser.parse_args(arguments)
    effort = Effort(options.rounds, options.seconds, options.batch_sizes, not options.no_compile)
    try:
        variant = find_variant(options.variant)
        results = measure(variant, options.precision, options.device, effort, options.checkpoint, options.repository)
    except ExportError as error:
        sys.stderr.write(f"gpu: {error}\n")
        return 1
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")
        sys.stderr.write(f"{options.output}  {readable_size(options.output.stat().st_size)}\n")
    sys.stdout.write(markdown(results))
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


if __name__ == "__main__":
    raise SystemExit(main())
