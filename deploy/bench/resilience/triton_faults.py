"""Faults of Triton: it is killed, hangs, is away, is slow, or answers wrongly. Each is a named error, none a hang."""

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

from deploy.bench.harness import client as asking
from deploy.bench.harness import processes as cpu
from deploy.bench.harness.figures import Figure, at_most, exactly
from deploy.bench.harness.stack import Stack
from deploy.bench.resilience import testbed as beds
from deploy.bench.resilience.readiness import Watch
from deploy.bench.resilience.testbed import Bed
from deploy.embedded import ports

_IN_FLIGHT: Final = 16
_BACK_S: Final = 60.0


def measure(bed: Bed) -> list[Figure]:
    return [
        figure for fault in (_one_killed, _one_of_two, _hung_alone, _refusing, _wrong_answers) for figure in fault(bed)
    ]


def triton_of(launcher: int) -> int:
    """The process id of the Triton below a pe-serve, which changes when it is started again."""
    found = [pid for pid, command in cpu.descendants(launcher).items() if "/tritonserver " in command]
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} Tritons below {launcher}")
    return found[0]


def _loading(bed: Bed, url: str, seconds: float, during: Callable[[], None]) -> dict[str, Any]:
    """What many clients, always waiting for an answer each, got while ``during`` was going on."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = bed.directory / "image.json"
    body.write_bytes(_body())
    spec = {"host": host, "port": int(port), "path": asking.IMAGE, "kind": "application/json", "files": [str(body)]}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(bed.load.ask, **spec, concurrency=_IN_FLIGHT, seconds=seconds)
        during()
        return asked.result()


def _body() -> bytes:
    return json.dumps({"image": asking.image(asking.picture(128))}).encode()


def _one_killed(bed: Bed) -> list[Figure]:
    """The only Triton, by kill -9; pe-serve starts it again."""
    unready, ready = list[float](), list[float]()

    def kill() -> None:
        for _ in range(bed.effort.kills):
            time.sleep(1)
            killed = time.monotonic()
            os.kill(triton_of(bed.stack.launcher), signal.SIGKILL)
            unready.append(gateway.wait(503, killed, 5) - killed)
            back = triton.wait(200, gateway.first(503, killed), _BACK_S)
            ready.append(gateway.wait(200, back, 10) - back if back < float("inf") else float("inf"))

    with Watch(bed.url) as gateway, Watch(f"http://{bed.stack.triton_http}", "/v2/health/ready") as triton:
        got = _loading(bed, bed.url, bed.effort.kills * 4.0, kill)
    statuses = set(got["errors"]) - {"503"}
    after = asking.post(bed.url, asking.IMAGE, {"image": asking.image(asking.picture(77))})
    right = after.status == 200 and asking.is_right(after.json()["embeddings"][0], 77)
    return [
        at_most(f"the only Triton killed under load, {len(unready)} times: /readiness is 503 after", max(unready), 1,
                "s", timed=True),
        at_most("/readiness is 200 after Triton is ready again, in", max(ready), 2, "s", timed=True),
        exactly("answers that are neither 200 nor 503 meanwhile", sum(got["errors"][s] for s in statuses), 0,
                note=f"{got['errors'].get('503', 0)} of {got['requests'] + sum(got['errors'].values())} are 503"),
        exactly("right answers afterwards, of 1, by the same gateway", right, 1),
    ]  # fmt: skip


def _one_of_two(bed: Bed) -> list[Figure]:
    """One of two, with 16 in flight: killed, then hung."""
    with ExitStack() as running:
        # Both their own: a pe-serve gives up at the fifth death within a minute, and that of the bed had some.
        two = [running.enter_context(beds.serving(bed.directory, f"other-{i}", bed.stand_in)) for i in range(2)]
        both = running.enter_context(beds.gateway(bed.directory, two))

        def kill() -> None:
            for number in range(bed.effort.kills):
                time.sleep(1.5)
                os.kill(triton_of(two[number % 2].launcher), signal.SIGKILL)
                _wait_for(two[number % 2])

        def hang() -> None:
            hung = triton_of(two[1].launcher)
            time.sleep(1)
            os.kill(hung, signal.SIGSTOP)
            time.sleep(max(2, bed.effort.load / 2))
            os.kill(hung, signal.SIGCONT)

        killed = _loading(bed, both.url, bed.effort.kills * 6.0, kill)
        hung = _loading(bed, both.url, bed.effort.load + 4, hang)
    return [
        exactly(f"one of two Tritons killed with {_IN_FLIGHT} in flight, {bed.effort.kills} times: failed requests",
                sum(killed["errors"].values()), 0, note=_of(killed)),
        exactly("one of two Tritons hung (SIGSTOP) and going on: failed requests",
                sum(hung["errors"].values()), 0, note=_of(hung)),
    ]  # fmt: skip


def _of(got: dict[str, Any]) -> str:
    errors = ", ".join(f"{n} of status {status}" for status, n in got["errors"].items())
    return f"of {got['requests'] + sum(got['errors'].values())}{f': {errors}' if errors else ''}"


def _wait_for(served: Stack) -> None:
    end = time.monotonic() + _BACK_S
    time.sleep(0.2)
    while asking.get(f"http://{served.triton_http}", "/v2/health/ready").status != 200:
        if time.monotonic() > end:
            raise RuntimeError("a killed Triton did not come back")
        time.sleep(0.05)


def _hung_alone(bed: Bed) -> list[Figure]:
    """The only Triton, stopped for a while: nobody waits longer than they asked to."""
    triton = triton_of(bed.stack.launcher)
    image, patience = {"image": asking.image(asking.picture(60))}, {"X-Request-Timeout": "1"}
    os.kill(triton, signal.SIGSTOP)
    try:
        answers = asking.together(8, lambda _: asking.post(bed.url, asking.IMAGE, image, patience))
    finally:
        os.kill(triton, signal.SIGCONT)
    going = time.monotonic()
    while (right := asking.post(bed.url, asking.IMAGE, image)).status != 200 and time.monotonic() < going + 10:
        time.sleep(0.05)
    back = time.monotonic() - going
    return [
        exactly("the only Triton hung: answers that are neither 503 nor 504, of 8",
                sum(answer.status not in (503, 504) for answer in answers), 0),
        at_most("to requests that may take 1 s, the last after", max(answer.seconds for answer in answers), 2, "s",
                timed=True),
        at_most("right answers again, after it goes on, in", back if right.status == 200 else _BACK_S, 2, "s",
                timed=True),
    ]  # fmt: skip


def _refusing(bed: Bed) -> list[Figure]:
    """No Triton where the setting says one is."""
    (port,) = ports.free(1)
    nowhere = replace(bed.stack, triton_grpc=f"{ports.LOOPBACK}:{port}")
    with beds.gateway(bed.directory, [nowhere], ready=False) as alone:
        answers = asking.together(8, lambda i: asking.post(alone.url, asking.TEXT, {"text": f"text {i}"}))
        readiness, alive = (asking.get(alone.url, path).status for path in ("/readiness", "/healthz"))
    return [
        exactly("no Triton at the address: answers other than 503 with Retry-After, of 8",
                sum(answer.status != 503 or "retry-after" not in answer.headers for answer in answers), 0),
        at_most("the last of them after", max(answer.seconds for answer in answers), 2, "s", timed=True),
        exactly("/readiness then", readiness, 503),
        exactly("/healthz then", alive, 200),
    ]  # fmt: skip


def _wrong_answers(bed: Bed) -> list[Figure]:
    """The stand-in, told to."""
    figures = []
    image = {"image": asking.image(asking.picture(50))}
    for how, what in (
        ("nan", "numbers that are none"),
        ("shape", "another shape"),
        ("short", "embeddings of another length than 1"),
        ("error", "an error"),
    ):
        bed.stand_in.behave(answer=how)
        answers = asking.together(8, lambda _: asking.post(bed.url, asking.IMAGE, image))
        odd = sum(answer.status != 502 for answer in answers)
        figures.append(exactly(f"a model that answers {what}: other than 502, of 8", odd, 0, note=_words(answers[0])))
    bed.stand_in.behave()
    right = asking.post(bed.url, asking.IMAGE, image)
    is_right = right.status == 200 and asking.is_right(right.json()["embeddings"][0], 50)
    return [*figures, exactly("right answers afterwards, of 1", is_right, 1)]


def _words(answer: asking.Answer) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError):
        return ""
