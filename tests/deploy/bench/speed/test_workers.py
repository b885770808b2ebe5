"""The parts of the speed benchmark that run in other processes, without those processes."""

import time
from pathlib import Path

import numpy as np
from PIL import Image

from deploy.bench.harness import photographs
from deploy.bench.speed import bare_routes, decode_loop, gemm, server_timing


def test_server_timing() -> None:
    assert server_timing.parse("decode;dur=1.92, encode;dur=2.80, total;dur=6.01") == {
        "decode": 1.92, "encode": 2.8, "total": 6.01,
    }  # fmt: skip


def test_pictures_are_photographs_or_drawn() -> None:
    found, source = photographs.photographs()
    assert source
    for image in (*found, photographs._drawn(0)):
        assert image.mode == "RGB"
    data = photographs.jpeg(photographs._drawn(1), photographs.SMALL)
    assert data.startswith(b"\xff\xd8")


def test_the_decode_loop(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(photographs.jpeg(Image.new("RGB", (9, 9)), (64, 48)))
    answer = decode_loop.measure({"files": [str(tmp_path / "a.jpg")], "size": [8, 8], "seconds": 0.05})
    assert answer["items"] > 1
    assert 0 < answer["cpu_s"] < 0.05


def test_the_bare_response_has_1024_floats() -> None:
    assert bare_routes._body(np.ones(1024, np.float32)).count(b"1.0") == 1024


def test_the_rate_of_a_matrix_product() -> None:
    limit = gemm._FLOP / 0.01 / 1e9
    assert limit / 50 < gemm.rate(lambda: time.sleep(0.01), 0.1) < limit
