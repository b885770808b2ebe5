"""Send thousands of damaged requests. Each has to get a 2xx or 4xx response soon, and memory may not grow."""

import http.client
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from deploy.bench.harness import client, processes
from deploy.bench.harness.figures import Figure, at_most, exactly, observed
from deploy.bench.resilience import documented_requests, strategies
from deploy.bench.resilience.soak import growth
from deploy.bench.resilience.testbed import Testbed

_CLIENTS: Final = 8
_HANG_S: Final = 5.0
_SAMPLE_S: Final = 0.1  # between two readings of the memory
_KEPT: Final = 20  # failures to keep


@dataclass
class Found:
    """The responses of a run. `bad`: a description and the body of each request with a 5xx, late, or no response."""

    statuses: dict[int, int] = field(default_factory=dict)
    slowest: float = 0.0
    bad: list[tuple[str, bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, request: str, body: bytes, status: int, seconds: float) -> None:
        """Count one response."""
        with self.lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            self.slowest = max(self.slowest, seconds)
            if (status >= 500 or status == 0 or seconds > _HANG_S) and len(self.bad) < _KEPT:
                self.bad.append((f"{request}: {status}, {seconds:.1f} s", body))


def measure(testbed: Testbed) -> list[Figure]:
    """Fuzz a gateway of its own."""
    testbed.stub.behave(seconds=0.0)
    # A small text cache is full soon, so that its growth is not measured.
    with testbed.gateway(PE_TEXT_CACHE_BYTES="1000000") as gateway:
        found, memory = Found(), list[float]()
        with ThreadPoolExecutor(_CLIENTS) as pool:
            count = testbed.effort.inputs // _CLIENTS
            clients = [pool.submit(_client, gateway.url, count, number, found) for number in range(_CLIENTS)]
            while not all(each.done() for each in clients):
                time.sleep(_SAMPLE_S)
                memory.append(processes.memory_mb(gateway.pid)["now"])
        for each in clients:
            each.result()
        documented = documented_requests.measure(gateway.url, testbed.effort.examples)
        right = client.post(gateway.url, client.IMAGE, {"image": client.grey(33)})
    testbed.stub.behave()
    if found.bad or any(figure.met is False for figure in documented):
        _keep(testbed, found, gateway.log)
    statuses = found.statuses
    shown = ", ".join(f"{n} of {status}" for status, n in sorted(statuses.items()))
    return [
        observed("damaged images, JSON bodies and forms sent", sum(statuses.values()), note=shown),
        exactly("5xx or no response to these", sum(n for s, n in statuses.items() if s >= 500 or not s), 0),
        at_most("slowest response", found.slowest, _HANG_S, "s", timed=True),
        # Some images have up to 100 megapixels, and a single sample may include one that is being decoded.
        at_most("growth of the gateway's memory in that time", growth(memory), 5, "%", timed=True,
                note=f"{min(memory):.0f} to {max(memory):.0f} MB, {memory[-1]:.0f} at the end"),
        *documented,
        exactly("right responses afterwards, of 1", client.embeds_grey(right, 33), 1),
    ]  # fmt: skip


def _keep(testbed: Testbed, found: Found, log: Path) -> None:
    """Keep the failing requests, each of which becomes a test, and the gateway's log."""
    folder = testbed.output / "found"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, folder / "gateway.log")
    for number, (what, body) in enumerate(found.bad):
        (folder / f"{number}.bin").write_bytes(body)
        testbed.say(f"  {folder / f'{number}.bin'}: {what}")


def _client(url: str, count: int, number: int, found: Found) -> None:
    """Send that many requests. The same number of the client gives the same requests."""
    server = urlsplit(url)
    connection = http.client.HTTPConnection(server.hostname or "", server.port, timeout=4 * _HANG_S)

    @hypothesis.seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(request=strategies.requests())
    def post(request: strategies.Request) -> None:
        begun = time.perf_counter()
        try:
            headers = {"Content-Type": request.kind.encode("utf-8")} if request.kind else {}
            connection.request("POST", request.path, request.body, headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
            status = 0
        found.add(f"{request.path} {request.kind}", request.body, status, time.perf_counter() - begun)

    post()
    connection.close()
