"""What the gateway itself costs: ``python -m deploy.bench.speed.cost``, CPU for each image or text, for sizing it.

The real Triton serves a stand-in of a variant's shapes that takes no time, so that all of the machine is the gateway's.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.bench.harness import processes as cpu
from deploy.bench.harness import stack
from deploy.bench.harness import stub_model as stand_in
from deploy.bench.harness.worker import HelperFailed, python_helper
from deploy.bench.speed import payloads

KINDS: Final = ("image base64", "image raw", "list of 32", "image 12 MP", "text new", "text repeated")
_IN_FLIGHT: Final = 8
_ROLES: Final = ("gateway", "tritonserver")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured. 1: could not."""
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.speed.cost", description=__doc__)
    parser.add_argument("--image-size", type=int, default=336, help="(default: PE-Core-L14-336's, as the others)")
    parser.add_argument("--context-length", type=int, default=32)
    parser.add_argument("--embed-dim", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=3, help="of one measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pe-cost-") as name:
        directory = Path(name)
        made = stand_in.lay(directory / "model", options.image_size, options.context_length, options.embed_dim)
        made.behave(seconds=0)
        try:
            with stack.start(made.repository, directory, stand_in.VARIANT) as served:
                rounds = measure(served, directory, options.seconds, options.rounds)
        except (stack.StackFailed, HelperFailed) as error:
            print(f"cost: {error}", file=sys.stderr)
            return 1
    print(report(rounds))
    return 0


def measure(served: stack.Stack, directory: Path, seconds: float, rounds: int) -> dict[str, list[dict[str, float]]]:
    """ms of one core for each item, by kind of request and round: the gateway's and tritonserver's.

    Raises:
        StackFailed: a request was answered otherwise than by 200.
    """
    written = payloads.write(served, directory)
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with python_helper("harness.load_generator") as load:
        for number in range(rounds):
            for kind in KINDS:
                payload = written.http[kind]
                with cpu.cpu_of({role: served.pids[role] for role in _ROLES}) as spent:
                    answer = load.ask(
                        host=served.host, port=served.port, path=payload.path, kind=payload.kind,
                        files=[str(file) for file in payload.files], items=payload.items, seconds=seconds,
                        concurrency=max(1, _IN_FLIGHT // payload.items),
                        **({"texts_from": number * 100_000} if payload.new_texts else {}),
                    )  # fmt: skip
                if answer["errors"]:
                    raise stack.StackFailed(f"{kind}: answers were {answer['errors']}")
                found[kind].append({role: spent[role] * 1e3 / answer["items_in_all"] for role in _ROLES})
    return found


def report(rounds: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: the median of the rounds, and the range."""
    lines = ["| ms of one core an item | gateway | tritonserver |", "| --- | ---: | ---: |"]
    for kind, each in rounds.items():
        cells = []
        for role in _ROLES:
            values = [row[role] for row in each]
            cells.append(f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
