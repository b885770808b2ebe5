"""`pe-bench gpu`: run the experiments of a GPU in order, each in its own process and within its time.

This module needs the standard library alone, so any Python can run the queue: `python3 -m deploy.bench.gpu.cli`.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.bench.gpu import summary
from deploy.bench.gpu.setting import Setting
from deploy.bench.gpu.steps import write_json
from deploy.bench.harness import processes
from deploy.bench.harness.arguments import output_folder, positive_number, whole_number
from deploy.embedded.installation import CHECKOUT
from export.errors import UnknownVariant
from export.variants import find_variant
from gateway.cpus import usable_cpus

_STOP_S: Final = 30.0  # for an experiment to stop the servers that it has started
_LINES: Final = 12  # of an experiment's output, in the queue's file
_TORCH: Final = ".venv-export"


@dataclass(frozen=True)
class Experiment:
    """One entry of the queue."""

    name: str
    module: str
    """Of `deploy.bench.gpu`."""
    minutes: float
    """After which it is stopped."""
    environment: str
    """The environment of the checkout that runs it. Where there is none, the Python of the queue runs it."""


QUEUE: Final = (
    Experiment("graphs", "graphs", 4, _TORCH),
    Experiment("rtx", "rtx", 2, _TORCH),
    Experiment("forms", "cuda_forms", 4, _TORCH),
    Experiment("torch", "torch_tower", 2, _TORCH),
    Experiment("stack", "served", 5, ".venv"),
)
_NAMES: Final = tuple(experiment.name for experiment in QUEUE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the queue, and print a summary. `OUTPUT` gets a JSON file of each experiment, `queue.json` and `gpu.md`.

    Returns:
        0: each experiment has run to its end. 1: one did not. 130: interrupted.
    """
    options = _parse(arguments)
    chosen = [one for one in QUEUE if one.name in options.only and one.name not in options.skip]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as block:
            work = options.work or Path(block.enter_context(tempfile.TemporaryDirectory(prefix="pe-gpu-")))
            setting = Setting(
                options.variant, options.device, work.absolute(), options.batch, options.rounds, options.seconds,
                options.forms, options.workers,
            )  # fmt: skip
            sound = _run(chosen, setting, options.output.absolute(), dict(options.minutes), options.within * 60)
    except KeyboardInterrupt:
        _say(f"interrupted; what was measured is in {options.output}")
        return 130
    print(summary.write(options.output).read_text())
    return 0 if sound else 1


def _run(
    chosen: Sequence[Experiment], setting: Setting, output: Path, minutes: dict[str, float], within_s: float
) -> bool:
    """Run experiments, and return whether each has run to its end. `queue.json` is written before and after each."""
    begun, states = time.monotonic(), _earlier(output / "queue.json", setting)
    facts = {
        "variant": setting.variant, "device": setting.device, "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": processes.machine(), "python": platform.python_version(), "commit": processes.commit(),
    }  # fmt: skip

    def keep(name: str, **state: Any) -> None:
        states[name] = state
        write_json(output / "queue.json", facts | {"took_s": time.monotonic() - begun, "experiments": states})

    for experiment in chosen:
        left = within_s - (time.monotonic() - begun)
        seconds = min(minutes.get(experiment.name, experiment.minutes) * 60, left)
        if seconds <= 0:
            keep(experiment.name, state="no time left")
            continue
        _say(f"{experiment.name}: at most {seconds / 60:.1f} minutes ...")
        keep(experiment.name, state="begun")
        (output / f"{experiment.name}.json").unlink(missing_ok=True)  # Of an earlier run.
        started = time.monotonic()
        try:
            state = _experiment(experiment, setting, output, seconds)
        except BaseException:
            keep(experiment.name, state="interrupted", seconds=time.monotonic() - started)
            raise
        keep(experiment.name, **state, seconds=time.monotonic() - started)
        summary.write(output)
        reason = f": {state['said'][-1].strip()}" if state["said"] else ""
        _say(f"{experiment.name}: {state['state']} after {time.monotonic() - started:.0f} s{reason}")
    return all(states[experiment.name]["state"] == "done" for experiment in chosen)


