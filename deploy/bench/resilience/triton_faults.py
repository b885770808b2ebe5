"""Measure faults of Triton: killed, hung, unreachable, or answering wrongly. Each has to give a named error in time."""

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final

from deploy.bench.harness import client, processes
from deploy.bench.harness.figures import Figure, at_most, exactly
from deploy.bench.harness.stack import Stack
from deploy.bench.resilience.health_poll import Poll
from deploy.bench.resilience.testbed import Testbed, serve_stub
from deploy.embedded import ports

_IN_FLIGHT: Final = 16
_RESTART_S: Final = 60.0


def measure(testbed: Testbed) -> list[Figure]:
    """Measure each fault in turn."""
    faults = (_one_killed, _one_of_two, _hung_alone, _unreachable, _wrong_answers)
    return [figure for fault in faults for figure in fault(testbed)]


def triton_of(launcher: int) -> int:
    """Return the process id of the Triton below a `pe-serve`. A restarted Triton has a new one."""
    found = [pid for pid, command in processes.descendants(launcher).items() if "/tritonserver " in command]
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} Tritons below {launcher}")
    return found[0]


def _under_load(testbed: Testbed, url: str, seconds: float, during: Callable[[], None]) -> dict[str, Any]:
    """Run `during` under a closed loop of requests, and return what the load generator reports."""
    body = testbed.directory / "image.json"
    body.write_text(json.dumps({"image": client.grey(128)}))
    spec = {"url": url, "path": client.IMAGE, "files": [str(body)], "concurrency": _IN_FLIGHT, "seconds": seconds}
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(testbed.load.request, **spec)
        during()
        return pending.result()


def _count(load: dict[str, Any]) -> int:
    """Count all responses of a load."""
    errors: dict[str, int] = load["errors"]
    return int(load["requests"]) + sum(errors.values())


def _one_killed(testbed: Testbed) -> list[Figure]:
    """Kill the only Triton with SIGKILL. `pe-serve` restarts it."""
    unready, ready = list[float](), list[float]()

    def kill() -> None:
        for _ in range(testbed.effort.kills):
            time.sleep(1)
            killed = time.monotonic()
            os.kill(triton_of(testbed.stack.launcher), signal.SIGKILL)
            unready.append(gateway.wait(503, killed, 5) - killed)
            restarted = triton.wait(200, gateway.first(503, killed), _RESTART_S)
            ready.append(gateway.wait(200, restarted, 10) - restarted if restarted < float("inf") else float("inf"))

    with Poll(testbed.url) as gateway, Poll(f"http://{testbed.stack.triton_http}", "/v2/health/ready") as triton:
        load = _under_load(testbed, testbed.url, testbed.effort.kills * 4.0, kill)
    others = sum(n for status, n in load["errors"].items() if status != "503")
    after = client.post(testbed.url, client.IMAGE, {"image": client.grey(77)})
    return [
        at_most(f"the only Triton killed under load, {len(unready)} times: /readiness is 503 after", max(unready), 1,
                "s", timed=True),
        at_most("/readiness is 200 again, after Triton is ready, in", max(ready), 2, "s", timed=True),
        exactly("responses other than 200 and 503 in that time", others, 0,
                note=f"{load['errors'].get('503', 0)} of {_count(load)} are 503"),
        exactly("right responses afterwards, of 1, by the same gateway", client.embeds_grey(after, 77), 1),
    ]  # fmt: skip


def _one_of_two(testbed: Testbed) -> list[Figure]:
    """Kill one of two Tritons under load, then stop one and let it continue."""
    with ExitStack() as running:
        # pe-serve gives up at the fifth death of Triton within a minute, and that of the testbed has had some.
        two = [running.enter_context(serve_stub(testbed.directory, f"other-{i}", testbed.stub)) for i in range(2)]
        gateway = running.enter_context(testbed.gateway(*(served.triton_grpc for served in two)))

        def kill() -> None:
            for number in range(testbed.effort.kills):
                time.sleep(1.5)
                os.kill(triton_of(two[number % 2].launcher), signal.SIGKILL)
                _wait_for(two[number % 2])

        def hang() -> None:
            hung = triton_of(two[1].launcher)
            time.sleep(1)
            os.kill(hung, signal.SIGSTOP)
            time.sleep(max(2, testbed.effort.load / 2))
            os.kill(hung, signal.SIGCONT)

        killed = _under_load(testbed, gateway.url, testbed.effort.kills * 6.0, kill)
        hung = _under_load(testbed, gateway.url, testbed.effort.load + 4, hang)
    return [
        exactly(f"one of two Tritons killed with {_IN_FLIGHT} in flight, {testbed.effort.kills} times: failed requests",
                sum(killed["errors"].values()), 0, note=_summary(killed)),
        exactly("one of two Tritons hung (SIGSTOP) and continued: failed requests",
                sum(hung["errors"].values()), 0, note=_summary(hung)),
    ]  # fmt: skip


