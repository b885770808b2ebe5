"""Load: the highest rate that is answered without a refusal, and what ten times that rate does to it."""

import json
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness import client as asking
from deploy.bench.harness import photographs as pictures
from deploy.bench.harness import stack
from deploy.bench.harness.client import Answer
from deploy.bench.harness.figures import Figure, at_least, at_most, exactly, told
from deploy.bench.harness.stack import Stack
from deploy.bench.resilience.testbed import LIMIT, Bed

OVERLOAD: Final = 10
_STEP: Final = 0.97
_TRIES: Final = 8
# A real model on a CPU answers a few images a second: as many in flight as it can answer within a few seconds.
_REAL_LIMIT: Final = 16
_SLOWER: Final = 5.0
_IN_A_LIST: Final = 4


def measure(bed: Bed) -> list[Figure]:
    body = bed.directory / "image.json"
    body.write_bytes(_json(asking.image(asking.picture(128))))
    return _measure(bed, bed.stack, body, LIMIT, bed.effort.guess)


def measure_real(bed: Bed) -> list[Figure]:
    """The same on a variant of a repository that was given, which does not stand still while it computes."""
    if bed.repository is None:
        return []
    place = bed.directory / "real"
    place.mkdir()
    photographs, source = pictures.pictures()
    body = place / "image.json"
    with stack.start(bed.repository, place, None, environment={"PE_MAX_IN_FLIGHT": str(_REAL_LIMIT)}) as served:
        bed.say(f"  {served.variant}, with {source}")
        photograph = asking.image(pictures.jpeg(photographs[0], pictures.SMALL))
        body.write_bytes(_json(photograph, perception_encoder_version_id=served.variant))
        return _measure(bed, served, body, _REAL_LIMIT, _SLOWER * bed.effort.guess)


def _json(image: Mapping[str, str], **fields: str) -> bytes:
    return json.dumps({"image": image, **fields}).encode()


def _measure(bed: Bed, served: Stack, body: Path, limit: int, guess: float) -> list[Figure]:
    seconds = bed.effort.window
    what = {"host": served.host, "port": served.port, "path": asking.IMAGE, "kind": "application/json"}
    spec: dict[str, Any] = {**what, "files": [str(body)]}
    # A slow model's first answers come late: its queue has to fill first.
    warmup = max(1.0, guess / 2)
    busy = {**spec, "concurrency": limit * 3 // 4, "seconds": max(2.0, guess), "warmup": warmup}
    peak = bed.load.ask(**busy)["items_per_s"]
    at = _highest(bed, spec, peak, seconds, guess)
    capacity = at["rate"]
    bed.say(f"  {capacity:.1f} requests/s without a refusal, of {peak:.1f} with {limit * 3 // 4} in flight always")
    with ThreadPoolExecutor(1) as pool:
        rate = OVERLOAD * capacity
        asked = pool.submit(
            bed.load.ask, **spec, concurrency=limit, seconds=seconds, warmup=warmup, rate=rate, seed=7
        )  # fmt: skip
        time.sleep(warmup)
        lists, in_time = _lists_meanwhile(served, body, seconds)
        over = asked.result()
    # A shared machine is not as fast all the time: what goodput is held against was measured on both sides of it.
    best = statistics.mean((peak, bed.load.ask(**busy)["items_per_s"]))
    # The lists' images are answers, too: of a slow model's they are a large part.
    goodput = over["items_per_s"] + _IN_A_LIST * in_time / seconds
    refused, generator = over["refused_ms"], over["generator"]
    name = served.variant
    others = sum(n for status, n in over["errors"].items() if status != "429")
    lists_refused = [answer for answer in lists if answer.status == 429]
    return [
        told("capacity: Poisson arrivals without a refusal", capacity, "/s",
             note=f"{name}, for {seconds:g} s"),
        told(f"the most that it answers, always busy; {limit} may be in flight", best, "/s",
             note="mean of before and after overload"),
        told("p99 at capacity", at["ms"]["p99"], "ms"),
        at_least(f"goodput at {OVERLOAD} times capacity / the most", goodput / best, 0.9, "x", timed=True,
                 note=name),
        at_most(
            f"p99 of what is answered at {OVERLOAD} times capacity / p99 at capacity",
            over["ms"]["p99"] / at["ms"]["p99"], 3, "x", timed=True, note=f"{name}: {over['ms']['p99']:.0f} ms",
        ),
        at_most("refusal, p99", refused["p99"], 50, "ms", timed=True, note=f"{name}: p50 {refused['p50']:.1f} ms"),
        exactly("answers at overload that are neither 200 nor 429", others, 0),
        exactly(f"lists of {_IN_A_LIST} meanwhile that are neither", sum(a.status not in (200, 429) for a in lists), 0,
                note=f"{len(lists_refused)} of {len(lists)} refused"),
        exactly("refusals without Retry-After", sum("retry-after" not in a.headers for a in lists_refused), 0),
        told("the generator's own lateness, p99", generator["lag_p99_ms"], "ms",
             note=generator["bottleneck"] or f"{generator['cores']:.2f} of a core: not the bottleneck"),
    ]  # fmt: skip


def _highest(bed: Bed, spec: Mapping[str, Any], peak: float, seconds: float, guess: float) -> dict[str, Any]:
    """The run at the highest rate found, with that rate. Short runs say where to look, long ones decide."""
    low, high = 0.4 * peak, peak
    for _ in range(4):
        rate = (low + high) / 2
        if _run(bed, spec, rate, guess)["errors"]:
            high = rate
        else:
            low = rate
    rate = low
    for _ in range(_TRIES):
        found = _run(bed, spec, rate, seconds)
        if not found["errors"]:
            break
        bed.say(f"  {rate:.1f}/s: {found['errors']}")
        rate *= _STEP
    return found


def _run(bed: Bed, spec: Mapping[str, Any], rate: float, seconds: float) -> dict[str, Any]:
    return bed.load.ask(**spec, concurrency=8, seconds=seconds, rate=rate, seed=int(rate)) | {"rate": rate}


def _lists_meanwhile(served: Stack, body: Path, seconds: float) -> tuple[list[Answer], int]:
    """What requests for lists of images get, ten a second, while the others come; and how many are right in time."""
    one = body.read_bytes()
    image = one[one.index(b"{", 1) : one.index(b"}") + 1]
    several = one.replace(image, b"[" + b",".join([image] * _IN_A_LIST) + b"]")
    begun = time.monotonic()
    answers, in_time = list[Answer](), 0
    time.sleep(seconds * 0.1)
    while time.monotonic() < begun + seconds * 0.8:
        answer = asking.ask(served.url, "POST", asking.IMAGE, several, {"Content-Type": "application/json"})
        in_time += answer.status == 200 and time.monotonic() <= begun + seconds
        answers.append(answer)
        time.sleep(0.1)
    return answers, in_time
