"""Generate HTTP/1.1 load in a worker process (`worker.load_generator`).

Requests are prepared beforehand and sent over kept-alive connections by a minimal protocol, because on a small machine
the client competes with the server for CPU. The generator measures its own lateness and CPU time too, and reports
whether it was the bottleneck.

k6 was compared and not taken: 2.5 to 3 times the CPU per request beside the server, no Poisson arrivals, 66 MB.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import uvloop

from deploy.bench.harness.spread import percentile
from deploy.bench.harness.worker import serve

_TICK_S: Final = 0.005
_PATIENCE_S: Final = 60.0  # for responses that are still missing when the measurement ends
_BUSY: Final = 0.85  # of one core. Above it, the generator's own queue is part of the latencies.
# 24^4 texts. No text repeats within a run.
_ADJECTIVES: Final = (
    "red", "blue", "green", "white", "black", "yellow", "purple", "orange", "small", "large", "old", "new",
    "shiny", "dark", "bright", "wet", "dry", "tall", "short", "round", "square", "wooden", "golden", "silver",
)  # fmt: skip
_NOUNS: Final = (
    "cat", "dog", "horse", "bird", "car", "boat", "train", "plane", "house", "tree", "flower", "chair",
    "table", "lamp", "book", "clock", "cup", "bottle", "ball", "hat", "shoe", "bridge", "tower", "river",
)  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """One measurement: the fields of a worker request."""

    url: str  # http://host:port
    path: str
    files: list[str]  # bodies, sent in turn
    seconds: float
    concurrency: int  # requests in flight; in an open loop, connections to begin with
    kind: str = "application/json"
    items: int = 1  # images or texts in one request
    warmup: float = 0.0  # seconds that do not count
    requests: int | None = None  # to stop after
    rate: float | None = None  # requests per second as a Poisson process (open loop); None for a closed loop
    seed: int = 0  # of the Poisson process
    texts_from: int | None = None  # number of the first text to put in place of each `@TEXT@` or `@SHORT@`
    headers: dict[str, str] = field(default_factory=dict)  # of each request


@dataclass(frozen=True)
class Answer:
    """One response, or a connection that broke before it."""

    ended: float  # s, perf_counter
    seconds: float  # since the request was sent; in an open loop, since it was due
    cycle: float  # s since the previous response on the connection, or since its first request was sent
    status: int  # 0: the connection broke


class _Connection(asyncio.Protocol):
    """A kept-alive connection with at most one request in flight."""

    def __init__(self, on_answer: Callable[["_Connection", int], None]) -> None:
        self._on_answer = on_answer
        self._received = bytearray()
        self._needed = 0
        self._status = 0
        self.busy_since: float | None = None
        self.answered: float | None = None  # time of the previous response
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport does not derive from it

    def send(self, request: bytes, since: float) -> None:
        self.busy_since = since
        self._received.clear()
        self._needed = 0
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._needed:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            self._status = int(head[9:12])
            length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            self._needed = end + 4 + int(length)
        if len(self._received) >= self._needed:
            self._on_answer(self, self._status)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self.busy_since is not None:
            self._on_answer(self, 0)

    def close(self) -> None:
        self._transport.close()


def texts(start: int) -> Iterator[str]:
    """Yield texts from number `start` on. Runs whose starts are far apart have no text in common."""
    for i in itertools.count(start):
        n, words = i, []
        for vocabulary in (_NOUNS, _ADJECTIVES, _NOUNS, _ADJECTIVES):
            n, index = divmod(n, len(vocabulary))
            words.append(vocabulary[index])
        noun, adjective, other_noun, other_adjective = words
        yield f"a {adjective} {noun} beside a {other_adjective} {other_noun}"


def short_texts(start: int) -> Iterator[str]:
    """Yield the same texts without articles and preposition: four words, which are four tokens."""
    return (text.replace("a ", "").replace("beside ", "") for text in texts(start))


def _requests(spec: Spec) -> Iterator[bytes]:
    """Yield whole HTTP requests without end."""
    head = f"POST {spec.path} HTTP/1.1\r\nHost: {urlsplit(spec.url).netloc}\r\nContent-Type: {spec.kind}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in spec.headers.items())

    def request(body: bytes) -> bytes:
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    bodies = [Path(file).read_bytes() for file in spec.files]
    if spec.texts_from is not None:
        mark, numbered = (b"@SHORT@", short_texts) if b"@SHORT@" in bodies[0] else (b"@TEXT@", texts)
        first, *rest = bodies[0].split(mark)
        new = numbered(spec.texts_from)
        filled = (first + b"".join(next(new).encode() + part for part in rest) for _ in itertools.count())
        return map(request, filled)
    return itertools.cycle([request(body) for body in bodies])


class _Run:
    """One measurement. Responses during the warm-up or after the end do not count."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._requests = _requests(spec)
        self._answers: list[Answer] = []
        self._late: list[float] = []  # s, of the event loop
        self._idle: list[_Connection] = []
        self._closed = spec.rate is None
        self._sent = 0
        self._in_flight = 0
        self._done = asyncio.Event()
        self._end = float("inf")

    async def run(self) -> dict[str, Any]:
        spec = self._spec
        ticker = asyncio.create_task(self._tick())
        connections = [await self._connect() for _ in range(spec.concurrency)]
        cpu, begun = time.process_time(), time.perf_counter()
        warm = begun + spec.warmup
        self._end = warm + spec.seconds
        if spec.rate is None:
            for connection in connections:
                self._send(connection)
        else:
            self._idle = connections
            await self._arrivals(begun, spec.rate)
        try:
            async with asyncio.timeout(spec.seconds + spec.warmup + _PATIENCE_S):
                await self._done.wait()
        except TimeoutError:
            self._answers += [Answer(self._end, _PATIENCE_S, _PATIENCE_S, 0)] * self._in_flight
        over = time.perf_counter()
        cpu = time.process_time() - cpu
        ticker.cancel()
        for connection in self._idle:
            connection.close()
        return summary(
            self._answers,
            (warm, min(self._end, over)),
            self._late,
            cpu / (over - begun),
            spec.items,
            spec.concurrency if self._closed else None,
        )

    async def _connect(self) -> _Connection:
        server = urlsplit(self._spec.url)
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self._answered), server.hostname or "", server.port or 80
        )
        return connection

    def _send(self, connection: _Connection, since: float | None = None) -> None:
        self._sent += 1
        self._in_flight += 1
        connection.send(next(self._requests), time.perf_counter() if since is None else since)

    def _answered(self, connection: _Connection, status: int) -> None:
        now = time.perf_counter()
        assert connection.busy_since is not None
        before = connection.busy_since if connection.answered is None else connection.answered
        self._answers.append(Answer(now, now - connection.busy_since, now - before, status))
        connection.busy_since, connection.answered = None, now
        self._in_flight -= 1
        more = now < self._end and (self._spec.requests is None or self._sent < self._spec.requests)
        if self._closed and more and connection.open:
            self._send(connection)
            return
        if connection.open:
            self._idle.append(connection)
        if not self._in_flight and (self._closed or not more):
            self._done.set()

    async def _arrivals(self, begun: float, rate: float) -> None:
        """Send requests as a Poisson process: an open loop, whose clients do not wait for each other.

        The latency of a late request counts from when it was due. Otherwise a server that stalls would receive fewer
        requests and look faster.
        """
        gaps = random.Random(self._spec.seed)
        due = begun
        while (due := due + gaps.expovariate(rate)) < self._end:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            self._late.append(time.perf_counter() - due)
            while self._idle and not self._idle[-1].open:
                self._idle.pop()
            connection = self._idle.pop() if self._idle else await self._connect()
            self._send(connection, due)
        self._end = time.perf_counter()
        if not self._in_flight:
            self._done.set()

    async def _tick(self) -> None:
        """Measure how late the event loop wakes up."""
        while True:
            due = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            if self._closed:
                self._late.append(time.perf_counter() - due)


