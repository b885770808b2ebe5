"""Measure the vision tower on an NVIDIA GPU: our export by onnxruntime's CUDA provider, beside torch.

    python -m deploy.bench.gpu.tower [VARIANT] --repository DIR [--precision fp16|bf16]

It needs a Python with the extra `gpu` (onnxruntime-gpu and a CUDA build of torch), and no network. Our export is the
newest in the repository. Torch's weights are random, which changes no speed. Each round measures:

    matmul          the GPU's limit in each precision: a large matrix product by torch
    torch eager     the tower in torch with its weights in FP16 or BF16
    torch compiled  the same by torch.compile, at the largest batch
    onnxruntime     the graph that `pe-export` made and proved against torch FP32, with images and embeddings in the
                    GPU's memory

All of it also runs on a CPU (`--device cpu`), for the tests. Those figures mean nothing.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime
import torch  # type: ignore[import-not-found,unused-ignore]  # in the exporter's environment
import torch.nn.functional as F  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor  # type: ignore[import-not-found,unused-ignore]

from deploy.bench.harness import flops
from deploy.bench.harness.spread import spread
from export.errors import ExportError, TargetError
from export.files import readable_size
from export.graph.spec import Precision
from export.graph.towers import VisionTower
from export.repository.certificate import Certificate
from export.repository.store import Repository
from export.variants import DEFAULT_VARIANT, Variant, find_variant
from export.weights.checkpoint import build_tower

Device = Literal["cuda", "cpu"]
Half = Literal["fp16", "bf16"]
Run = Callable[[], None]
"""Embeds one batch, and returns when the embeddings are computed."""

_DTYPES: Final[Mapping[Half, Any]] = {"fp16": torch.float16, "bf16": torch.bfloat16}
_PROVIDERS: Final[Mapping[Device, str]] = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
# Rows and columns of the products that are tried for the GPU's limit. GPUs differ in which is the fastest.
_MATMUL_SIZES: Final[Mapping[Device, tuple[int, ...]]] = {"cuda": (4096, 8192, 16384), "cpu": (256,)}


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 1.0  # of one measurement, at least
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    compiled: bool = True  # torch.compile too, which takes a minute


def synchronize(device: Device) -> None:
    """Wait until the GPU has finished its queue."""
    if device == "cuda":
        torch.cuda.synchronize()


def rate(run: Run, items: int, seconds: float) -> float:
    """Measure items/s of a function that does `items` per call. The first call allocates memory and does not count."""
    run()
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds or not count:
        run()
        count += items
    return count / spent


def matmul_runs(half: Half, device: Device) -> dict[int, Run]:
    """Build products of two square matrices, by their size: 2 x size^3 operations each."""

    def multiply(size: int) -> Run:
        a, b = torch.randn(2, size, size, device=device).to(_DTYPES[half])
        out = torch.empty_like(a)

        def run() -> None:
            for _ in range(8):  # queued one after another, so that launching does not count
                torch.mm(a, b, out=out)
            synchronize(device)

        return run

    return {size: multiply(size) for size in _MATMUL_SIZES[device]}


def matmul_tflops(half: Half, device: Device, seconds: float) -> float:
    """Return the best rate of any size, in 10^12 operations per second."""
    return max(rate(run, 8, seconds) * 2 * size**3 / 1e12 for size, run in matmul_runs(half, device).items())


def torch_embed(tower: VisionTower, half: Half, device: Device) -> Callable[[Tensor], Tensor]:
    """Convert the tower to `half`, in place, and return image uint8 [N, H, W, 3] -> embedding FP32 [N, D]."""
    visual, dtype = tower.visual.to(device, _DTYPES[half]), _DTYPES[half]

    def embed(image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).to(dtype)
        return F.normalize(visual((pixels / 255 - 0.5) / 0.5).float(), dim=-1)

    return embed


def torch_run(embed: Callable[[Tensor], Tensor], images: Tensor, device: Device) -> Run:
    """Build a call that returns when the device has finished."""

    def run() -> None:
        with torch.inference_mode():
            embed(images)
        synchronize(device)

    return run


def onnxruntime_session(path: Path, device: Device) -> Any:
    """Load the graph on the device.

    Raises:
        TargetError: it would run on another device, which onnxruntime does without an error.
    """
    if device == "cuda":
        onnxruntime.preload_dlls()  # CUDA and cuDNN from torch's wheels
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
    """A run on images in the device's memory. The results are in `embeddings`."""

    def __init__(self, session: Any, images: Tensor, embed_dim: int, device: Device) -> None:
        # The binding knows only the addresses, so this object keeps the tensors alive.
        self.images = images
        self.embeddings = torch.empty((len(images), embed_dim), dtype=torch.float32, device=device)
        self._session, self._binding = session, session.io_binding()
        for bind, value, tensor, dtype in (
            (self._binding.bind_input, session.get_inputs()[0], self.images, np.uint8),
            (self._binding.bind_output, session.get_outputs()[0], self.embeddings, np.float32),
        ):
            bind(value.name, device, 0, dtype, tuple(tensor.shape), tensor.data_ptr())

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)  # returns when the GPU has finished


