"""Attack: thousands of damaged inputs, each of which must get an answer that blames it, soon, and leave nothing."""

import http.client
import itertools
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from deploy.bench.harness import client as asking
from deploy.bench.harness import processes as cpu
from deploy.bench.harness.figures import Figure, at_most, exactly, told
from deploy.bench.resilience import openapi as published
from deploy.bench.resilience import strategies as mutation
from deploy.bench.resilience import testbed as beds
from deploy.bench.resilience.soak import drift
from deploy.bench.resilience.strategies import Input
from deploy.bench.resilience.testbed import Bed

SEED: Final = 1
_CLIENTS: Final = 8
_HANG_S: Final = 5.0
_SAMPLES: Final = 40
_KEPT: Final = 20  # of what was found


@dataclass
class Found:
    """What a run of the fuzzer met; ``bad``: inputs whose answer was none, a 5xx, or late."""

    statuses: dict[int, int] = field(default_factory=dict)
    slowest: float = 0.0
    bad: list[tuple[Input, int, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, given: Input, status: int, seconds: float) -> None:
        with self.lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            self.slowest = max(self.slowest, seconds)
            if (status >= 500 or status == 0 or seconds > _HANG_S) and len(self.bad) < _KEPT:
                self.bad.append((given, status, seconds))


def measure(bed: Bed) -> list[Figure]:
    bed.stand_in.behave(seconds=0.0)
    # A cache of texts that is full soon, so that it is not the cache's growth that is measured.
    with beds.gateway(bed.directory, [bed.stack], PE_TEXT_CACHE_BYTES="1000000") as attacked:
        found, memory = Found(), list[float]()
        step = bed.effort.inputs // _SAMPLES
        for first in range(0, bed.effort.inputs, step):
            run(attacked.url, range(first, min(first + step, bed.effort.inputs)), found)
            memory.append(cpu.memory_mb(attacked.pid)["now"])
        by_the_book = published.measure(attacked.url, bed.effort.examples)
        right = asking.post(attacked.url, asking.IMAGE, {"image": asking.image(asking.picture(33))})
    bed.stand_in.behave()
    _keep(bed, found.bad)
    if found.bad or any(figure.met is False for figure in by_the_book):
        _keep_log(bed, attacked.log)
    statuses = found.statuses
    shown = ", ".join(f"{n} of {status}" for status, n in sorted(statuses.items()))
    return [
        told("damaged images, JSON bodies and forms sent", sum(statuses.values()), note=shown),
        exactly("5xx, or no answer, to these", sum(n for s, n in statuses.items() if s >= 500 or not s), 0),
        at_most("the slowest answer", found.slowest, _HANG_S, "s", timed=True),
        # Images of up to 100 megapixels are among them, so that single samples differ by what one of those takes.
        at_most("growth of the gateway's memory meanwhile", drift(memory), 5, "%", timed=True,
                note=f"{min(memory):.0f} to {max(memory):.0f} MB, {memory[-1]:.0f} at the end"),
        *by_the_book,
        exactly("right answers afterwards, of 1",
                right.status == 200 and asking.is_right(right.json()["embeddings"][0], 33), 1),
    ]  # fmt: skip


def _keep_log(bed: Bed, log: Path) -> None:
    """What the gateway said meanwhile: why it answered so."""
    folder = bed.output / "found"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, folder / "gateway.log")


def _keep(bed: Bed, bad: list[tuple[Input, int, float]]) -> None:
    """Writes down what was found: each becomes a test."""
    folder = bed.output / "found"
    for number, (given, status, seconds) in enumerate(bad):
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / f"{number}.bin"
        kept.write_bytes(given.body)
        bed.say(f"  {kept}: {given.path} {given.kind}: {given.what}: {status}, {seconds:.1f} s")


def run(url: str, numbers: range, found: Found, seed: int = SEED) -> None:
    """Sends those inputs, eight at a time."""
    left = iter(numbers)
    lock = threading.Lock()

    def client() -> None:
        place = urlsplit(url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=4 * _HANG_S)
        while True:
            with lock:
                taken = list(itertools.islice(left, 1))
            if not taken:
                connection.close()
                return
            given = mutation.make(seed, taken[0])
            begun = time.perf_counter()
            try:
                headers = {"Content-Type": given.kind.encode("utf-8")} if given.kind else {}
                connection.request("POST", given.path, given.body, headers)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            found.add(given, status, time.perf_counter() - begun)

    threads = [threading.Thread(target=client) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
