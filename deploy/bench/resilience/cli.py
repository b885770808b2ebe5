"""pe-bench resilience: whether the server holds, in figures beside their targets."""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness import processes as cpu
from deploy.bench.harness import stub_model as stand_in
from deploy.bench.harness.figures import Figure
from deploy.bench.harness.stack import StackFailed
from deploy.bench.harness.worker import HelperFailed, python_helper
from deploy.bench.resilience import cancellation as deadlines
from deploy.bench.resilience import capacity, fuzz, report, soak
from deploy.bench.resilience import refusals as admission
from deploy.bench.resilience import sigterm as drain
from deploy.bench.resilience import slow_clients as connections
from deploy.bench.resilience import testbed as bed
from deploy.bench.resilience import triton_faults as faults
from deploy.embedded.installation import CHECKOUT

RESULTS: Final = Path(__file__).with_name("results")
SECTIONS: Final[dict[str, tuple[str, Callable[[bed.Bed], list[Figure]]]]] = {
    "capacity": ("Load, on the stand-in", capacity.measure),
    "real": ("Load, on the model that was given", capacity.measure_real),
    "deadlines": ("Deadlines, and clients that leave", deadlines.measure),
    "admission": ("What is refused, and in which order", admission.measure),
    "connections": ("Slow and idle clients", connections.measure),
    "faults": ("Faults of Triton", faults.measure),
    "drain": ("SIGTERM", drain.measure),
    "fuzz": ("Damaged inputs", fuzz.measure),
    "soak": ("Memory", soak.measure),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every target was met. 1: one was missed, or could not be measured. 2: nothing could be. 130: interrupted."""
    options = _parse(arguments)
    # As Ctrl-C does: everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = _measure(options)
    except (StackFailed, HelperFailed) as error:
        print(f"pe-bench resilience: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pe-bench resilience: interrupted; nothing was written", file=sys.stderr)
        return 130
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "hold.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.output / "hold.md").write_text(report.markdown(results))
    print(report.table(results))
    figures = [figure for section in results["sections"] for figure in section["figures"]]
    missed = sum(figure["met"] is False for figure in figures) + sum(bool(s["failed"]) for s in results["sections"])
    print(f"{sum(figure['met'] is True for figure in figures)} met, {missed} missed.")
    return 1 if missed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pe-bench resilience", description="Whether the server holds: load, faults, attack.")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="NAME", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="about a minute: shows that it works, and no figures")
    parser.add_argument("--repository", type=Path, help="of a real variant, to find the capacity of, too")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="how long (default: 600)")
    parser.add_argument("--output", type=Path, default=Path("hold"), help="folder (default: %(default)s)")
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    effort = bed.QUICK if options.quick else bed.FULL
    if options.soak:
        effort = replace(effort, soak=options.soak)
    machine, began = cpu.machine(), time.time()
    sections = []
    with tempfile.TemporaryDirectory(prefix="pe-resilience-") as name:
        directory = Path(name)
        made = stand_in.lay(directory / "stand-in")
        with bed.serving(directory, "main", made) as served, python_helper("harness.load_generator") as load:
            repository = options.repository and options.repository.absolute()
            laid = bed.Bed(served, made, load, directory, options.output, effort, repository, _say)
            for key in options.only or SECTIONS:
                title, measure = SECTIONS[key]
                if key == "real" and repository is None:
                    continue
                _say(f"{title} ...")
                figures, failed = list[Figure](), ""
                try:
                    figures = measure(laid)
                except (StackFailed, HelperFailed, RuntimeError, OSError) as error:
                    failed = f"{type(error).__name__}: {error}"
                    _say(f"  {failed}")
                made.behave()
                sections.append({"title": title, "failed": failed, "figures": [_with_words(f) for f in figures]})
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime(began)),
        "took_s": round(time.time() - began),
        "command": _command(options),
        "machine": machine,
        "commit": _commit(),
        "sections": sections,
    }


def _command(options: argparse.Namespace) -> str:
    """What was run, without the paths of whoever ran it."""
    chosen = {"--quick": options.quick, "--repository DIR": options.repository, f"--soak {options.soak}": options.soak}
    return " ".join(["pe-bench resilience", *(name for name, given in chosen.items() if given)])


def _with_words(figure: Figure) -> dict[str, Any]:
    return {**figure.json(), "measured": figure.measured, "verdict": figure.verdict}


def _commit() -> str:
    git = subprocess.run(["git", "-C", CHECKOUT, "describe", "--always"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
