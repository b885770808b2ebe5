"""Arithmetic, /proc, pictures, and what else needs no server."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.bench.harness import flops, stack
from deploy.bench.harness import photographs as pictures
from deploy.bench.harness import processes as cpu
from deploy.bench.harness.worker import Helper, HelperFailed
from deploy.bench.speed import bare_routes as bare
from deploy.bench.speed import decode_loop, gemm
from deploy.bench.speed import server_timing as timing


@pytest.mark.parametrize(
    ("variant", "size", "published"),
    # GFLOP an image: timm's results, as twice its GMAC (L14), and its `vit_pe_core_base_patch16_224`.
    [("PE-Core-L14-336", 336, 384.7), ("PE-Core-B16-224", 224, 35.9)],
)
def test_vision_towers_are_as_large_as_published(variant: str, size: int, published: float) -> None:
    assert flops.vision_gflop(variant, size) == pytest.approx(published, rel=0.01)


def test_texts() -> None:
    assert flops.text_gflop("PE-Core-L14-336", 32) == pytest.approx(19.4, rel=0.01)
    assert flops.text_gflop("Unheard-of", 32) is None


def test_cpu_seconds_are_those_of_the_process() -> None:
    with cpu.cpu_of({"me": [os.getpid()], "nobody": [2**22 + 1]}) as spent:
        begun = time.process_time()
        while time.process_time() < begun + 0.2:
            pass
    assert spent["me"] == pytest.approx(0.2, abs=0.05)
    assert spent["nobody"] == 0


def test_memory_and_threads_of_the_process() -> None:
    memory = cpu.memory_mb(os.getpid())
    assert 10 < memory["now"] <= memory["peak"]
    assert cpu.threads(os.getpid()) >= 1


def test_the_machine_is_told_without_a_name() -> None:
    assert os.uname().nodename not in str(cpu.machine().values())


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/x/bin/tritonserver --model-repository=/m", "tritonserver"),
        ("/b/triton_python_backend_stub /m/models/V-vision/1/model.onnx shm", "stub vision"),
        ("/b/triton_python_backend_stub /m/models/V-text/1/model.onnx shm", "stub text"),
        ("/b/triton_python_backend_stub /m/models/W-text/1/model.onnx shm", None),
        ("/x/bin/python -P -m gateway", "gateway"),
        ("sleep 1", None),
    ],
)
def test_processes_are_known_by_their_command(command: str, role: str | None) -> None:
    assert stack._role(command, "V") == role


def test_server_timing() -> None:
    assert timing.parse("decode;dur=1.92, encode;dur=2.80, total;dur=6.01") == {
        "decode": 1.92, "encode": 2.8, "total": 6.01,
    }  # fmt: skip


def test_pictures_are_photographs_or_drawn() -> None:
    found, source = pictures.pictures()
    assert source
    for image in (*found, pictures._drawn(0)):
        assert image.mode == "RGB"
    data = pictures.jpeg(pictures._drawn(1), pictures.SMALL)
    assert data.startswith(b"\xff\xd8")


def test_the_decode_loop(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(pictures.jpeg(Image.new("RGB", (9, 9)), (64, 48)))
    answer = decode_loop.measure({"files": [str(tmp_path / "a.jpg")], "size": [8, 8], "seconds": 0.05})
    assert answer["items"] > 1
    assert 0 < answer["cpu_s"] < 0.05


def test_the_bare_answer_has_1024_floats() -> None:
    assert bare._answer(np.ones(1024, np.float32)).count(b"1.0") == 1024


def test_the_rate_of_a_matrix_product() -> None:
    at_most = gemm._FLOP / 0.01 / 1e9
    assert at_most / 50 < gemm.rate(lambda: time.sleep(0.01), 0.1) < at_most


ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def test_a_helper_answers_and_ends() -> None:
    with Helper([sys.executable, "-c", ECHO]) as helper:
        assert helper.ask(a=1) == {"a": 1}
        with pytest.raises(HelperFailed, match="no such file"):
            helper.ask(failed="no such file")


def test_a_helper_that_died_is_told() -> None:
    with (
        Helper([sys.executable, "-c", "input(); raise SystemExit(3)"]) as helper,
        pytest.raises(HelperFailed, match="status 3"),
    ):
        helper.ask(a=1)