def summary(
    answers: list[Answer],
    window: tuple[float, float],
    late: list[float],
    cores: float,
    items: int,
    in_flight: int | None,
) -> dict[str, Any]:
    """Summarize one measurement, with times in ms.

    Args:
        answers: all of them, warm-up included.
        window: begin and end of what counts, in seconds of perf_counter.
        late: lateness of the event loop or of arrivals, in seconds.
        cores: CPU seconds per second that the generator used.
        items: images or texts in one request.
        in_flight: requests in flight in a closed loop; None for an open loop.
    """
    begin, end = window
    good = [a for a in answers if a.status == 200]
    counted = [a for a in good if begin <= a.ended <= end]
    latencies = [a.seconds * 1e3 for a in counted]
    refusals = [a.seconds * 1e3 for a in answers if a.status == 429]
    # The generator's median lateness is part of every latency. The tail is what a busy machine does to any client.
    lag = percentile(late, 50) * 1e3
    reasons = [f"uses {cores:.2f} of a core"] * (cores > _BUSY)
    reasons += [f"{lag:.1f} ms late"] * (lag > percentile(latencies, 50) / 10)
    statuses = {a.status for a in answers} - {200}
    return {
        "items_per_s": _rate(counted, end - begin, in_flight if len(good) == len(answers) else None) * items,
        "requests": len(counted),
        "items_in_all": len(good) * items,
        "errors": {str(status): sum(a.status == status for a in answers) for status in statuses},
        "ms": {f"p{p}": percentile(latencies, p) for p in (50, 95, 99)},
        "refused_ms": {f"p{p}": percentile(refusals, p) for p in (50, 99, 100)},
        "generator": {
            "lag_p50_ms": lag,
            "lag_p99_ms": percentile(late, 99) * 1e3,
            "cores": cores,
            "bottleneck": "; ".join(reasons),
        },
    }


def _rate(answers: list[Answer], seconds: float, in_flight: int | None) -> float:
    """Compute responses per second.

    In a closed loop, compute it from the cycle times, because the responses of a slow model come in bursts. With 16
    responses every 1.7 s, three or four bursts fell by chance into the window, and the count gave 8.6 or 11.5 per
    second where the rate was 9.6.
    """
    if not in_flight or not answers:
        return len(answers) / seconds
    return in_flight * len(answers) / sum(answer.cycle for answer in answers)


def measure(spec: Spec) -> dict[str, Any]:
    """Run one measurement and return its `summary`."""
    return uvloop.run(_Run(spec).run())


if __name__ == "__main__":
    serve(lambda fields: measure(Spec(**fields)))
