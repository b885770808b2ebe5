"""Measure the highest rate that is served without a refusal, and the behaviour at ten times that rate."""

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from deploy.bench.harness import client, photographs, stack
from deploy.bench.harness.client import Response
from deploy.bench.harness.figures import Figure, at_least, at_most, exactly, observed
from deploy.bench.harness.stack import Stack
from deploy.bench.resilience.testbed import LIMIT, Testbed

OVERLOAD: Final = 10
_STEP: Final = 0.97
_TRIES: Final = 8
# A real model on a CPU answers a few images per second. This many in flight can be answered within a few seconds.
_REAL_LIMIT: Final = 16
_SLOWER: Final = 5.0
_IN_A_LIST: Final = 4


def measure(testbed: Testbed) -> list[Figure]:
    """Measure the stub model, whose capacity is known."""
    return _measure(testbed, testbed.stack, {"image": client.grey(128)}, LIMIT, testbed.effort.guess)


def measure_real(testbed: Testbed) -> list[Figure]:
    """Measure a variant of the given repository. Unlike the stub model, its computation competes for CPU."""
    if testbed.repository is None:
        return []
    folder = testbed.directory / "real"
    folder.mkdir()
    pictures, source = photographs.photographs()
    image = client.image_json(photographs.jpeg(pictures[0], photographs.SMALL))
    with stack.start(testbed.repository, folder, None, environment={"PE_MAX_IN_FLIGHT": str(_REAL_LIMIT)}) as served:
        testbed.say(f"  {served.variant}, with {source}")
        body = {"image": image, "perception_encoder_version_id": served.variant}
        return _measure(testbed, served, body, _REAL_LIMIT, _SLOWER * testbed.effort.guess)


def _measure(testbed: Testbed, served: Stack, body: dict[str, Any], limit: int, guess: float) -> list[Figure]:
    seconds, name = testbed.effort.window, served.variant
    file = testbed.directory / f"{name}.json"
    file.write_text(json.dumps(body))
    spec: dict[str, Any] = {"url": served.url, "path": client.IMAGE, "files": [str(file)]}
    # The first responses of a slow model come late, because its queue has to fill first.
    warmup = max(1.0, guess / 2)
    busy = {**spec, "concurrency": limit * 3 // 4, "seconds": max(2.0, guess), "warmup": warmup}
    peak = testbed.load.request(**busy)["items_per_s"]
    at_capacity = _highest(testbed, spec, peak, seconds, guess)
    capacity = at_capacity["rate"]
    testbed.say(f"  {capacity:.1f} requests/s without a refusal, of {peak:.1f} with {limit * 3 // 4} in flight always")
    overload = {**spec, "concurrency": limit, "seconds": seconds, "warmup": warmup, "rate": OVERLOAD * capacity}
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(testbed.load.request, **overload, seed=7)
        time.sleep(warmup)
        lists, in_time = _send_lists(served, body, seconds)
        over = pending.result()
    # The speed of a shared machine varies. The baseline of the goodput is measured before and after the overload.
    best = statistics.mean((peak, testbed.load.request(**busy)["items_per_s"]))
    # The images of the lists count as goodput too. For a slow model they are a large part.
    goodput = over["items_per_s"] + _IN_A_LIST * in_time / seconds
    refused, generator = over["refused_ms"], over["generator"]
    others = sum(n for status, n in over["errors"].items() if status != "429")
    lists_refused = [answer for answer in lists if answer.status == 429]
    return [
        observed("capacity: Poisson arrivals without a refusal", capacity, "/s", note=f"{name}, for {seconds:g} s"),
        observed(f"highest rate in a closed loop; the limit is {limit} in flight", best, "/s",
                 note="mean of before and after the overload"),
        observed("p99 at capacity", at_capacity["ms"]["p99"], "ms"),
        at_least(f"goodput at {OVERLOAD} times capacity / highest rate", goodput / best, 0.9, "x", timed=True,
                 note=name),
        at_most(
            f"p99 of what is served at {OVERLOAD} times capacity / p99 at capacity",
            over["ms"]["p99"] / at_capacity["ms"]["p99"], 3, "x", timed=True,
            note=f"{name}: {over['ms']['p99']:.0f} ms",
        ),
        at_most("refusal, p99", refused["p99"], 50, "ms", timed=True, note=f"{name}: p50 {refused['p50']:.1f} ms"),
        exactly("responses at overload other than 200 and 429", others, 0),
        exactly(f"lists of {_IN_A_LIST} during the overload: other than 200 and 429",
                sum(a.status not in (200, 429) for a in lists), 0,
                note=f"{len(lists_refused)} of {len(lists)} refused"),
        exactly("refusals without Retry-After", sum("retry-after" not in a.headers for a in lists_refused), 0),
        observed("lateness of the load generator, p99", generator["lag_p99_ms"], "ms",
                 note=generator["bottleneck"] or f"{generator['cores']:.2f} of a core: not the bottleneck"),
    ]  # fmt: skip


def _highest(testbed: Testbed, spec: dict[str, Any], peak: float, seconds: float, guess: float) -> dict[str, Any]:
    """Find the highest rate without errors: short runs narrow it down, long runs decide. Return the last run."""
    low, high = 0.4 * peak, peak
    for _ in range(4):
        rate = (low + high) / 2
        if _run(testbed, spec, rate, guess)["errors"]:
            high = rate
        else:
            low = rate
    rate = low
    for _ in range(_TRIES):
        found = _run(testbed, spec, rate, seconds)
        if not found["errors"]:
            break
        testbed.say(f"  {rate:.1f}/s: {found['errors']}")
        rate *= _STEP
    return found


def _run(testbed: Testbed, spec: dict[str, Any], rate: float, seconds: float) -> dict[str, Any]:
    return testbed.load.request(**spec, concurrency=8, seconds=seconds, rate=rate, seed=int(rate)) | {"rate": rate}


def _send_lists(served: Stack, body: dict[str, Any], seconds: float) -> tuple[list[Response], int]:
    """Send ten lists of images per second during the overload. Return the responses, and how many succeeded in time."""
    several = {**body, "image": [body["image"]] * _IN_A_LIST}
    begun = time.monotonic()
    answers, in_time = list[Response](), 0
    time.sleep(seconds * 0.1)
    while time.monotonic() < begun + seconds * 0.8:
        answer = client.post(served.url, client.IMAGE, several)
        in_time += answer.status == 200 and time.monotonic() <= begun + seconds
        answers.append(answer)
        time.sleep(0.1)
    return answers, in_time
