"""`pe-bench speed`: measure the served stack beside the machine's limits, or another server."""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deploy.bench.against import command as against
from deploy.bench.against import comparison_table
from deploy.bench.against.peer import PeerFailed
from deploy.bench.harness import flops, processes, stack
from deploy.bench.harness.arguments import output_folder, positive_number, whole_number
from deploy.bench.harness.figures import rounded
from deploy.bench.harness.worker import WorkerFailed
from deploy.bench.speed import payloads, perf_analyzer, plots, report, schedule
from deploy.embedded.installation import CHECKOUT


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write all results after every round, and print the summary.

    Returns:
        0: measured. 1: something failed. 130: interrupted.
    """
    options = _parse(arguments)
    # SIGTERM ends the run as Ctrl-C does, so that all processes that it started are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.render:
        try:
            results = json.loads(options.render.read_text())
        except (OSError, ValueError) as error:
            print(f"pe-bench: --render takes the JSON file of a run: {options.render}: {error}", file=sys.stderr)
            return 1
        _write(results, options.render.parent, options.render.stem)
        return 0
    written: list[Path] = []
    try:
        for results in _measure_against(options) if options.against else _measure(options):
            # Written after every round, so that an interruption loses only the round that it interrupts.
            written = [_keep(results, options)]
    except (stack.StackFailed, WorkerFailed, perf_analyzer.PerfAnalyzerFailed, PeerFailed) as error:
        print(f"pe-bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = f"what was measured before is in {written[0]}" if written else "nothing was written"
        print(f"pe-bench: interrupted; {kept}", file=sys.stderr)
        return 130
    print(written[0].read_text())
    return 0


def _keep(results: dict[str, Any], options: argparse.Namespace) -> Path:
    """Write all files of a run, and return the summary's path."""
    stem = options.name or results["variant"] + ("-against" if options.against else "")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"{stem}.json").write_text(json.dumps(rounded(results), indent=1) + "\n")
    return _write(results, options.output, stem)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pe-bench speed",
        description="Measure the served stack against the machine's limits, in one run.",
        epilog="Commands: pe-bench speed (the default), resilience, tune, first-check, gpu. Each has --help.",
    )
    parser.add_argument(
        "--repository", type=Path, default=CHECKOUT / "model_repository", help="to serve (default: the demo's)"
    )
    parser.add_argument("--variant", help="to measure, if several are served")
    parser.add_argument("--workers", type=whole_number, default=1, help="of the gateway (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two short rounds: about two minutes")
    parser.add_argument("--rounds", type=whole_number, help="how often everything is measured")
    parser.add_argument(
        "--seconds", type=positive_number, help="of one measurement, at least; slow models take up to nine times it"
    )
    parser.add_argument("--minutes", type=positive_number, help="after which no round begins (default: 15; quick: 2)")
    parser.add_argument("--output", type=output_folder, default=Path("benchmark"), help="folder (default: %(default)s)")
    parser.add_argument("--name", help="of the files (default: the variant)")
    running = parser.add_argument_group("a running stack, instead of one that is started")
    running.add_argument("--url", help="the gateway, as http://host:port")
    running.add_argument("--triton-grpc", default="127.0.0.1:8001", help="(default: %(default)s)")
    running.add_argument("--triton-http", default="127.0.0.1:8000", help="(default: %(default)s)")
    running.add_argument("--pid", type=whole_number, help="of its pe-serve, to measure the CPU of each process")
    against.add_options(parser)
    parser.add_argument("--render", type=Path, metavar="JSON", help="only write the summary and plots of a run again")
    return parser.parse_args(arguments)


def _effort(options: argparse.Namespace) -> schedule.Effort:
    effort = schedule.QUICK if options.quick else schedule.FULL
    given = {"rounds": options.rounds, "seconds": options.seconds, "minutes": options.minutes}
    return replace(effort, **{name: value for name, value in given.items() if value})


