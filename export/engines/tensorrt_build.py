"""Build a plan in a process of its own, so that Ctrl-C ends it at once and a crash of TensorRT ends only the build.

TensorRT ends a build only between two steps, and for a transformer one step can be most of the build. The process
reads a `Job` in JSON from its standard input. It writes JSON lines to its standard output: fractions of progress, then
an error message if there is one. Warnings of TensorRT go to standard error.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.engines.tensorrt_compiler import Advance, ShapeRange, compile_graph, write_warnings
from export.engines.tensorrt_kernels import CompilerMessages, detailed, read_graph, report
from export.errors import GraphError


@dataclass(frozen=True)
class Job:
    """A build."""

    library: str
    """Name of TensorRT's Python module."""
    graph: str
    """Path of the ONNX graph."""
    inputs: Mapping[str, ShapeRange]
    """The shapes of each input."""
    plan: str
    """Path of the file to write."""
    timings: str
    """Path of the file that keeps TensorRT's timing cache."""


def kernels_file(plan: Path) -> Path:
    """Return the path of the JSON file beside a plan that says which kernels TensorRT made; null if it is not known."""
    return plan.with_name("kernels.json")


def build(job: Job, advance: Advance) -> None:
    """Run a build to its end. An exception, such as `KeyboardInterrupt`, kills the process and removes the plan.

    Args:
        job: what to build.
        advance: receives the finished fraction, from 0 to 1.

    Raises:
        GraphError: TensorRT cannot read or compile the graph, or its process died.
    """
    # Not `-m`, which warns because the package `export.engines` has already imported this module.
    command = [sys.executable, "-c", f"import sys; from {__name__} import main; sys.exit(main())"]
    built = False
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                with suppress(BrokenPipeError):  # The exit status explains it.
                    process.stdin.write(json.dumps(asdict(job)))
                    process.stdin.close()
                error = ""
                for line in process.stdout:
                    told = json.loads(line)
                    if isinstance(told, str):
                        error = told
                    else:
                        advance(told)
                status = process.wait()
            except BaseException:
                process.kill()
                process.wait()  # After an interrupt, `Popen` itself does not wait.
                raise
        if error:
            raise GraphError(error)
        if status:
            died = f"died of signal {-status}" if status < 0 else f"ended with status {status}"
            raise GraphError(f"the process in which TensorRT builds the plan {died}: its messages are above")
        built = True
    finally:
        if not built:
            Path(job.plan).unlink(missing_ok=True)


def main() -> int:
    """Build the plan that standard input describes, and return the process's exit status."""
    # A terminal sends Ctrl-C to both processes, and the other one reports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fields = json.load(sys.stdin)
    inputs = {
        name: ShapeRange(**{size: tuple(shape) for size, shape in shapes.items()})
        for name, shapes in fields.pop("inputs").items()
    }
    job = Job(**fields, inputs=inputs)
    trt = importlib.import_module(job.library)
    timings = Path(job.timings)
    used: list[Any] = []
    messages = CompilerMessages()

    def configure(config: Any) -> None:
        _use_timings(config, timings)
        detailed(trt, config)
        used.append(config)

    def listen(severity: Any, text: str) -> None:
        messages.hear(severity, text)
        write_warnings(severity, text)

    try:
        # If the other process has died, this raises BrokenPipeError, which ends the build.
        plan = compile_graph(trt, Path(job.graph), inputs, configure=configure, listen=listen, advance=_report)
    except GraphError as error:
        _report(str(error))
        return 1
    Path(job.plan).write_bytes(plan)
    _record_kernels(job, messages)
    _keep_timings(used[0], timings)
    return 0


def _record_kernels(job: Job, messages: CompilerMessages) -> None:
    """Check the compiler's kernels, write what they are beside the plan, and warn of slow ones."""
    found = report(messages, read_graph(Path(job.graph)))
    problems = found.problems() if found else ["TensorRT did not list its kernels in a known format: not checked"]
    for problem in problems:
        sys.stderr.write(f"warning: {problem}\n")
    kernels_file(Path(job.plan)).write_text(
        json.dumps({"kernels": found.as_json() if found else None}, indent=2) + "\n"
    )


def _report(value: float | str) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201 - the other process reads it


def _use_timings(config: Any, file: Path) -> None:
    """Start from the timings of earlier builds. Start without if TensorRT rejects them (another driver or GPU)."""
    known = file.read_bytes() if file.is_file() else b""
    for content in (known, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):  # False rejects timings of another device.
            return


def _keep_timings(config: Any, file: Path) -> None:
    cache = config.get_timing_cache()
    if cache is None:
        return
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):  # Without a writable cache directory, only the next build is slower.
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(cache.serialize())
        partial.replace(file)
