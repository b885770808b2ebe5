"""Measure other clients' responses while image URLs lead to a server that hangs, or one client takes all it can get."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from deploy.bench.harness import client
from deploy.bench.harness.client import Response
from deploy.bench.harness.figures import Figure, at_most, exactly, observed
from deploy.bench.resilience.testbed import LIMIT, Testbed

_HANGING: Final = 2 * LIMIT
_OTHERS: Final = 10
_SLOWEST_S: Final = 1.0
_URL_TIMEOUT_S: Final = 10
_GREEDY: Final = 2 * LIMIT
_GREEDY_PAUSE_S: Final = 0.1
_SLOW_BATCH_S: Final = 0.2
# The gateway believes this header from loopback, so that one machine can be two clients.
_GREEDY_CLIENT: Final = {"X-Forwarded-For": "203.0.113.1"}
_OTHER_CLIENT: Final = {"X-Forwarded-For": "203.0.113.2"}
_URLS_ALLOWED: Final[dict[str, Any]] = {
    "ALLOW_NON_HTTPS_URL_INPUT": "True",
    "ALLOW_URL_INPUT_WITHOUT_FQDN": "True",
    "ALLOW_URL_TO_NON_GLOBAL_ADDRESSES": "True",
    "PE_URL_TIMEOUT_SECONDS": str(_URL_TIMEOUT_S),
}


def measure(testbed: Testbed) -> list[Figure]:
    """Measure against a gateway of its own that may fetch from loopback."""
    with testbed.gateway(**_URLS_ALLOWED) as gateway, _server_that_hangs() as hanging:
        image = {"type": "url", "value": hanging}
        return [
            *_beside(gateway.url, f"{_HANGING} images at URLs that hang", [{"image": image}] * _HANGING),
            *_beside(gateway.url, "a list of 64 images at URLs that hang", [{"image": [image] * 64}]),
            *_beside_a_greedy_client(testbed, gateway.url),
        ]


@contextlib.contextmanager
def _server_that_hangs() -> Iterator[str]:
    """Accept connections in the kernel, and never answer. Return an URL of the server."""
    with socket.create_server(("127.0.0.1", 0), backlog=4 * LIMIT) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/image.png"


@contextlib.contextmanager
def _sent(count: int, send: Callable[[int], Response]) -> Iterator[list[Future[Response]]]:
    """Send requests at the same time, and wait for their responses at the end of the block."""
    with ThreadPoolExecutor(count) as pool:
        yield [pool.submit(send, i) for i in range(count)]


def _beside(url: str, what: str, bodies: list[dict[str, Any]]) -> list[Figure]:
    """Send the bodies in halves of the limit, and ordinary requests beside them."""
    with contextlib.ExitStack() as stack:
        pending: list[Future[Response]] = []
        for i in range(0, len(bodies), LIMIT // 2):
            half = bodies[i : i + LIMIT // 2]
            pending += stack.enter_context(
                _sent(len(half), lambda j, half=half: client.post(url, client.IMAGE, half[j]))  # type: ignore[misc]
            )
            time.sleep(0.5)
        others = [
            client.post(url, client.TEXT, {"text": f"{what} {i}"})
            if i % 2
            else client.post(url, client.IMAGE, {"image": client.grey(i)})
            for i in range(_OTHERS)
        ]
        hung = sum(not request.done() for request in pending)
    refused = sum(request.result().status == 429 for request in pending)
    return [
        exactly(f"{what}: others' responses other than 200", sum(a.status != 200 for a in others), 0,
                note=f"of {len(others)}, while {hung} of {len(bodies)} hung"),
        at_most("slowest of them", max(answer.seconds for answer in others), _SLOWEST_S, "s", timed=True),
        exactly("requests to servers that hang: refused", refused, 0),
    ]  # fmt: skip


def _beside_a_greedy_client(testbed: Testbed, url: str) -> list[Figure]:
    testbed.stub.behave(seconds=_SLOW_BATCH_S)
    body = {"image": client.grey(20)}
    over = threading.Event()

    def greedy(_: int) -> list[Response]:
        answers = []
        while not over.is_set():
            answers.append(client.post(url, client.IMAGE, body, _GREEDY_CLIENT))
            time.sleep(_GREEDY_PAUSE_S)
        return answers

    with ThreadPoolExecutor(_GREEDY) as pool:
        pending = [pool.submit(greedy, i) for i in range(_GREEDY)]
        time.sleep(1)
        others = client.concurrently(_OTHERS, lambda _: client.post(url, client.IMAGE, body, _OTHER_CLIENT))
        over.set()
    testbed.stub.behave()
    answers = [answer for request in pending for answer in request.result()]
    return [
        exactly(f"a client with {_GREEDY} requests at once: {_OTHERS} of another client, refused",
                sum(answer.status == 429 for answer in others), 0),
        exactly("of both, other than 200 and 429",
                sum(answer.status not in (200, 429) for answer in (*answers, *others)), 0),
        observed("of the first client, refused", sum(answer.status == 429 for answer in answers),
                 note=f"of {len(answers)}"),
    ]  # fmt: skip
