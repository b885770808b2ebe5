"""Generate HTTP/1.1 load in a process of its own, which answers JSON lines.

Requests are made beforehand and sent over kept-alive connections by a bare protocol, some 40 us of CPU each, because on
a small machine the client takes its share from the server. It measures itself, too: how late its own event loop runs
and how much of a core it uses, and so whether it is the bottleneck.
"""

import asyncio
import itertools
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from deploy.bench.harness.spread import percentile
from deploy.bench.harness.worker import answer_forever

_TICK_S: Final = 0.005
_PATIENCE_S: Final = 60.0  # for answers, after the time is over
_BUSY: Final = 0.85  # of one core: more, and its own queue is part of what it measures
# 24^4 texts of eight words; a run meets none twice.
_WORDS: Final = tuple(
    re.findall(
        r"\w+",
        """
red blue green white black yellow purple orange small large old new shiny dark bright wet dry tall short round square
wooden golden silver
""",
    )
)
_THINGS: Final = tuple(
    re.findall(
        r"\w+",
        """
cat dog horse bird car boat train plane house tree flower chair table lamp book clock cup bottle ball hat shoe bridge
tower river
""",
    )
)


@dataclass(frozen=True)
class Answer:
    """One answer, or a connection that broke before it."""

    ended: float  # s, perf_counter
    seconds: float  # since it was sent; in an open loop since it was due
    cycle: float  # s since the answer before it on its connection, or since that one's first request was sent
    status: int  # 0: the connection broke


class _Connection(asyncio.Protocol):
    def __init__(self, on_answer: Callable[["_Connection", int], None]) -> None:
        self._on_answer = on_answer
        self._received = bytearray()
        self._needed = 0
        self._status = 0
        self.busy_since: float | None = None
        self.answered: float | None = None  # when it last was
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

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
    """Texts that no earlier ``start`` gave, as long as the starts are far enough apart."""
    for i in itertools.count(start):
        n, words = i, []
        for vocabulary in (_THINGS, _WORDS, _THINGS, _WORDS):
            n, index = divmod(n, len(vocabulary))
            words.append(vocabulary[index])
        thing, colour, other, another = words
        yield f"a {colour} {thing} beside a {another} {other}"


def request(host: str, path: str, kind: str, body: bytes) -> bytes:
    """A whole HTTP/1.1 request; kept alive, as all of them are."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def requests(spec: dict[str, Any]) -> Iterator[bytes]:
    """What to send, forever: the files in turn, or the one template with a new text each time."""
    host, path, kind = f"{spec['host']}:{spec['port']}", spec["path"], spec["kind"]
    bodies = [Path(file).read_bytes() for file in spec["files"]]
    if "texts_from" in spec:
        before, _, after = bodies[0].partition(b"@TEXT@")
        return (request(host, path, kind, before + text.encode() + after) for text in texts(spec["texts_from"]))
    return itertools.cycle([request(host, path, kind, body) for body in bodies])


class _Run:
    """One measurement. Answers before ``begin`` warm up, those after ``end`` drain; neither counts."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._requests = requests(spec)
        self._answers: list[Answer] = []
        self._late: list[float] = []  # s, of the event loop
        self._idle: list[_Connection] = []
        self._closed = spec.get("rate") is None
        self._sent = 0
        self._in_flight = 0
        self._done = asyncio.Event()
        self._end = float("inf")

    async def run(self) -> dict[str, Any]:
        spec = self._spec
        ticker = asyncio.create_task(self._tick())
        connections = [await self._connect() for _ in range(spec["concurrency"])]
        cpu, begun = time.process_time(), time.perf_counter()
        warm = begun + spec.get("warmup", 0.0)
        self._end = warm + spec["seconds"]
        if self._closed:
            for connection in connections:
                self._next(connection)
        else:
            self._idle = connections
            await self._arrivals(begun)
        try:
            async with asyncio.timeout(spec["seconds"] + spec.get("warmup", 0.0) + _PATIENCE_S):
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
            warm,
            min(self._end, over),
            self._late,
            cpu / (over - begun),
            over - begun,
            spec.get("items", 1),
            spec["concurrency"] if self._closed else None,
        )

    async def _connect(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self._answered), self._spec["host"], self._spec["port"]
        )
        return connection

    def _next(self, connection: _Connection, since: float | None = None) -> None:
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
        more = now < self._end and self._sent < self._spec.get("requests", float("inf"))
        if self._closed and more and connection.open:
            self._next(connection)
            return
        if connection.open:
            self._idle.append(connection)
        if not self._in_flight and not (more and not self._closed):
            self._done.set()

    async def _arrivals(self, begun: float) -> None:
        """An open loop: clients that do not wait for one another, as a Poisson process. A late one counts from when it
        was due, or a server that stalls would be asked less and look better."""
        gaps = random.Random(self._spec.get("seed", 0))
        due = begun
        while (due := due + gaps.expovariate(self._spec["rate"])) < self._end:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            self._late.append(time.perf_counter() - due)
            while self._idle and not self._idle[-1].open:
                self._idle.pop()
            connection = self._idle.pop() if self._idle else await self._connect()
            self._next(connection, due)
        self._end = time.perf_counter()
        if not self._in_flight:
            self._done.set()

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            if self._closed:
                self._late.append(time.perf_counter() - due)


def summary(
    answers: list[Answer],
    begin: float,
    end: float,
    late: list[float],
    busy: float,
    seconds: float,
    items: int,
    in_flight: int | None,
) -> dict[str, Any]:
    """What one measurement says, times in ms.

    Args:
        items: images or texts in one request.
        in_flight: requests, always as many; None in an open loop.
    """
    good = [a for a in answers if a.status == 200]
    counted = [a for a in good if begin <= a.ended <= end]
    latencies = [a.seconds * 1e3 for a in counted]
    lag = percentile(late, 99) * 1e3
    typical = percentile(latencies, 50)
    # Its median lateness is part of every latency; the tail of it is what a busy machine does to anyone.
    usual = percentile(late, 50) * 1e3
    reasons = [f"uses {busy:.2f} of a core"] * (busy > _BUSY) + [f"{usual:.1f} ms late"] * (usual > typical / 10)
    return {
        "items_per_s": _rate(counted, end - begin, in_flight if len(good) == len(answers) else None) * items,
        "requests": len(counted),
        "items_in_all": len(good) * items,
        "errors": {
            str(s): n for s in {a.status for a in answers} - {200} if (n := sum(a.status == s for a in answers))
        },
        "ms": {f"p{p}": percentile(latencies, p) for p in (50, 95, 99)},
        "refused_ms": {
            f"p{p}": percentile([a.seconds * 1e3 for a in answers if a.status == 429], p) for p in (50, 99, 100)
        },
        "generator": {"lag_p50_ms": usual, "lag_p99_ms": lag, "cores": busy, "bottleneck": "; ".join(reasons)},
        "seconds": seconds,
    }


def _rate(answers: list[Answer], seconds: float, in_flight: int | None) -> float:
    """Answers a second.

    In a closed loop by how long each took, for a slow model's come in bursts: of 16 every 1.7 s, three or four fell by
    chance into the same number of seconds, and gave 8.6 or 11.5 a second where it is 9.6.
    """
    if not in_flight or not answers:
        return len(answers) / seconds
    return in_flight * len(answers) / sum(answer.cycle for answer in answers)


if __name__ == "__main__":
    answer_forever(lambda spec: uvloop.run(_Run(spec).run()))
