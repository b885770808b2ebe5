"""SIGTERM under load: what was accepted is answered, and the process ends well."""

import http.client
import json
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from deploy.bench.harness import client as asking
from deploy.bench.harness.figures import Figure, at_most, exactly, told
from deploy.bench.resilience import testbed as beds
from deploy.bench.resilience.readiness import Watch
from deploy.bench.resilience.testbed import Bed

_CLIENTS: Final = 16
_NOTICE_S: Final = 1.0
_BOUND_S: Final = 40.0


@dataclass
class _Tally:
    """What the clients met."""

    right: int = 0
    refused: int = 0  # 503 with Retry-After and Connection: close
    refused_otherwise: int = 0
    unanswered: list[float] = field(default_factory=list)  # when each was sent
    last: float = 0.0  # when the last right answer came
    lock: threading.Lock = field(default_factory=threading.Lock)


def measure(bed: Bed) -> list[Figure]:
    tally, over = _Tally(), threading.Event()
    with beds.gateway(bed.directory, [bed.stack], PE_DRAIN_SECONDS=f"{_NOTICE_S:g}") as draining:
        clients = [threading.Thread(target=_client, args=(draining.url, tally, over)) for _ in range(_CLIENTS)]
        with Watch(draining.url) as readiness:
            for client in clients:
                client.start()
            time.sleep(bed.effort.load / 2)
            told_at = time.monotonic()
            draining.process.send_signal(signal.SIGTERM)
            status = draining.process.wait(_BOUND_S)
            ended = time.monotonic()
        over.set()
        for client in clients:
            client.join()
    unready = readiness.first(503, told_at) - told_at
    # What is sent later than that is refused, or meets a listener that is gone.
    dropped = [sent for sent in tally.unanswered if sent < told_at + _NOTICE_S]
    return [
        exactly(f"requests dropped by a SIGTERM with {_CLIENTS} clients", len(dropped), 0,
                note=f"{tally.right} answered, {tally.refused} refused"),
        exactly("refusals other than 503 with Retry-After and Connection: close", tally.refused_otherwise, 0),
        at_most("/readiness is 503 after", unready, 0.5, "s", timed=True),
        told(f"requests were still answered for (setting: {_NOTICE_S:g} s)", tally.last - told_at, "s"),
        told("it ended after", ended - told_at, "s"),
        exactly("exit status", status, 0),
    ]  # fmt: skip


def _client(url: str, tally: _Tally, over: threading.Event) -> None:
    """Asks again and again on a connection that it keeps, and on a new one when it is told to close that."""
    place = urlsplit(url)
    body = json.dumps({"image": asking.image(asking.picture(90))}).encode()
    while not over.is_set():
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=_BOUND_S)
        try:
            connection.connect()
        except OSError:
            return  # nobody listens any more
        while not over.is_set():
            sent = time.monotonic()
            try:
                connection.request("POST", asking.IMAGE, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                with tally.lock:
                    tally.unanswered.append(sent)
                connection.close()
                break
            closing = (answer.headers.get("connection") or "").lower() == "close"
            _count(tally, answer.status, closing and "retry-after" in answer.headers)
            if closing:
                connection.close()
                break


def _count(tally: _Tally, status: int, politely: bool) -> None:
    with tally.lock:
        if status == 200:
            tally.right += 1
            tally.last = time.monotonic()
        elif status == 503 and politely:
            tally.refused += 1
        else:
            tally.refused_otherwise += 1
