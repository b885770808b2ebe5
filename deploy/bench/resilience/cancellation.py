"""Measure how much work is cancelled when its deadline passes or its client disconnects, by Triton's own counters."""

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from deploy.bench.harness import client
from deploy.bench.harness.client import Response
from deploy.bench.harness.figures import Figure, at_most, exactly
from deploy.bench.harness.stub_model import BATCH, VARIANT
from deploy.bench.resilience.testbed import Testbed

_SLOW_S: Final = 2.0
_DEADLINE_S: Final = 0.5
_COUNT: Final = 48
_MODEL: Final = f"{VARIANT}-vision"


def measure(testbed: Testbed) -> list[Figure]:
    """Send requests behind a slow batch: some with a deadline, some whose client disconnects."""
    body = {"image": client.grey(10)}
    late, *expired = _behind_a_slow_batch(testbed, lambda: _with_deadline(testbed.url, body))
    _, *disconnected = _behind_a_slow_batch(testbed, lambda: _disconnecting(testbed.url, body))
    return [
        exactly(f"responses other than 504 to {_COUNT} requests that cannot meet their deadline of {_DEADLINE_S:g} s",
                sum(answer.status != 504 for answer in late), 0),
        at_most("last of these responses after", max(answer.seconds for answer in late), _DEADLINE_S + 0.5, "s",
                timed=True),
        _by_triton("of these", *expired),
        _by_triton(f"of {_COUNT} whose client disconnected", *disconnected),
    ]  # fmt: skip


def _by_triton(what: str, cancelled: int, executed: int) -> Figure:
    # Triton's batcher prepares two batches ahead, and executes what is in them. The rest is cancelled in Triton, or has
    # waited in the gateway, so that Triton never saw it.
    return at_most(
        f"{what}: executed, by Triton's counter",
        executed,
        2 * BATCH,
        note=f"{cancelled} cancelled in Triton",
    )


def _with_deadline(url: str, body: object) -> list[Response]:
    headers = {"X-Request-Timeout": f"{_DEADLINE_S:g}"}
    return client.concurrently(_COUNT, lambda _: client.post(url, client.IMAGE, body, headers))


def _disconnecting(url: str, body: object) -> list[Response]:
    """Send requests and close the connections without waiting for responses."""
    data = json.dumps(body).encode()
    server = urlsplit(url)
    head = f"POST {client.IMAGE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    connections = []
    for _ in range(_COUNT):
        connection = socket.create_connection((server.hostname or "", server.port or 80), timeout=10)
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        connections.append(connection)
    time.sleep(_DEADLINE_S)
    for connection in connections:
        connection.close()
    return []


def _behind_a_slow_batch(testbed: Testbed, send: Callable[[], list[Response]]) -> tuple[list[Response], int, int]:
    """Call `send` while the model is busy.

    Returns:
        The result of `send`, and how many of its requests Triton cancelled and executed.
    """
    one = client.grey(10)
    testbed.stub.behave(seconds=_SLOW_S)
    before = _counters(testbed)
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(client.post, testbed.url, client.IMAGE, {"image": [one] * BATCH})
        time.sleep(0.3)
        testbed.stub.behave()  # The stub model reads this when a batch begins, so later batches are fast.
        answers = send()
        if ahead.result().status != 200:
            raise RuntimeError(f"the batch ahead was answered with {ahead.result().status}")
    client.post(testbed.url, client.IMAGE, {"image": one})  # After this, the batcher has seen all of them.
    time.sleep(0.2)
    cancelled, executed = (after - earlier for after, earlier in zip(_counters(testbed), before, strict=True))
    # Neither the batch ahead nor the last request counts.
    return answers, cancelled, executed - BATCH - 1


def _counters(testbed: Testbed) -> tuple[int, int]:
    """Read how many requests Triton has cancelled and executed."""
    text = client.get(f"http://{testbed.stack.triton_metrics}", "/metrics").body.decode()
    samples = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model") == _MODEL
    ]
    cancelled = sum(
        s.value for s in samples
        if s.name.startswith("nv_inference_request_failure") and s.labels.get("reason") == "CANCELED"
    )  # fmt: skip
    executed = sum(s.value for s in samples if s.name in ("nv_inference_count", "nv_inference_count_total"))
    return round(cancelled), round(executed)
