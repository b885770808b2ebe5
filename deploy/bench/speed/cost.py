"""Measure the gateway's own CPU per image or text, for sizing: `python -m deploy.bench.speed.cost`.

The real Triton serves a stub model of a variant's shapes that takes no time, so that the gateway has the machine to
itself.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.bench.harness import processes, stack, stub_model, worker
from deploy.bench.harness.figures import table
from deploy.bench.harness.spread import spread
from deploy.bench.speed import payloads

KINDS: Final = ("image base64", "image raw", "list of 32", "image 12 MP", "text new", "text repeated")
_IN_FLIGHT: Final = 8
_ROLES: Final = ("gateway", "tritonserver")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table.

    Returns:
        0: measured. 1: something failed.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.speed.cost", description=__doc__)
    parser.add_argument("--image-size", type=int, default=336, help="(default: PE-Core-L14-336's, as the others)")
    parser.add_argument("--context-length", type=int, default=32)
    parser.add_argument("--embed-dim", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=3, help="of one measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pe-cost-") as name:
        directory = Path(name)
        stub = stub_model.write(directory / "model", options.image_size, options.context_length, options.embed_dim)
        stub.behave(seconds=0)
        try:
            with stack.start(stub.repository, directory, stub_model.VARIANT) as served:
                rounds = measure(served, directory, options.seconds, options.rounds)
        except (stack.StackFailed, worker.WorkerFailed) as error:
            print(f"cost: {error}", file=sys.stderr)
            return 1
    print(report(rounds))
    return 0


def measure(served: stack.Stack, directory: Path, seconds: float, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Measure ms of one core per item, of the gateway and of tritonserver, for each kind of request.

    Raises:
        StackFailed: a response was not 200.
    """
    written = payloads.write(served, directory)
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with worker.load_generator() as load:
        for number in range(rounds):
            for kind in KINDS:
                payload = written.http[kind]
                with processes.cpu_of({role: served.pids[role] for role in _ROLES}) as spent:
                    result = load.request(
                        url=served.url, path=payload.path, kind=payload.kind,
                        files=[str(file) for file in payload.files], items=payload.items, seconds=seconds,
                        concurrency=max(1, _IN_FLIGHT // payload.items),
                        texts_from=number * 100_000 if payload.new_texts else None,
                    )  # fmt: skip
                if result["errors"]:
                    raise stack.StackFailed(f"{kind}: responses were {result['errors']}")
                found[kind].append({role: spent[role] * 1e3 / result["items_in_all"] for role in _ROLES})
    return found


def report(rounds: dict[str, list[dict[str, float]]]) -> str:
    """Write a Markdown table of medians and ranges."""
    rows = [[kind, *(f"{spread([row[role] for row in each]):.2f}" for role in _ROLES)] for kind, each in rounds.items()]
    return table(["ms of one core per item", *_ROLES], rows)


if __name__ == "__main__":
    sys.exit(main())
