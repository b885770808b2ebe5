"""Measure where the time of one request goes, from the gateway's `Server-Timing` header."""

import http.client
import re
import time
from typing import Any
from urllib.parse import urlsplit

from deploy.bench.harness.spread import percentile
from deploy.bench.speed.payloads import Payload


def parse(header: str) -> dict[str, float]:
    """Parse milliseconds by stage: https://www.w3.org/TR/server-timing/."""
    return {name: float(ms) for name, ms in re.findall(r"([\w-]+);dur=([\d.]+)", header)}


def measure(url: str, payload: Payload, count: int) -> dict[str, Any]:
    """Send requests one after another on one connection, and return the median milliseconds by stage.

    `gateway` is the part of the gateway's total that is in no stage: HTTP, JSON and hand-offs. `client` is what the
    client waited beyond that total: the way there and back, and the upload of the body.
    """
    bodies, server = [file.read_bytes() for file in payload.files], urlsplit(url)
    connection = http.client.HTTPConnection(server.hostname or "", server.port, timeout=120)
    samples: list[dict[str, float]] = []
    try:
        for i in range(count):
            begun = time.perf_counter()
            connection.request("POST", payload.path, bodies[i % len(bodies)], {"Content-Type": payload.kind})
            answer = connection.getresponse()
            answer.read()
            waited = (time.perf_counter() - begun) * 1e3
            stages = parse(answer.headers.get("Server-Timing", ""))
            total = stages.pop("total", 0.0)
            samples.append({**stages, "gateway": max(0.0, total - sum(stages.values())), "client": waited - total})
    finally:
        connection.close()
    names = dict.fromkeys(name for sample in samples for name in sample)
    return {"ms_by_stage": {name: percentile([sample.get(name, 0.0) for sample in samples], 50) for name in names}}
