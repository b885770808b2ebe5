"""`pe-bench tune`: find the instances, batch size and queue delay with which a Triton serves most."""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness import photographs, processes
from deploy.bench.harness.arguments import output_folder, positive_number, whole_number, whole_numbers
from deploy.bench.harness.figures import table
from deploy.bench.harness.spread import spread
from deploy.bench.harness.stack import StackFailed
from deploy.bench.speed import perf_analyzer
from deploy.bench.tuning import embedded
from deploy.bench.tuning.control import ControlFailed, ModelControl
from deploy.bench.tuning.sweep import Effort, Row, Served, recommend, sweep
from deploy.bench.tuning.tower_inputs import write
from deploy.embedded.errors import LaunchError
from deploy.embedded.installation import CHECKOUT
from deploy.embedded.wording import error_message

_REPOSITORY: Final = CHECKOUT / "model_repository"
_EPILOG: Final = """\
Without --triton it starts the embedded Triton. For Triton in a container, start one for this purpose, with your
repository, and name its gRPC port:

  tritonserver --model-repository=... --model-control-mode=explicit --load-model='*'
  pe-bench tune --triton 127.0.0.1:8001
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and a recommendation for each tower, and write both down.

    Returns:
        0: measured. 2: nothing could be measured. 130: interrupted.
    """
    options = _parse(arguments)
    # SIGTERM ends the run as Ctrl-C does, so that all processes that it started are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    effort = Effort(options.rounds, options.seconds, options.concurrency)
    try:
        perf_analyzer.find()
        with tempfile.TemporaryDirectory(prefix="pe-tune-") as name, _triton(options, Path(name)) as triton:
            results = _measure(options, triton, effort, Path(name))
    except LaunchError as error:
        print(f"pe-bench tune: {error_message(error)}", file=sys.stderr)
        return 2
    except (StackFailed, ControlFailed, perf_analyzer.PerfAnalyzerFailed, OSError, ValueError) as error:
        print(f"pe-bench tune: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pe-bench tune: interrupted; nothing was written", file=sys.stderr)
        return 130
    text = markdown(results)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "tune.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.output / "tune.md").write_text(text)
    print(text, end="")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pe-bench tune",
        description="Find the instances, batch size and queue delay with which a Triton serves most.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--triton", metavar="HOST:PORT", help="gRPC address of a Triton in the mode `explicit`")
    parser.add_argument("--repository", type=Path, default=_REPOSITORY, help="for the embedded Triton")
    parser.add_argument("--variant", help="if several are served (default: the first)")
    parser.add_argument("--towers", type=_towers, default=("vision", "text"), help="default: vision,text")
    parser.add_argument("--instances", type=whole_numbers, default=(1, 2), help="default: 1,2")
    parser.add_argument("--batch-sizes", type=whole_numbers, default=(8, 16, 32, 64), help="default: 8,16,32,64")
    parser.add_argument("--delays", type=_delays, default=(0, 500, 2000), help="microseconds (default: 0,500,2000)")
    parser.add_argument(
        "--concurrency", type=whole_number, default=64, help="requests in flight (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=positive_number, default=5, help="of one measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=whole_number, default=3, help="default: %(default)s")
    parser.add_argument("--output", type=output_folder, default=Path("benchmark"), help="folder (default: %(default)s)")
    return parser.parse_args(arguments)


def _delays(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(0 if delay == "0" else whole_number(delay) for delay in text.split(",")))


def _towers(text: str) -> tuple[str, ...]:
    towers = tuple(dict.fromkeys(text.split(",")))
    if not set(towers) <= {"vision", "text"}:
        raise argparse.ArgumentTypeError("the towers are vision and text")
    return towers


@contextmanager
def _triton(options: argparse.Namespace, directory: Path) -> Iterator[str]:
    if options.triton:
        yield options.triton
        return
    (folder := directory / "triton").mkdir()
    with embedded.serve(options.repository.absolute(), folder) as target:
        yield target


def _measure(options: argparse.Namespace, triton: str, effort: Effort, directory: Path) -> dict[str, Any]:
    choices = (options.instances, options.batch_sizes, options.delays)
    sections = []
    with ModelControl(triton) as control:
        variants = [name.removesuffix("-vision") for name in control.models() if name.endswith("-vision")]
        variant = options.variant or next(iter(variants), "")
        if variant not in variants:
            raise ControlFailed(f"{triton} serves {', '.join(variants) or 'no variant'}, and not {variant or 'one'}")
        for tower in options.towers:
            model = f"{variant}-{tower}"
            data = write(control.config(model), directory)
            rows = sweep(Served(control, triton, model, data, directory), effort, choices, _say)
            sections.append({"model": model, "rows": _json(rows), "recommendation": _advice(rows)})
    return {
        "machine": processes.machine(),
        "rounds": effort.rounds,
        "seconds": effort.seconds,
        "concurrency": effort.concurrency,
        "pictures": photographs.photographs()[1],
        "models": sections,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    present = rows[0]
    return [
        {
            "setting": vars(row.setting),
            "rates": row.rates,
            "p99_ms": row.p99_ms,
            "alone_ms": row.alone_ms,
            "refused": row.refused,
            "cells": [str(row.setting), *([row.refused, "", "", ""] if row.refused else _cells(row, present))],
        }
        for row in rows
    ]


def _cells(row: Row, present: Row) -> list[str]:
    gain = row.gain(present)
    return [
        f"{spread(row.rates):.1f}",
        "" if row is present or gain is None else f"{gain:.2f}",
        f"{spread(row.p99_ms):.1f}",
        f"{spread(row.alone_ms):.1f}",
    ]


def _advice(rows: Sequence[Row]) -> str:
    chosen = recommend(rows)
    if chosen is None:
        return f"Keep {rows[0].setting}: no other setting was faster in every round."
    setting = chosen.setting
    return (
        f"Use {setting}: {chosen.gain(rows[0]):.2f} of the present rate. In config.pbtxt: "
        f"`instance_group.count: {setting.instances}`, `max_batch_size: {setting.max_batch_size}`, "
        f"`dynamic_batching.max_queue_delay_microseconds: {setting.delay_us}`."
    )


def markdown(results: dict[str, Any]) -> str:
    """Write the tables and recommendations."""
    head = ("instances x batch, delay", "items/s", "of the present rate", "p99 ms", "p50 ms alone")
    parts = [
        f"# Settings of Triton's models\n\n{results['concurrency']} requests in flight, {results['rounds']} rounds of "
        f"{results['seconds']:g} s. The first row of a table is the present setting.\n"
    ]
    for section in results["models"]:
        parts.append(f"## {section['model']}\n\n{table(head, [row['cells'] for row in section['rows']])}\n")
        parts.append(f"{section['recommendation']}\n")
    return "\n".join(parts)
