"""Measure the gateway's own CPU per image or text, for sizing: `python -m deploy.bench.speed.cost`.

The real Triton serves a stub model of a variant's shapes that takes no time, so that the gateway has the machine to
itself. The event loop is one thread and bounds what one gateway process carries. Its other threads are gRPC's. Images
are decoded in processes of their own. `bare grpc` is a route with one bare gRPC call. `bare text` also does what every
gateway for texts has to do, so it is the least that one could cost (`bare_routes.py`).
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from deploy.bench.harness import processes, stack, stub_model, worker
from deploy.bench.harness.arguments import positive_number, whole_number
from deploy.bench.harness.figures import table
from deploy.bench.harness.spread import ratio, spread
from deploy.bench.speed import payloads
from deploy.bench.speed.schedule import bare_routes

BARE: Final = "bare grpc"
FLOOR: Final = "bare text"
NEW_TEXT: Final = "text new"
IMAGES: Final = ("image base64", "image raw", "list of 32", "image 12 MP")
KINDS: Final = (*IMAGES, NEW_TEXT, FLOOR, BARE, "text repeated")
PARTS: Final = ("event loop", "its other threads", "decoders", "tritonserver")
_IN_FLIGHT: Final = 8
# Beyond it, queues grow faster than throughput.
_BUSY: Final = 0.7

Rounds = dict[str, list[dict[str, float]]]
"""By kind of request: of each round, the ms of one core per item by part, and the items per second."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables.

    Returns:
        0: measured. 1: something failed.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.speed.cost", description=__doc__)
    parser.add_argument(
        "--image-size", type=whole_number, default=336, help="(default: PE-Core-L14-336's, as the others)"
    )
    parser.add_argument("--context-length", type=whole_number, default=32)
    parser.add_argument("--embed-dim", type=whole_number, default=1024)
    parser.add_argument("--seconds", type=positive_number, default=3, help="of one measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=whole_number, default=3, help="(default: %(default)s)")
    parser.add_argument("--images-per-s", type=whole_number, default=1500, help="to size for (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pe-cost-") as name:
        directory = Path(name)
        stub = stub_model.write(directory / "model", options.image_size, options.context_length, options.embed_dim)
        stub.behave(seconds=0)
        try:
            with stack.start(stub.repository, directory, stub_model.VARIANT, ["--workers", "1"]) as served:
                rounds = measure(served, directory, options.seconds, options.rounds)
        except (stack.StackFailed, worker.WorkerFailed) as error:
            print(f"cost: {error}", file=sys.stderr)
            return 1
    print(report(rounds))
    print()
    print(sizing(rounds, options.images_per_s))
    return 0


def measure(served: stack.Stack, directory: Path, seconds: float, rounds: int) -> Rounds:
    """Measure each kind of request. Every second round runs in reverse.

    Raises:
        StackFailed: a response was not 200.
        WorkerFailed: the load generator or the bare routes failed.
    """
    written = payloads.write(served, directory)
    found: Rounds = {kind: [] for kind in KINDS}
    with ExitStack() as running:
        load = running.enter_context(worker.load_generator())
        bare_url, bare_pid = running.enter_context(bare_routes(served, written, directory))
        for number in range(rounds):
            for place, kind in enumerate(KINDS if number % 2 == 0 else KINDS[::-1]):
                payload = written.http[kind]
                url, gateway = (
                    (bare_url, bare_pid) if kind in (BARE, FLOOR) else (served.url, served.pids["gateway"][0])
                )
                before = _spent(gateway, served)
                result = load.request(
                    url=url, path=payload.path, kind=payload.kind,
                    files=[str(file) for file in payload.files], items=payload.items, seconds=seconds,
                    concurrency=max(1, _IN_FLIGHT // payload.items),
                    texts_from=(number * len(KINDS) + place) * 10_000 if payload.new_texts else None,
                )  # fmt: skip
                after = _spent(gateway, served)
                if result["errors"]:
                    raise stack.StackFailed(f"{kind}: responses were {result['errors']}")
                parts = {part: (after[part] - before[part]) * 1e3 / result["items_in_all"] for part in PARTS}
                found[kind].append({**parts, "items/s": result["items_per_s"]})
    return found


def _spent(gateway: int, served: stack.Stack) -> dict[str, float]:
    """Return the CPU seconds so far, by part."""
    loop = processes.main_thread_seconds(gateway)
    seconds = (
        loop,
        processes.cpu_seconds(gateway) - loop,
        sum(map(processes.cpu_seconds, processes.descendants(gateway))),
        sum(map(processes.cpu_seconds, served.pids["tritonserver"])),
    )
    return dict(zip(PARTS, seconds, strict=True))


def report(rounds: Rounds) -> str:
    """Write a Markdown table of medians and ranges."""
    columns = (*PARTS, "items/s")
    rows = [
        [kind, *(f"{spread([row[name] for row in each]):{'.0f' if name == 'items/s' else '.3f'}}" for name in columns)]
        for kind, each in rounds.items()
    ]
    gateway = {kind: [sum(row[part] for part in PARTS[:3]) for row in each] for kind, each in rounds.items()}
    lines = [table(["ms of one core per item", *columns], rows), ""]
    for kind, other in ((NEW_TEXT, BARE), (NEW_TEXT, FLOOR), (FLOOR, BARE)):
        if found := ratio(gateway.get(kind, []), gateway.get(other, [])):
            lines.append(f"`{kind}` takes {found:.2f} times the CPU of `{other}`.")
    return "\n".join(lines).rstrip()


def sizing(rounds: Rounds, images_per_s: int) -> str:
    """Write a Markdown table of what a rate of images takes, with everything 70 % busy."""
    rows = []
    for kind in IMAGES:
        loop, threads, decoders, triton = (
            spread([row[part] * images_per_s / 1e3 / _BUSY for row in rounds[kind]]) for part in PARTS
        )
        if loop and threads and decoders and triton:
            cores = loop.median + threads.median + decoders.median
            rows.append(
                [kind, str(math.ceil(loop.median)), f"{cores:.1f}", f"{decoders.median:.1f}", f"{triton.median:.1f}"]
            )
    head = [
        f"{images_per_s} images/s",
        "gateway processes",
        "their cores",
        "of these, decoders",
        "tritonserver's cores",
    ]
    return table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
