"""`pe-bench resilience`: measure the served stack under overload, faults and attack."""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness import processes, stub_model, worker
from deploy.bench.harness.arguments import output_folder, positive_number
from deploy.bench.harness.figures import Figure, figure_row, figures_table
from deploy.bench.harness.stack import StackFailed
from deploy.bench.harness.worker import WorkerFailed
from deploy.bench.resilience import (
    cancellation,
    capacity,
    decompression_bomb,
    fairness,
    hostile_requests,
    sigterm,
    slow_clients,
    soak,
    testbed,
    triton_faults,
)


def _fuzz(running: testbed.Testbed) -> list[Figure]:
    """Import Hypothesis and schemathesis only here: they are in the extra `test`, and other commands do without."""
    try:
        from deploy.bench.resilience import fuzz
    except ImportError as error:
        raise RuntimeError(f"{error.name} is not installed: `make hold` installs it") from None
    return fuzz.measure(running)


SECTIONS: Final[dict[str, tuple[str, Callable[[testbed.Testbed], list[Figure]]]]] = {
    "capacity": ("Overload, with the stub model", capacity.measure),
    "real": ("Overload, with the given model", capacity.measure_real),
    "cancellation": ("Deadlines, and clients that disconnect", cancellation.measure),
    "bomb": ("A decompression bomb", decompression_bomb.measure),
    "hostile": ("Small requests that ask for much work", hostile_requests.measure),
    "slow-clients": ("Slow and idle clients", slow_clients.measure),
    "fairness": ("Servers that hang, and greedy clients", fairness.measure),
    "faults": ("Faults of Triton", triton_faults.measure),
    "sigterm": ("SIGTERM", sigterm.measure),
    "fuzz": ("Damaged inputs", _fuzz),
    "soak": ("Memory", soak.measure),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the figures, and write them down.

    Returns:
        0: every target was met. 1: one was missed, or could not be measured. 2: nothing could be measured.
        130: interrupted.
    """
    options = _parse(arguments)
    # SIGTERM ends the run as Ctrl-C does, so that all processes that it started are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = _measure(options)
    except (StackFailed, WorkerFailed) as error:
        print(f"pe-bench resilience: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pe-bench resilience: interrupted; nothing was written", file=sys.stderr)
        return 130
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "resilience.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.output / "resilience.md").write_text(markdown(results))
    print(table(results))
    figures = [figure for section in results["sections"] for figure in section["figures"]]
    missed = sum(figure["met"] is False for figure in figures) + sum(bool(s["failed"]) for s in results["sections"])
    print(f"{sum(figure['met'] is True for figure in figures)} met, {missed} missed.")
    return 1 if missed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pe-bench resilience", description="Measure the served stack under overload, faults and attack."
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="NAME", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="about two minutes: shows that it works, and no figures")
    parser.add_argument("--repository", type=Path, help="of a real variant, whose capacity is measured too")
    parser.add_argument(
        "--soak", type=positive_number, metavar="SECONDS", help="length of the soak test (default: 600)"
    )
    parser.add_argument("--output", type=output_folder, default=Path("benchmark"), help="folder (default: %(default)s)")
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    effort = testbed.QUICK if options.quick else testbed.FULL
    if options.soak:
        effort = replace(effort, soak=options.soak)
    machine, began = processes.machine(), time.time()
    sections = []
    with tempfile.TemporaryDirectory(prefix="pe-resilience-") as name:
        directory = Path(name)
        stub = stub_model.write(directory / "stub")
        with testbed.serve_stub(directory, "main", stub) as served, worker.load_generator() as load:
            repository = options.repository and options.repository.absolute()
            running = testbed.Testbed(served, stub, load, directory, options.output, effort, repository, _say)
            for key in options.only or SECTIONS:
                title, measure = SECTIONS[key]
                if key == "real" and repository is None:
                    continue
                _say(f"{title} ...")
                figures, failed = list[Figure](), ""
                try:
                    figures = measure(running)
                except (StackFailed, WorkerFailed, RuntimeError, OSError) as error:
                    failed = f"{type(error).__name__}: {error}"
                    _say(f"  {failed}")
                stub.behave()
                sections.append({"title": title, "failed": failed, "figures": [figure.json() for figure in figures]})
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime(began)),
        "took_s": round(time.time() - began),
        "command": _command(options),
        "machine": machine,
        "commit": processes.commit(),
        "sections": sections,
    }


def _command(options: argparse.Namespace) -> str:
    """Return the command without the paths of this machine."""
    given = {"--quick": options.quick, "--repository DIR": options.repository, f"--soak {options.soak}": options.soak}
    return " ".join(["pe-bench resilience", *(name for name, value in given.items() if value)])


def markdown(results: dict[str, Any]) -> str:
    """Write the results as a page."""
    machine, batch, seconds = results["machine"], stub_model.BATCH, stub_model.SECONDS
    return "\n".join([
        "# Resilience",
        "",
        f"One run of `{results['command']}` on {results['date']}, of {results['took_s'] / 60:.0f} minutes: "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; commit {results['commit']}.",
        f"The stub model has a fixed service time: a batch of up to {batch} takes {seconds * 1e3:g} ms, so it serves "
        f"{batch / seconds:g} items per second at most.",
        "",
        table(results),
    ])  # fmt: skip


def table(results: dict[str, Any]) -> str:
    """Write the figures of all sections as one table."""
    lines = [figures_table([])]
    for section in results["sections"]:
        lines.append(f"| **{section['title']}** | | | |")
        if section["failed"]:
            lines.append(f"| {section['failed']} | not measured | | MISSED |")
        lines += map(figure_row, section["figures"])
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