@contextmanager
def _stack(options: argparse.Namespace, directory: Path) -> Iterator[stack.Stack]:
    if options.url:
        yield stack.attach(options.url, options.triton_grpc, options.triton_http, options.variant, options.pid)
        return
    workers = ("--workers", str(options.workers))
    with stack.start(options.repository.absolute(), directory, options.variant, workers) as started:
        yield started


def _measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the results after each round."""
    perf_analyzer.find()  # Fails now instead of after minutes.
    effort = _effort(options)
    machine, began = processes.machine(), time.time()
    with tempfile.TemporaryDirectory(prefix="pe-bench-") as name, _stack(options, Path(name)) as served:
        directory = Path(name)
        _require_triton(served)
        most = f"{effort.rounds} rounds, of which the last begins within {effort.minutes:g} minutes"
        _say(f"Measuring {served.variant} at {served.url} in {most} ...")
        written = payloads.write(served, directory)
        with schedule.bench(served, written, directory, effort, _say) as bench:
            memory = schedule.memory(bench)
            for series in schedule.rounds(bench, _say):
                results: dict[str, Any] = {
                    "variant": served.variant,
                    "info": served.info,
                    "machine": machine,
                    "versions": versions(served),
                    "effort": asdict(effort),
                    "at": schedule.AT,
                    "open_loop": schedule.OPEN_LOOP,
                    "pictures": written.source,
                    "bytes": {"640x480": payloads.sizes(written.small), "12 MP": payloads.sizes(written.large)},
                    "gflop": {
                        "vision": flops.vision_gflop(served.variant, served.image_size[0]),
                        "text": flops.text_gflop(served.variant, written.tokens.stat().st_size // 4),
                    },
                    "memory": memory,
                    "memory_at_the_end": {role: processes.shared_memory_mb(pids) for role, pids in served.pids.items()},
                    "threads": {role: sum(map(processes.threads, pids)) for role, pids in served.pids.items()},
                    "gateway_processes": len(served.pids.get("gateway", [])),
                    "series": series,
                    "date": time.strftime("%Y-%m-%d", time.gmtime(began)),
                }
                yield results | {"took_s": time.time() - began}


def _require_triton(served: stack.Stack) -> None:
    """Check that Triton's own ports are open: perf_analyzer measures Triton alone, too.

    Raises:
        StackFailed: Triton's HTTP port does not answer.
    """
    try:
        stack.get_json(f"http://{served.triton_http}/v2")
    except (OSError, ValueError) as error:
        raise stack.StackFailed(
            f"no Triton answers at {served.triton_http}: {error}. Start pe-serve with --triton-ports, or name them "
            "with --triton-http and --triton-grpc."
        ) from error


def _measure_against(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the results of both servers after each round."""
    with tempfile.TemporaryDirectory(prefix="pe-bench-") as name, _stack(options, Path(name)) as served:
        _say(f"Measuring {served.variant} at {served.url} in turn with {options.against} ...")
        yield from against.measure(served, options, Path(name) / "bodies", _say)


def versions(served: stack.Stack) -> dict[str, str]:
    """Return the versions of a stack's parts."""
    found = {"Triton": str(stack.get_json(f"http://{served.triton_http}/v2").get("version", "unknown"))}
    for package in ("onnxruntime", "onnxruntime_gpu", "openvino"):
        if folders := list((CHECKOUT / ".venv-triton").glob(f"lib/python3*/site-packages/{package}-*.dist-info")):
            found[package] = folders[0].name.removeprefix(f"{package}-").removesuffix(".dist-info")
    for package in ("fastapi", "uvicorn", "grpcio", "pillow", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {"commit": processes.commit()}


def _write(results: dict[str, Any], folder: Path, stem: str) -> Path:
    """Write the summary and its plots, and return the summary's path."""
    if "agreement" in results:
        text = comparison_table.markdown(results)
    else:
        text = report.markdown(results)
        for plot in plots.draw(results, folder, stem):
            text += f"\n![{plot.stem}]({plot.name})\n"
    summary = folder / f"{stem}.md"
    summary.write_text(text)
    return summary


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
