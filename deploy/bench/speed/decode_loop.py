"""The least that preparing an image can cost: Pillow, in one thread, in a worker process."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deploy.bench.harness.worker import serve


def measure(fields: dict[str, Any]) -> dict[str, Any]:
    """Decode `files` and squash them to `size` [H, W] for `seconds`. Return CPU seconds per image and images/s."""
    files = [Path(file).read_bytes() for file in fields["files"]]
    height, width = fields["size"]
    count = 0
    cpu, begun = time.process_time(), time.perf_counter()
    while time.perf_counter() < begun + fields["seconds"]:
        for data in files:
            # The files are RGB, so nothing has to be converted.
            np.asarray(Image.open(io.BytesIO(data)).resize((width, height), Image.Resampling.BILINEAR))
            count += 1
    return {
        "cpu_s": (time.process_time() - cpu) / count,
        "items_per_s": count / (time.perf_counter() - begun),
        "items": count,
    }


if __name__ == "__main__":
    serve(measure)
