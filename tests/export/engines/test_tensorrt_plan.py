from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from export.engines import tensorrt_plan
from export.engines.tensorrt_library import load_library
from export.errors import ParityError, TargetError

pytestmark = pytest.mark.export


def test_a_file_that_is_no_plan_is_an_error(tmp_path: Path) -> None:
    """What `plan_on_gpu` computes is compared with torch by every export, which publishes nothing that differs."""
    if not torch.cuda.is_available():
        pytest.skip("TensorRT loads and runs a plan only on a GPU, and this machine has none")
    try:
        load_library()
    except TargetError as error:
        pytest.skip(str(error))
    (tmp_path / "a.plan").write_bytes(b"no plan")
    with pytest.raises(ParityError, match=r"cannot load a\.plan"), tensorrt_plan.plan_on_gpu(tmp_path / "a.plan"):
        pass


class Plan:
    """A stand-in for TensorRT's module and for an engine of it, which has no execution context if memory is short."""

    TensorIOMode = SimpleNamespace(INPUT=0)
    num_io_tensors = 2

    def __init__(self, context: object) -> None:
        self._context = context

    def create_execution_context(self) -> object:
        return self._context

    def get_tensor_name(self, index: int) -> str:
        return ("image", "embedding")[index]

    def get_tensor_mode(self, name: str) -> int:
        return int(name == "embedding")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 8)


def library(engine: Plan | None) -> Any:
    return SimpleNamespace(
        Logger=type("Logger", (), {"WARNING": 0, "__init__": lambda self, severity: None}),
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
        TensorIOMode=Plan.TensorIOMode,
    )


@pytest.fixture
def full_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A plan, on a GPU whose memory another program has."""

    def cuda(self: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (300_000_000, 80_000_000_000))
    (tmp_path / "a.plan").write_bytes(b"a plan")
    return tmp_path / "a.plan"


FREE = r"300\.0 MB of the GPU's 80\.00 GB are free: nvidia-smi shows who has the rest"


@pytest.mark.parametrize("engine", [None, Plan(context=None)])
def test_a_plan_that_does_not_fit_into_memory_is_an_error(
    monkeypatch: pytest.MonkeyPatch, full_gpu: Path, engine: Plan | None
) -> None:
    monkeypatch.setattr(tensorrt_plan, "load_library", lambda: library(engine))
    said = rf"cannot load a\.plan, and its reason is above\. {FREE}"
    with pytest.raises(ParityError, match=said), tensorrt_plan.plan_on_gpu(full_gpu):
        pass


def test_a_batch_that_does_not_fit_into_memory_is_an_error(monkeypatch: pytest.MonkeyPatch, full_gpu: Path) -> None:
    monkeypatch.setattr(tensorrt_plan, "load_library", lambda: library(Plan(context=object())))
    said = rf"too little GPU memory to run a\.plan\. {FREE}"
    with tensorrt_plan.plan_on_gpu(full_gpu) as embed, pytest.raises(ParityError, match=said):
        embed(np.zeros((1, 2), np.uint8))


def test_the_free_memory_may_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: out of memory\nmore")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    assert tensorrt_plan._free_memory() == "The GPU's free memory is unknown: CUDA error: out of memory"
