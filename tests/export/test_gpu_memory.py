"""onnxruntime's arena on a CPU, which is the code of its arena on a GPU, within the memory that we compute."""

import subprocess
import sys
from pathlib import Path

import pytest

from export.gpu_memory import estimate
from export.variants import TOWERS, Tower, find_variant

pytestmark = pytest.mark.export

DEMO = find_variant("PE-Demo-T8-64")
REPOSITORY = Path(__file__).parents[2] / "model_repository"
SIZES = (64, 64, 64, 64, 1, 33, 5, 61, 17, 48, 64, 2, 63)  # warmup, then any
# An arena is registered once in a process.
RUN = """
import sys
import numpy as np
import onnxruntime as ort

path, dtype, limit, *sizes = sys.argv[1:]
info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
same_as_requested = {"max_mem": int(limit), "arena_extend_strategy": 1}
ort.create_and_register_allocator(info, ort.OrtArenaCfg(same_as_requested))
options = ort.SessionOptions()
options.log_severity_level = 4
options.add_session_config_entry("session.use_env_allocators", "1")
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
(taken,) = session.get_inputs()
for place, size in enumerate(map(int, sizes)):
    # The largest batch comes first at each length of tokens.
    lengths = [(32, 24, 16, 8)[place % 4] if isinstance(axis, str) else axis for axis in taken.shape[1:]]
    session.run(None, {taken.name: np.zeros((size, *lengths), dtype)})
"""


def run(tower: Tower, limit: int) -> subprocess.CompletedProcess[str]:
    path = REPOSITORY / DEMO.model_name(tower) / "1/model.onnx"
    dtype = "uint8" if tower == "vision" else "int32"
    command = [sys.executable, "-c", RUN, path, dtype, limit, *SIZES]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("tower", TOWERS)
def test_every_batch_fits_into_the_arena(tower: Tower) -> None:
    done = run(tower, estimate(DEMO, tower, "fp32", 64).arena)
    assert done.returncode == 0, done.stderr


def test_the_tensors_are_not_counted_too_high() -> None:
    memory = estimate(DEMO, "vision", "fp32", 64)
    done = run("vision", memory.activations)
    assert "smaller than requested bytes" in done.stderr


def test_the_limit_leaves_room_and_is_round() -> None:
    memory = estimate(find_variant("PE-Core-L14-336"), "vision", "fp16", 32)
    assert memory.weights == 2 * 317_152_256
    # Stream and the MLP's hidden layer, twice: 577 tokens of 1024 in FP32 and 4096 in FP16.
    assert memory.activations == 32 * 577 * (1024 * 4 + 2 * 4096 * 2)
    assert memory.scores == 2 * 32 * 16 * 577 * 577 * 2
    assert memory.limit % 2**28 == 0
    assert 2**30 <= memory.limit - memory.arena < 2**30 + 2**28
