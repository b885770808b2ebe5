"""Measure the memory of all processes at capacity for a long time."""

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from deploy.bench.harness import client, processes, worker
from deploy.bench.harness.figures import Figure, at_most, exactly, observed
from deploy.bench.harness.stub_model import BATCH, SECONDS
from deploy.bench.resilience.testbed import Testbed

_RATE: Final = 0.8 * BATCH / SECONDS / 2  # images per second, and texts per second: capacity with bursts
_SAMPLES: Final = 60
_WARM: Final = 0.2  # of the time, which does not count


def measure(testbed: Testbed) -> list[Figure]:
    """Send images and texts to a gateway of its own."""
    seconds = testbed.effort.soak
    images = [testbed.directory / f"soak-{i}.json" for i in range(8)]
    for i, body in enumerate(images):
        body.write_text(json.dumps({"image": client.grey(30 * i, (640, 480))}))
    text = testbed.directory / "soak-text.json"
    text.write_text(json.dumps({"text": "@TEXT@"}))
    memory: dict[str, list[float]] = {}
    # A small text cache is full soon, so that its growth is not measured.
    with testbed.gateway(PE_TEXT_CACHE_BYTES="1000000") as gateway:
        pids = {**testbed.pids(), "gateway": [gateway.pid]}
        spec = {"url": gateway.url, "concurrency": 8, "seconds": seconds, "rate": _RATE, "seed": 3}
        with ThreadPoolExecutor(2) as pool, worker.load_generator() as second:
            pending = [
                pool.submit(testbed.load.request, **spec, path=client.IMAGE, files=list(map(str, images))),
                pool.submit(second.request, **spec, path=client.TEXT, files=[str(text)], texts_from=0),
            ]
            begun = time.monotonic()
            while not all(future.done() for future in pending):
                time.sleep(seconds / _SAMPLES)
                for role, members in pids.items():
                    memory.setdefault(role, []).append(processes.shared_memory_mb(members))
            took = time.monotonic() - begun
        results = [future.result() for future in pending]
    errors = sum(n for result in results for n in result["errors"].values())
    return [
        observed("at capacity, images and texts, for", took, "s",
                 note=f"{sum(result['items_in_all'] for result in results)} responses"),
        exactly("responses other than 200", errors, 0),
        *(
            at_most(f"growth of the memory of {role}", growth(values), 5, "%", timed=True, note=f"{values[-1]:.0f} MB")
            for role, values in memory.items()
        ),
    ]  # fmt: skip


def growth(values: list[float]) -> float:
    """Return by how many percent the last fifth exceeds the first fifth, by their medians, after the warm-up."""
    settled = values[int(len(values) * _WARM) :]
    fifth = max(1, len(settled) // 5)
    return (statistics.median(settled[-fifth:]) / statistics.median(settled[:fifth]) - 1) * 100
