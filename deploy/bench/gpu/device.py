"""What the experiments with torch share: rates, the device's limit, inputs, torch's tower, and profiles by kernel.

Weights are random, from a fixed seed, so every process has the same. All of it also runs on a CPU, for the tests.
"""

import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, Final, Literal

import numpy as np
import torch  # type: ignore[import-not-found,unused-ignore]  # in the exporter's environment
import torch.nn.functional as F  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor  # type: ignore[import-not-found,unused-ignore]

from deploy.bench.gpu.setting import Device, Setting
from deploy.bench.harness import flops, gpus, processes
from deploy.bench.harness.spread import spread
from export.errors import TargetError
from export.graph.towers import VisionTower
from export.parity import compare
from export.variants import Variant, find_variant
from export.weights.checkpoint import build_tower

Half = Literal["fp16", "bf16"]
Run = Callable[[], None]
"""Embeds one batch, and returns when the embeddings are computed."""

DTYPES: Final[Mapping[Half, Any]] = {"fp16": torch.float16, "bf16": torch.bfloat16}
_SEED: Final = 0
# Rows and columns of the product that is the device's limit.
_MATMUL_SIZE: Final[Mapping[Device, int]] = {"cuda": 8192, "cpu": 256}
_QUEUED: Final = 8  # products that are queued one after another, so that launching does not count
_PACKAGES: Final = ("torch", "timm", "open_clip_torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")


def facts(setting: Setting) -> dict[str, Any]:
    """Describe the device, its driver, the versions and the sizes.

    Raises:
        TargetError: torch cannot use the GPU.
    """
    if setting.device == "cuda" and not torch.cuda.is_available():
        raise TargetError("no NVIDIA GPU that torch can use; --device cpu tries the queue, and measures nothing of use")
    torch.backends.cudnn.allow_tf32 = False  # The reference is FP32.
    variant = find_variant(setting.variant)
    return {
        "device": torch.cuda.get_device_name() if setting.device == "cuda" else platform.machine(),
        "compute_capability": ".".join(map(str, torch.cuda.get_device_capability()))
        if setting.device == "cuda"
        else "",
        "driver": _driver() if setting.device == "cuda" else "",
        "cuda": torch.version.cuda or "none",
        "versions": {name: version for name in _PACKAGES if (version := _version(name))}
        | {"python": platform.python_version(), "commit": processes.commit()},
        "weights": f"random, seed {_SEED}",
        "batch": setting.batch,
        "gflop_per_image": flops.vision_gflop(variant.name, variant.image_size),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _driver() -> str:
    return next((gpu["driver_version"] for gpu in gpus.describe()), "unknown")


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


def matmul_tflops(half: Half, device: Device, seconds: float) -> float:
    """Measure the product of two square matrices by torch, in 10^12 operations per second: the device's limit."""
    size = _MATMUL_SIZE[device]
    a, b = torch.randn(2, size, size, device=device).to(DTYPES[half])
    out = torch.empty_like(a)

    def run() -> None:
        for _ in range(_QUEUED):
            torch.mm(a, b, out=out)
        synchronize(device)

    return rate(run, _QUEUED, seconds) * 2 * size**3 / 1e12


def random_tower(variant: Variant) -> VisionTower:
    """Build the vision tower in FP32 on the CPU, with the weights that every experiment uses."""
    torch.manual_seed(_SEED)
    return VisionTower(build_tower(variant, "vision"))


def random_images(variant: Variant, count: int, device: Device) -> Tensor:
    """Return images uint8 [N, H, W, 3], the same in every process."""
    drawn = np.random.default_rng(_SEED).integers(0, 256, (count, *variant.input_shapes("vision")[-1]), np.uint8)
    return torch.from_numpy(drawn).to(device)


def expected_embeddings(variant: Variant, images: Tensor, device: Device) -> Any:
    """Embed with torch in FP32 on the device. Return float32 [N, D] in numpy."""
    tower = random_tower(variant).to(device)
    with torch.inference_mode():
        return torch.cat([tower(image[None]) for image in images]).cpu().numpy()


def cosine_loss(expected: Any, embeddings: Tensor) -> float:
    """Return 1 - the smallest cosine of two arrays of embeddings [N, D].

    Raises:
        ParityError: `embeddings` are not finite and of unit length.
    """
    return 1 - compare(expected, embeddings.float().cpu().numpy()).min_cosine


def torch_embed(tower: VisionTower, half: Half, device: Device) -> Callable[[Tensor], Tensor]:
    """Convert the tower to `half`, in place, and return image uint8 [N, H, W, 3] -> embedding FP32 [N, D]."""
    visual, dtype = tower.visual.to(device, DTYPES[half]), DTYPES[half]

    def embed(image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).to(dtype)
        return F.normalize(visual((pixels / 255 - 0.5) / 0.5).float(), dim=-1)

    return embed


def kernel_ms(run: Run, device: Device, calls: int = 3) -> dict[str, float]:
    """Profile a run by kernel, and return ms per call in descending order. On a CPU, the kernels are torch's own."""
    activity = torch.profiler.ProfilerActivity.CUDA if device == "cuda" else torch.profiler.ProfilerActivity.CPU
    run()
    with torch.profiler.profile(activities=[activity]) as profile:
        for _ in range(calls):
            run()
    field = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    found = {event.key: getattr(event, field) / 1e3 / calls for event in profile.key_averages()}
    return dict(sorted(((key, ms) for key, ms in found.items() if ms > 0), key=lambda item: -item[1]))


def summary(values: list[float]) -> dict[str, float]:
    """Return median, lowest and highest of the rounds."""
    found = spread(values)
    assert found is not None  # Every round has a value.
    return {"median": found.median, "low": found.low, "high": found.high}


def alternate(
    runs: Mapping[str, tuple[Run, int]], setting: Setting, half: Half, report: Callable[[dict[str, Any]], None]
) -> None:
    """Measure all runs in rounds, every second round in reverse, with the device's limit at the start of each round.

    Args:
        runs: by name, with the images that each embeds per call.
        setting: rounds, seconds, variant and device.
        half: precision of the limit.
        report: receives all figures so far after each round: the limit, and images/s and the part of the limit by name.
    """
    gflop = flops.vision_gflop(setting.variant, find_variant(setting.variant).image_size) or float("nan")
    limits: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(setting.rounds):
        limits.append(matmul_tflops(half, setting.device, setting.seconds))
        for name in list(runs)[:: 1 if number % 2 == 0 else -1]:
            run, items = runs[name]
            rates[name].append(rate(run, items, setting.seconds))
        parts = {
            name: summary([value * gflop / 1e3 / limit for value, limit in zip(each, limits, strict=True)])
            for name, each in rates.items()
        }
        report({
            "rounds": number + 1,
            "matmul_tflops": summary(limits),
            "images_per_second": {name: summary(each) for name, each in rates.items()},
            "of_the_limit": parts,
        })  # fmt: skip