def _summary(load: dict[str, Any]) -> str:
    errors = ", ".join(f"{n} of status {status}" for status, n in load["errors"].items())
    return f"of {_count(load)}{f': {errors}' if errors else ''}"


def _wait_for(served: Stack) -> None:
    end = time.monotonic() + _RESTART_S
    time.sleep(0.2)
    while client.get(f"http://{served.triton_http}", "/v2/health/ready").status != 200:
        if time.monotonic() > end:
            raise RuntimeError("a killed Triton did not come back")
        time.sleep(0.05)


def _hung_alone(testbed: Testbed) -> list[Figure]:
    """Stop the only Triton for a while. Requests end at their deadlines."""
    triton = triton_of(testbed.stack.launcher)
    image, deadline = {"image": client.grey(60)}, {"X-Request-Timeout": "1"}
    os.kill(triton, signal.SIGSTOP)
    try:
        answers = client.concurrently(8, lambda _: client.post(testbed.url, client.IMAGE, image, deadline))
    finally:
        os.kill(triton, signal.SIGCONT)
    continued = time.monotonic()
    while (right := client.post(testbed.url, client.IMAGE, image)).status != 200 and time.monotonic() < continued + 10:
        time.sleep(0.05)
    back = time.monotonic() - continued
    return [
        exactly("the only Triton hung: responses other than 503 and 504, of 8",
                sum(answer.status not in (503, 504) for answer in answers), 0),
        at_most("to requests with a deadline of 1 s, the last after", max(answer.seconds for answer in answers), 2, "s",
                timed=True),
        at_most("right responses again, after it continues, in", back if right.status == 200 else float("inf"), 2, "s",
                timed=True),
    ]  # fmt: skip


def _unreachable(testbed: Testbed) -> list[Figure]:
    """Start a gateway for an address without a Triton."""
    (port,) = ports.free(1)
    with testbed.gateway(f"{ports.LOOPBACK}:{port}", ready=False) as alone:
        answers = client.concurrently(8, lambda i: client.post(alone.url, client.TEXT, {"text": f"text {i}"}))
        readiness, alive = (client.get(alone.url, path).status for path in ("/readiness", "/healthz"))
    return [
        exactly("no Triton at the address: responses other than 503 with Retry-After, of 8",
                sum(answer.status != 503 or "retry-after" not in answer.headers for answer in answers), 0),
        at_most("the last of them after", max(answer.seconds for answer in answers), 2, "s", timed=True),
        exactly("/readiness then", readiness, 503),
        exactly("/healthz then", alive, 200),
    ]  # fmt: skip


def _wrong_answers(testbed: Testbed) -> list[Figure]:
    """Let the stub model answer wrongly."""
    figures = []
    image = {"image": client.grey(50)}
    for answer, what in (
        ("nan", "NaN"),
        ("shape", "another shape"),
        ("short", "embeddings of another length than 1"),
        ("error", "an error"),
    ):
        testbed.stub.behave(answer=answer)
        answers = client.concurrently(8, lambda _: client.post(testbed.url, client.IMAGE, image))
        others = sum(answer.status != 502 for answer in answers)
        figures.append(
            exactly(f"a model that answers {what}: other than 502, of 8", others, 0, note=_message(answers[0]))
        )
    testbed.stub.behave()
    right = client.post(testbed.url, client.IMAGE, image)
    return [*figures, exactly("right responses afterwards, of 1", client.embeds_grey(right, 50), 1)]


def _message(answer: client.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError):
        return ""
