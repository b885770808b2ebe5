"""Measure both servers in rounds. Each round measures each row on both; every second one in the reverse order."""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.bench.against.interfaces import NotOffered
from deploy.bench.against.operations import Operation, write
from deploy.bench.against.peer import Peer, PeerFailed
from deploy.bench.harness.load_generator import texts as new_texts
from deploy.bench.harness.worker import Worker

Say = Callable[[str], None]
SIDES: Final = ("ours", "theirs")
_TEXTS_APART: Final = 60_000
_FEW: Final = 24  # responses of a slow server in one measurement
_LONGEST: Final = 3.0  # times the usual length of a measurement
_TRIALS: Final = 3


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int  # at most. No round begins that would not end within the minutes.
    minutes: float
    seconds: float  # of one measurement
    levels: tuple[int, ...]  # requests in flight


FULL: Final = Effort(rounds=5, minutes=15, seconds=3.0, levels=(1, 8, 16))
QUICK: Final = Effort(rounds=2, minutes=2, seconds=1.0, levels=(1, 8))


@dataclass(frozen=True)
class Row:
    """One kind of request at one number of requests in flight, ready to send to both servers."""

    operation: Operation
    level: int
    specs: Mapping[str, dict[str, Any]]
    alone_s: float
    """Of one request, alone, on the slower server."""

    @property
    def name(self) -> str:
        """Of the row, unique."""
        return f"{self.operation.name}, {self.level} in flight"


def prepare(
    servers: Mapping[str, Peer], operations: Sequence[Operation], levels: Sequence[int], directory: Path
) -> tuple[list[Row], dict[str, str]]:
    """Try each operation on both servers, and write the bodies.

    Args:
        servers: by `SIDES`.
        operations: to try.
        levels: requests in flight, for single images and short texts; the others have one level each.
        directory: for the bodies.

    Returns:
        The rows, and for each operation that a server does not offer, the reason.

    Raises:
        PeerFailed: a server does not respond, the other one offers nothing, or ours refuses what the other one offers.
    """
    rows, refused = [], {}
    for number, operation in enumerate(operations):
        alone, specs = 0.0, {}
        try:
            # Theirs first: what theirs does not offer need not be asked of ours.
            for side in reversed(SIDES):
                server = servers[side]
                bodies = operation.bodies(server.interface)
                alone = max(alone, _alone(server, operation, bodies[0]))
                path, files = write(bodies, directory / f"{number}-{side}")
                specs[side] = {
                    "url": server.origin, "path": server.path(path), "files": files, "headers": dict(server.headers),
                    "items": operation.items,
                }  # fmt: skip
        except NotOffered as error:
            if side == "ours":
                raise PeerFailed(f"{servers['ours'].name} refused {operation.name}: {error}") from error
            refused[operation.name] = str(error)
            continue
        several = operation.name in ("image, base64", "new short text")
        chosen = levels if several else (2,) if operation.items > 1 else (8,)
        rows += [Row(operation, level, specs, alone) for level in chosen]
    if not rows:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise PeerFailed(f"{servers['theirs'].name} refuses every request. {reasons}")
    return rows, refused


def _alone(server: Peer, operation: Operation, request: tuple[str, dict[str, Any]]) -> float:
    """Return the seconds of one request, the fastest of a few.

    Raises:
        NotOffered: the server refuses it, or answers with another number of embeddings.
        PeerFailed: it does not respond.
    """
    path, body = request
    texts, took = new_texts(random.randrange(24**4)), []
    for _ in range(_TRIALS):
        filled = _filled(body, texts)
        begun = time.perf_counter()
        if operation.answer:
            rows = server.embed((path, filled))
            if len(rows) != operation.items:
                raise NotOffered(f"{len(rows)} embeddings for {operation.items} items")
        elif (reply := server.send("POST", path, filled)).status != 200:
            raise NotOffered(reply.message)
        took.append(time.perf_counter() - begun)
    return min(took)


def _filled(value: Any, texts: Iterator[str]) -> Any:
    """Put a new text in place of each `@TEXT@` and `@SHORT@`, as the load generator does."""
    if isinstance(value, str):
        return re.sub("@TEXT@|@SHORT@", lambda _: next(texts), value)
    if isinstance(value, dict):
        return {key: _filled(item, texts) for key, item in value.items()}
    return [_filled(item, texts) for item in value] if isinstance(value, list) else value


def rounds(rows: Sequence[Row], load: Worker, effort: Effort, say: Say) -> Iterator[dict[str, dict[str, list[Any]]]]:
    """Yield after each round the results so far, by row and side, one for each round.

    Raises:
        WorkerFailed: the load generator failed, for example because a server no longer takes connections.
    """
    found: dict[str, dict[str, list[Any]]] = {row.name: {side: [] for side in SIDES} for row in rows}
    texts, begun = random.randrange(24**4), time.monotonic()
    for number in range(effort.rounds):
        step = 1 if number % 2 == 0 else -1
        for row in rows[::step]:
            for side in SIDES[::step]:
                texts += _TEXTS_APART
                more = {"texts_from": texts} if row.operation.new_texts else {}
                result = load.request(**row.specs[side], **more, **_length(row, effort))
                found[row.name][side].append(result)
        yield found
        spent = time.monotonic() - begun
        say(f"Round {number + 1} of {effort.rounds} ended after {spent:.0f} s.")
        if spent + spent / (number + 1) > effort.minutes * 60:
            return


def _length(row: Row, effort: Effort) -> dict[str, Any]:
    """Return how long to measure: the usual time, longer for a slow server, or a number of long requests."""
    if row.alone_s * row.level > effort.seconds:  # The edges of a window would cut through such long requests.
        return {"concurrency": row.level, "seconds": 300.0, "requests": 2 * row.level}
    seconds = max(effort.seconds, min(_FEW * row.alone_s, _LONGEST * effort.seconds))
    return {"concurrency": row.level, "seconds": seconds, "warmup": 0.2 + row.alone_s}
