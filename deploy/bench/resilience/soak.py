"""Memory: at capacity for a long while, it may not grow."""

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from deploy.bench.harness import client as asking
from deploy.bench.harness import processes as cpu
from deploy.bench.harness.figures import Figure, at_most, exactly, told
from deploy.bench.harness.stub_model import BATCH, SECONDS
from deploy.bench.harness.worker import python_helper
from deploy.bench.resilience import testbed as beds
from deploy.bench.resilience.testbed import Bed

_RATE: Final = 0.8 * BATCH / SECONDS / 2  # images and texts each a half, at what capacity comes to with bursts
_SAMPLES: Final = 60
_WARM: Final = 0.2  # of the time, before which nothing has settled


def measure(bed: Bed) -> list[Figure]:
    seconds = bed.effort.soak
    bodies = {asking.IMAGE: [bed.directory / f"soak-{i}.json" for i in range(8)], asking.TEXT: [bed.directory / "text"]}
    for i, body in enumerate(bodies[asking.IMAGE]):
        body.write_text(json.dumps({"image": asking.image(asking.picture(30 * i, (640, 480)))}))
    bodies[asking.TEXT][0].write_text(json.dumps({"text": "@TEXT@"}))
    memory: dict[str, list[float]] = {}
    # A cache of texts that is full soon, so that it is not the cache's growth that is measured.
    with beds.gateway(bed.directory, [bed.stack], PE_TEXT_CACHE_BYTES="1000000") as soaked:
        pids = {**bed.pids(), "gateway": [soaked.pid]}
        host, _, port = soaked.url.removeprefix("http://").partition(":")
        with ThreadPoolExecutor(2) as pool, python_helper("harness.load_generator") as more:
            asked = []
            for helper, (path, files) in zip((bed.load, more), bodies.items(), strict=True):
                spec = {"host": host, "port": int(port), "path": path, "kind": "application/json", "concurrency": 8,
                        "files": list(map(str, files)), "seconds": seconds, "rate": _RATE, "seed": 3}  # fmt: skip
                if path == asking.TEXT:
                    spec["texts_from"] = 0
                asked.append(pool.submit(helper.ask, **spec))
            begun = time.monotonic()
            while not all(future.done() for future in asked):
                time.sleep(seconds / _SAMPLES)
                for role, members in pids.items():
                    memory.setdefault(role, []).append(sum(cpu.memory_mb(pid)["now"] for pid in members))
            took = time.monotonic() - begun
        got = [future.result() for future in asked]
    errors = sum(n for result in got for n in result["errors"].values())
    return [
        told("at capacity, images and texts, for", took, "s",
             note=f"{sum(result['items_in_all'] for result in got)} answers"),
        exactly("answers other than 200", errors, 0),
        *(
            at_most(f"drift of the memory of {role}", drift(values), 5, "%", timed=True, note=f"{values[-1]:.0f} MB")
            for role, values in memory.items()
        ),
    ]  # fmt: skip


def drift(values: list[float]) -> float:
    """By how many percent the end lies above the start, both medians of a fifth, after the warming up."""
    settled = values[int(len(values) * _WARM) :]
    fifth = max(1, len(settled) // 5)
    return (statistics.median(settled[-fifth:]) / statistics.median(settled[:fifth]) - 1) * 100