def _earlier(path: Path, setting: Setting) -> dict[str, dict[str, Any]]:
    """Return the states of earlier runs into the same folder, of the same variant."""
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text())
    states: dict[str, dict[str, Any]] = earlier["experiments"]
    return states if (earlier["variant"], earlier["device"]) == (setting.variant, setting.device) else {}


def _experiment(experiment: Experiment, setting: Setting, output: Path, seconds: float) -> dict[str, Any]:
    """Run one experiment in a process group of its own. Its output goes to `queue.log`."""
    own = CHECKOUT / experiment.environment / "bin/python"
    python = own if own.exists() else Path(sys.executable)
    result, log = output / f"{experiment.name}.json", output / "queue.log"
    command = [
        str(python), "-m", f"deploy.bench.gpu.{experiment.module}", *setting.arguments(), str(result),
        "--parent", str(os.getpid()),
    ]  # fmt: skip
    with log.open("ab") as written:
        written.write(f"--- {experiment.name}\n".encode())
        written.flush()
        position = written.tell()
        environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
        with _signals_held() as held:
            process = subprocess.Popen(
                command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=written, stderr=written, env=environment,
                process_group=0,
            )  # fmt: skip
        try:
            if held:
                raise KeyboardInterrupt
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _stop(process)
    failed = [step["name"] for step in _steps(result) if step["state"] == "failed"]
    state = "stopped: out of time" if status is None else "done" if status == 0 else f"ended with status {status}"
    said = [] if status == 0 else log.read_bytes()[position:].decode(errors="replace").splitlines()[-_LINES:]
    return {"state": state, "failed_steps": failed, "said": said}


@contextlib.contextmanager
def _signals_held() -> Iterator[list[int]]:
    """Collect the signals of the block. An interrupt while a process starts would leave the process behind."""
    held: list[int] = []
    before = {number: signal.signal(number, lambda n, _: held.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield held
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its group. A process that ended by itself may have left some."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _steps(result: Path) -> list[dict[str, Any]]:
    if not result.exists():
        return []
    steps: list[dict[str, Any]] = json.loads(result.read_text())["steps"]
    return steps


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pe-bench gpu",
        description="Run experiments on an NVIDIA GPU, and keep the figures of each as soon as it has them.",
        epilog=f"Experiments, in order: {', '.join(_NAMES)}. deploy/bench/gpu/README.md says what each decides.",
    )
    parser.add_argument("--variant", type=_variant, default="PE-Core-L14-336", help="(default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries the queue")
    names: dict[str, Any] = {"type": _listed(_NAMES), "metavar": "NAME,NAME"}
    parser.add_argument("--only", **names, default=_NAMES, help="experiments to run")
    parser.add_argument("--skip", **names, default=(), help="experiments to leave out")
    parser.add_argument(
        "--minutes", type=_minutes, action="append", default=[], metavar="NAME=N", help="time of an experiment"
    )
    parser.add_argument("--within", type=float, default=60, metavar="MINUTES", help="time of all (default: 60)")
    parser.add_argument(
        "--output", type=output_folder, default=Path("benchmark/gpu"), help="folder (default: %(default)s)"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the exported graphs here, for another run")
    parser.add_argument("--batch", type=whole_number, default=32, help="images in one call (default: %(default)s)")
    parser.add_argument("--rounds", type=whole_number, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--seconds", type=positive_number, default=1.5, help="of one measurement (default: %(default)s)"
    )
    parser.add_argument("--forms", type=_listed(()), default=(), metavar="NAME;NAME", help="graph forms (default: all)")
    workers = max(1, usable_cpus() // 3)
    parser.add_argument(
        "--workers", type=whole_number, default=workers, help="of the gateway (default: a third of the CPUs)"
    )
    return parser.parse_args(arguments)


def _listed(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        # The names of graph forms contain commas.
        found = tuple(text.split("," if allowed else ";"))
        for name in found:
            if allowed and name not in allowed:
                raise argparse.ArgumentTypeError(f"unknown experiment {name!r}: choose from {', '.join(allowed)}")
        return found

    return names


def _variant(text: str) -> str:
    try:
        return find_variant(text).name
    except UnknownVariant as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _minutes(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    if name not in _NAMES:
        raise argparse.ArgumentTypeError(f"unknown experiment {name!r}: choose from {', '.join(_NAMES)}")
    return name, float(number)


def _say(text: str) -> None:
    print(f"gpu: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
