"""Measure a SIGTERM under load: the gateway answers what it accepted, and exits with status 0."""

import http.client
import json
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from deploy.bench.harness import client
from deploy.bench.harness.figures import Figure, at_most, exactly, observed
from deploy.bench.resilience.health_poll import Poll
from deploy.bench.resilience.testbed import Testbed

_CLIENTS: Final = 16
_NOTICE_S: Final = 1.0
_BOUND_S: Final = 40.0


@dataclass
class _Tally:
    """The responses of all clients."""

    right: int = 0
    refused: int = 0  # 503 with Retry-After and Connection: close
    refused_otherwise: int = 0
    unanswered: list[float] = field(default_factory=list)  # when each was sent
    last: float = 0.0  # when the last right response came
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, status: int, as_documented: bool) -> None:
        """Count one response. `as_documented`: it has Retry-After and Connection: close."""
        with self.lock:
            if status == 200:
                self.right += 1
                self.last = time.monotonic()
            elif status == 503 and as_documented:
                self.refused += 1
            else:
                self.refused_otherwise += 1


def measure(testbed: Testbed) -> list[Figure]:
    """Stop a gateway of its own under load."""
    tally, over = _Tally(), threading.Event()
    with testbed.gateway(PE_DRAIN_SECONDS=f"{_NOTICE_S:g}") as gateway:
        clients = [threading.Thread(target=_client, args=(gateway.url, tally, over)) for _ in range(_CLIENTS)]
        with Poll(gateway.url) as readiness:
            for each in clients:
                each.start()
            time.sleep(testbed.effort.load / 2)
            signalled = time.monotonic()
            gateway.process.send_signal(signal.SIGTERM)
            status = gateway.process.wait(_BOUND_S)
            ended = time.monotonic()
        over.set()
        for each in clients:
            each.join()
    unready = readiness.first(503, signalled) - signalled
    # A request that is sent later than that is refused, or finds the listener closed.
    dropped = [sent for sent in tally.unanswered if sent < signalled + _NOTICE_S]
    return [
        exactly(f"requests dropped by a SIGTERM with {_CLIENTS} clients", len(dropped), 0,
                note=f"{tally.right} answered, {tally.refused} refused"),
        exactly("refusals other than 503 with Retry-After and Connection: close", tally.refused_otherwise, 0),
        at_most("/readiness is 503 after", unready, 0.5, "s", timed=True),
        observed(f"requests were still answered for (setting: {_NOTICE_S:g} s)", tally.last - signalled, "s"),
        observed("the process ended after", ended - signalled, "s"),
        exactly("exit status", status, 0),
    ]  # fmt: skip


def _client(url: str, tally: _Tally, over: threading.Event) -> None:
    """Send requests on a kept-alive connection, and on a new one after a response with Connection: close."""
    server = urlsplit(url)
    body = json.dumps({"image": client.grey(90)}).encode()
    while not over.is_set():
        connection = http.client.HTTPConnection(server.hostname or "", server.port, timeout=_BOUND_S)
        try:
            connection.connect()
        except OSError:
            return  # The listener is closed.
        while not over.is_set():
            sent = time.monotonic()
            try:
                connection.request("POST", client.IMAGE, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                with tally.lock:
                    tally.unanswered.append(sent)
                connection.close()
                break
            closing = (answer.headers.get("connection") or "").lower() == "close"
            tally.add(answer.status, closing and "retry-after" in answer.headers)
            if closing:
                connection.close()
                break