def published(variant: Variant, precision: Precision, repository: Path) -> tuple[Path, Certificate]:
    """Return the graph and certificate of the newest vision tower in a repository.

    Raises:
        ExportError: it has another engine or precision, or there is none.
    """
    models = Repository(repository)
    model = variant.model_name("vision")
    version = models.version_directory(model, models.latest_version(model))
    certificate = Certificate.read(version)
    made = (certificate.inputs.engine, certificate.inputs.precision)
    if made != ("onnx", precision):
        raise TargetError(f"{version} is {' in '.join(made)}, not onnx in {precision}")
    return version / certificate.artifact, certificate


def measure(variant: Variant, precision: Half, device: Device, effort: Effort, repository: Path) -> dict[str, Any]:
    """Measure everything, and return it as JSON values. Rates are the median, lowest and highest of the rounds.

    Raises:
        ExportError: the repository has no such export, or there is no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise TargetError(
            "no NVIDIA GPU that torch can use; --device cpu tries the script, and measures nothing of use"
        )
    graph, certificate = published(variant, precision, repository)
    runs = _runs(variant, precision, device, effort, onnxruntime_session(graph, device))
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
    variant: Variant, precision: Half, device: Device, effort: Effort, session: Any
) -> dict[str, tuple[Run, int]]:
    """Return the runs of a round by name, and how many images each embeds per call."""
    shape = variant.input_shapes("vision")[0]
    images = {n: torch.randint(0, 256, (n, *shape), dtype=torch.uint8, device=device) for n in effort.batch_sizes}
    runs: dict[str, tuple[Run, int]] = {}
    for n, batch in images.items():
        runs[f"onnxruntime {precision}, batch {n}"] = OnnxRuntimeRun(session, batch, variant.embed_dim, device), n
    for half in _DTYPES:
        embed = torch_embed(VisionTower(build_tower(variant, "vision")), half, device)
        for n, batch in images.items():
            runs[f"torch eager {half}, batch {n}"] = torch_run(embed, batch, device), n
        if effort.compiled:
            n = max(images)
            runs[f"torch compiled {half}, batch {n}"] = torch_run(torch.compile(embed), images[n], device), n
    return runs


def _summary(values: Sequence[float]) -> dict[str, float]:
    found = spread(values)
    assert found is not None  # Every round has a value.
    return {"median": found.median, "low": found.low, "high": found.high}


def markdown(results: Mapping[str, Any]) -> str:
    """Write the results as Markdown, with the fraction of the GPU's limit that each rate is."""
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
    """Measure, and print a table.

    Returns:
        0: measured. 1: something failed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m deploy.bench.gpu.tower", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("variant", nargs="?", default=DEFAULT_VARIANT, metavar="VARIANT")
    parser.add_argument("--precision", choices=tuple(_DTYPES), default="fp16", help="of our export")
    parser.add_argument("--device", choices=tuple(_PROVIDERS), default="cuda")
    parser.add_argument("--repository", type=Path, metavar="DIR", required=True, help="with our export")
    parser.add_argument("--batch-sizes", type=_numbers, default=Effort.batch_sizes, metavar="1,8,32")
    parser.add_argument("--rounds", type=int, default=Effort.rounds)
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="of one measurement, at least")
    parser.add_argument("--no-compile", action="store_true", help="do not measure torch.compile")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    effort = Effort(options.rounds, options.seconds, options.batch_sizes, not options.no_compile)
    try:
        variant = find_variant(options.variant)
        results = measure(variant, options.precision, options.device, effort, options.repository)
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
