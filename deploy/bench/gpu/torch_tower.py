"""Experiment `torch`: the vision tower by torch, eager and compiled, in FP16 and BF16."""

import sys
from typing import Any

import torch  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor  # type: ignore[import-not-found,unused-ignore]

from deploy.bench.gpu import device
from deploy.bench.gpu import setting as settings
from deploy.bench.gpu.device import Half, Run
from deploy.bench.gpu.setting import Setting
from deploy.bench.gpu.steps import Record
from export.variants import find_variant


class TorchRun:
    """A run of `embed` that returns when the device has finished. The results are in `embeddings`."""

    def __init__(self, embed: Any, images: Tensor, on: settings.Device) -> None:
        self._embed, self._images, self._device = embed, images, on

    def __call__(self) -> None:
        with torch.inference_mode():
            self.embeddings = self._embed(self._images)
        device.synchronize(self._device)


def measure(setting: Setting, record: Record) -> None:
    """Measure torch. Compiling takes a minute, so it comes last."""
    variant = find_variant(setting.variant)
    images = device.random_images(variant, setting.batch, setting.device)
    expected = device.expected_embeddings(variant, images, setting.device)
    runs: dict[str, tuple[Run, int]] = {}
    halves: tuple[Half, ...] = ("fp16", "bf16")
    embeds = {half: device.torch_embed(device.random_tower(variant), half, setting.device) for half in halves}
    # For a CPU, the compiler would write C++, and compile it for a minute.
    backend = "inductor" if setting.device == "cuda" else "eager"
    for way in ("eager", "compiled"):
        for half, embed in embeds.items():
            name = f"torch {way} {half}"
            with record.step(name) as figures:
                compiled = embed if way == "eager" else torch.compile(embed, backend=backend)
                run = TorchRun(compiled, images, setting.device)
                run()
                figures["one_minus_cosine"] = device.cosine_loss(expected, run.embeddings)
                runs[name] = run, setting.batch
        with record.step(f"rates, {way}"):
            device.alternate(runs, setting, "fp16", lambda found: record.update(**found))


if __name__ == "__main__":
    sys.exit(settings.main(measure, device.facts))
