"""Build plans with TensorRT for RTX in the process that builds TensorRT's. It needs no GPU.

TensorRT for RTX has TensorRT's functions for timing caches, but there they do nothing. So no test here shows that a
cache shortens a build, or that TensorRT rejects the cache of another device.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from export.engines import tensorrt_build
from export.engines.tensorrt_build import Job
from export.engines.tensorrt_compiler import ShapeRange
from export.errors import GraphError
from tests.export.engines.small_graph import LAYERS, WIDTH, small_graph

pytestmark = [pytest.mark.export, pytest.mark.slow]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        library="tensorrt_rtx_bindings",
        graph=str(small_graph(tmp_path / "model.onnx")),
        inputs={"x": ShapeRange((1, WIDTH), (4, WIDTH), (8, WIDTH))},
        plan=str(tmp_path / "model.plan"),
        timings=str(tmp_path / "cache" / "a.timings"),
    )


def children() -> list[int]:
    """Return the processes that this process has started and that still run."""
    return [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class AtFirstProgress:
    """A callback that acts on the building process at its first report."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self.before, self.act, self.pid = children(), act, 0

    def __call__(self, fraction: float) -> None:
        if not self.pid:
            [self.pid] = [pid for pid in children() if pid not in self.before]
            self.act(self.pid)


def test_a_build_writes_a_plan_and_keeps_the_timing_cache(job: Job) -> None:
    told: list[float] = []
    tensorrt_build.build(job, told.append)
    assert Path(job.plan).stat().st_size > WIDTH * WIDTH * 2
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] == 1
    assert [path.name for path in Path(job.timings).parent.iterdir()] == ["a.timings"]
    [kernels] = json.loads(tensorrt_build.kernels_file(Path(job.plan)).read_text()).values()
    assert kernels["products"] == LAYERS
    assert kernels["fp32_products"] == kernels["attentions"] == 0
    kept = Path(job.timings).read_bytes()
    assert kept
    tensorrt_build.build(job, told.append)  # It starts from the timings.
    Path(job.timings).write_bytes(b"damaged")
    tensorrt_build.build(job, told.append)
    assert Path(job.plan).stat().st_size > WIDTH * WIDTH * 2


def test_a_cache_directory_that_cannot_be_written_to_costs_no_plan(job: Job) -> None:
    Path(job.timings).parent.write_text("in the way")
    tensorrt_build.build(job, lambda fraction: None)
    assert Path(job.plan).is_file()


def test_an_error_of_the_parser_names_operator_and_node(job: Job, tmp_path: Path) -> None:
    unknown = replace(job, graph=str(small_graph(tmp_path / "unknown.onnx", operator="Frobnicate")))
    with pytest.raises(GraphError, match=r"activation_0 .*Frobnicate.*\(and 7 more errors\)$") as caught:
        tensorrt_build.build(unknown, lambda fraction: None)
    assert "\n" not in str(caught.value)
    assert not Path(job.plan).exists()


def test_ctrl_c_kills_a_build_that_cannot_end_by_itself_and_leaves_nothing(job: Job) -> None:
    def interrupt(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)  # Only SIGKILL can end it now.
        Path(job.plan).write_bytes(b"half a plan")
        os.kill(os.getpid(), signal.SIGINT)

    at_first = AtFirstProgress(interrupt)
    # A shell may ignore SIGINT for its background processes.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            tensorrt_build.build(job, at_first)
    finally:
        signal.signal(signal.SIGINT, before)
    assert at_first.pid
    assert not runs(at_first.pid)
    assert not Path(job.plan).exists()


def test_a_crash_of_tensorrt_is_an_error_and_leaves_nothing(job: Job) -> None:
    with pytest.raises(GraphError, match="died of signal 11"):
        tensorrt_build.build(job, AtFirstProgress(lambda pid: os.kill(pid, signal.SIGSEGV)))
    assert not Path(job.plan).exists()


def test_a_module_that_cannot_be_imported_is_an_error(job: Job) -> None:
    with pytest.raises(GraphError, match="ended with status 1"):
        tensorrt_build.build(replace(job, library="no_such_tensorrt"), lambda fraction: None)


ALONE = """
import os, sys, time
from pathlib import Path
from export.engines import tensorrt_build
from export.engines.tensorrt_compiler import ShapeRange

def advance(fraction):
    print("building", *(path.read_text() for path in Path("/proc/self/task").glob("*/children")), flush=True)
    time.sleep(600)  # The builder waits, too, because the pipe is full or it has ended.

graph, plan, timings = sys.argv[1:]
shapes = ShapeRange((1, 64), (4, 64), (8, 64))
tensorrt_build.build(tensorrt_build.Job("tensorrt_rtx_bindings", graph, {"x": shapes}, plan, timings), advance)
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_the_builder_does_not_outlive_the_exporter(job: Job, ending: signal.Signals) -> None:
    command = [sys.executable, "-c", ALONE, job.graph, job.plan, job.timings]
    # A session of its own, so that the signal reaches both processes as Ctrl-C on a terminal does.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        builder = int(process.stdout.readline().split()[1])
        if ending == signal.SIGINT:
            os.killpg(process.pid, ending)
        else:
            process.send_signal(ending)
        said = process.stderr.read()
    until = time.monotonic() + 60
    while runs(builder) and time.monotonic() < until:
        time.sleep(0.05)
    assert not runs(builder)
    if ending == signal.SIGINT:
        assert said.count("Traceback") == 1, said  # The builder itself says nothing.
        assert not Path(job.plan).exists()
