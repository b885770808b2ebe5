"""The least that preparing a picture can cost: Pillow, in one thread, in a process of its own."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deploy.bench.harness.worker import answer_forever


def measure(question: dict[str, Any]) -> dict[str, Any]:
    """Decodes and squashes ``files`` to ``size`` [H, W] for ``seconds``: CPU seconds and wall seconds an image."""
    files = [Path(file).read_bytes() for file in question["files"]]
    height, width = question["size"]
    count = 0
    cpu, begun = time.process_time(), time.perf_counter()
    while time.perf_counter() < begun + question["seconds"]:
        for data in files:
            # They are RGB already, so no more is needed than this.
            np.asarray(Image.open(io.BytesIO(data)).resize((width, height), Image.Resampling.BILINEAR))
            count += 1
    return {
        "cpu_s": (time.process_time() - cpu) / count,
        "items_per_s": count / (time.perf_counter() - begun),
        "items": count,
    }


if __name__ == "__main__":
    answer_forever(measure)
