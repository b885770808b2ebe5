"""Check the calls to TensorRT with a stand-in that records them. The real TensorRT needs a GPU."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from export.engines import tensorrt_plan
from export.errors import GraphError, TargetError

pytestmark = pytest.mark.export

TARGET = tensorrt_plan.Target("11.1.0.106", "90")


class StandIn(ModuleType):
    """The part of `tensorrt` that a build uses. `asked` records the calls."""

    def __init__(self) -> None:
        super().__init__("tensorrt")
        self.__version__ = TARGET.tensorrt
        self.asked: dict[str, Any] = {}
        self.readable, self.buildable, self.known_timings_fit = True, True, True
        self.building: Callable[[Any], None] = lambda monitor: None  # runs during a build
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.IProgressMonitor = type("IProgressMonitor", (), {})
        asked, this = self.asked, self

        class Logger:
            WARNING = "warning"

            def __init__(self, severity: str) -> None:
                asked["severity"] = severity

        class OnnxParser:
            def __init__(self, *_: object) -> None: ...

            def parse_from_file(self, path: str) -> bool:
                asked["graph"] = path
                return this.readable

            def get_error(self, _: int) -> SimpleNamespace:
                return SimpleNamespace(desc=lambda: "no importer for Attention")

        class Config:
            progress_monitor: Any = None

            def add_optimization_profile(self, profile: object) -> None:
                asked["profile"] = vars(profile)

            def create_timing_cache(self, known: bytes) -> bytes:
                asked["known timings"] = known
                return known

            def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
                asked["ignore mismatch"] = ignore_mismatch
                return this.known_timings_fit or not cache

            def get_timing_cache(self) -> SimpleNamespace:
                return SimpleNamespace(serialize=lambda: b"timings")

        class Builder:
            def __init__(self, _: Logger) -> None: ...

            def create_network(self, flags: int) -> SimpleNamespace:
                asked["flags"] = flags
                return SimpleNamespace(get_input=lambda _: SimpleNamespace(name="image"))

            def create_builder_config(self) -> Config:
                return Config()

            def create_optimization_profile(self) -> SimpleNamespace:
                profile = SimpleNamespace()
                profile.set_shape = lambda name, *shapes: setattr(profile, name, shapes)
                return profile

            def build_serialized_network(self, _: object, config: Config) -> bytes | None:
                monitor = config.progress_monitor
                monitor.phase_start("Building", None, 4)
                monitor.phase_start("Tactics", "Building", 100)
                assert monitor.step_complete("Tactics", 50)
                assert monitor.step_complete("Building", 1)
                this.building(monitor)
                monitor.phase_finish("Building")
                return b"plan" if this.buildable else None

        self.Logger, self.OnnxParser, self.Builder = Logger, OnnxParser, Builder


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return stand_in


def build(path: Path, *input_shapes: tuple[int, ...]) -> list[float]:
    told: list[float] = []
    shapes = input_shapes or ((336, 336, 3),)
    tensorrt_plan.build(path / "model.onnx", path / "model.plan", shapes, 32, told.append)
    return told


def test_a_plan_is_strongly_typed_and_takes_batches_up_to_the_largest(tensorrt: StandIn, tmp_path: Path) -> None:
    told = build(tmp_path)
    assert (tmp_path / "model.plan").read_bytes() == b"plan"
    assert tensorrt.asked["graph"] == str(tmp_path / "model.onnx")
    assert tensorrt.asked["flags"] == 1 << 1
    assert tensorrt.asked["profile"]["image"] == ((1, 336, 336, 3), (16, 336, 336, 3), (32, 336, 336, 3))
    assert told == [0.5]


def test_a_plan_takes_all_shapes_from_the_smallest_to_the_largest(tensorrt: StandIn, tmp_path: Path) -> None:
    build(tmp_path, (8,), (16,), (32,))
    assert tensorrt.asked["profile"]["image"] == ((1, 8), (16, 32), (32, 32))


def test_timings_are_kept_for_the_next_build_on_the_same_target(tensorrt: StandIn, tmp_path: Path) -> None:
    build(tmp_path)
    assert tensorrt.asked["known timings"] == b""
    build(tmp_path)
    assert tensorrt.asked["known timings"] == b"timings"
    assert tensorrt.asked["ignore mismatch"] is False
    [file] = (tmp_path / "cache").rglob("*.timings")
    assert file.name == "tensorrt-11.1.0.106-sm90.timings"


def test_timings_that_tensorrt_refuses_are_begun_anew(tensorrt: StandIn, tmp_path: Path) -> None:
    build(tmp_path)
    tensorrt.known_timings_fit = False
    build(tmp_path)
    assert tensorrt.asked["known timings"] == b""


def test_a_home_that_cannot_be_written_to_costs_no_plan(tensorrt: StandIn, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    build(tmp_path)
    assert (tmp_path / "model.plan").read_bytes() == b"plan"


def test_ctrl_c_ends_a_build(tensorrt: StandIn, tmp_path: Path) -> None:
    steps: list[bool] = []

    def building(monitor: Any) -> None:
        time.sleep(0.3)  # until the main thread waits for the build
        os.kill(os.getpid(), signal.SIGINT)
        while not steps or (steps[-1] and len(steps) < 1000):
            steps.append(monitor.step_complete("Tactics", len(steps)))
            time.sleep(0.01)

    tensorrt.building = building
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # A shell may ignore SIGINT for its background processes.
    try:
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps[-1] is False
    assert not (tmp_path / "model.plan").exists()


def test_a_graph_that_tensorrt_cannot_read_is_told_in_its_words(tensorrt: StandIn, tmp_path: Path) -> None:
    tensorrt.readable = False
    with pytest.raises(GraphError, match="no importer for Attention"):
        build(tmp_path)


def test_a_build_that_fails_leaves_no_plan(tensorrt: StandIn, tmp_path: Path) -> None:
    tensorrt.buildable = False
    with pytest.raises(GraphError, match="could not build"):
        build(tmp_path)
    assert not (tmp_path / "model.plan").exists()


def test_the_target_is_version_and_gpu(tensorrt: StandIn) -> None:
    assert tensorrt_plan.this_machine() == TARGET
    assert str(TARGET) == "tensorrt 11.1.0.106 sm90"


def test_without_a_gpu_it_says_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TargetError, match=r"no NVIDIA GPU .* inside the serving image"):
        tensorrt_plan.this_machine()


def test_without_the_package_it_says_what_to_install(tensorrt: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(TargetError, match="tensorrt package is not installed"):
        tensorrt_plan.this_machine()


def test_the_bindings_alone_will_do(tensorrt: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The serving image has the library, and only the bindings as a Python package."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", tensorrt)
    build(tmp_path)
    assert tensorrt.asked["graph"] == str(tmp_path / "model.onnx")
