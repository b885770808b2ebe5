"""Deadlines, and clients that leave: their work is dropped, in Triton too, as its own counters tell."""

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from deploy.bench.harness import client as asking
from deploy.bench.harness.client import Answer
from deploy.bench.harness.figures import Figure, at_least, at_most, exactly
from deploy.bench.harness.stub_model import BATCH, VARIANT
from deploy.bench.resilience import counters
from deploy.bench.resilience.testbed import Bed

_SLOW_S: Final = 2.0
_DEADLINE_S: Final = 0.5
_COUNT: Final = 48
_MODEL: Final = f"{VARIANT}-vision"


def measure(bed: Bed) -> list[Figure]:
    body = {"image": asking.image(asking.picture(10))}
    late, *dropped = _behind_a_slow_batch(bed, lambda: _with_deadline(bed.url, body))
    _, *left = _behind_a_slow_batch(bed, lambda: _leaving(bed.url, body))
    slowest = max(answer.seconds for answer in late)
    return [
        exactly(f"answers other than 504 to {_COUNT} requests that may take {_DEADLINE_S:g} s, where all take longer",
                sum(answer.status != 504 for answer in late), 0),
        at_most("the last of these answers came after", slowest, _DEADLINE_S + 0.5, "s", timed=True),
        *_by_triton("of these", *dropped),
        *_by_triton(f"of {_COUNT} whose client left", *left),
    ]  # fmt: skip


def _by_triton(what: str, cancelled: int, ran: int) -> list[Figure]:
    # Triton's batcher makes up two batches ahead, and what is in one is run.
    return [
        at_least(f"{what}: cancelled, by Triton's own count", cancelled, _COUNT - 2 * BATCH),
        exactly(f"{what}: cancelled or run, by Triton's own count", cancelled + ran, _COUNT, note=f"{ran} run"),
    ]


def _with_deadline(url: str, body: object) -> list[Answer]:
    headers = {"X-Request-Timeout": f"{_DEADLINE_S:g}"}
    return asking.together(_COUNT, lambda _: asking.post(url, asking.IMAGE, body, headers))


def _leaving(url: str, body: object) -> list[Answer]:
    """Asks, and closes without waiting for an answer."""
    data = json.dumps(body).encode()
    place = urlsplit(url)
    head = f"POST {asking.IMAGE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    connections = []
    for _ in range(_COUNT):
        connection = socket.create_connection((place.hostname or "", place.port or 80), timeout=10)
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        connections.append(connection)
    time.sleep(_DEADLINE_S)
    for connection in connections:
        connection.close()
    return []


def _behind_a_slow_batch(bed: Bed, ask: Callable[[], list[Answer]]) -> tuple[list[Answer], int, int]:
    """What ``ask`` gives while the model is busy; then how much of that Triton cancelled, and how much it ran."""
    metrics = f"http://{bed.stack.triton_metrics}"
    one = asking.image(asking.picture(10))
    bed.stand_in.behave(seconds=_SLOW_S)
    before = counters.read(metrics)
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(asking.post, bed.url, asking.IMAGE, {"image": [one] * BATCH})
        time.sleep(0.3)
        bed.stand_in.behave()  # read when a batch begins: those behind would be quick
        answers = ask()
        if ahead.result().status != 200:
            raise RuntimeError(f"the batch ahead was answered with {ahead.result().status}")
    asking.post(bed.url, asking.IMAGE, {"image": one})  # the batcher has met them all
    time.sleep(0.2)
    after = counters.read(metrics)

    def grown(name: str, **labels: str) -> int:
        labels |= {"model": _MODEL}
        return round(counters.value(after, name, labels) - counters.value(before, name, labels))

    # Without the batch ahead, and the one that came last.
    return answers, grown("nv_inference_request_failure", reason="CANCELED"), grown("nv_inference_count") - BATCH - 1
