"""The tables of deploy/sizing.md are those that the program computes, and a few of their figures by hand."""

from pathlib import Path

import pytest

from deploy.bench import sizing

PAGE = (Path(__file__).parents[3] / "deploy/sizing.md").read_text()


@pytest.mark.parametrize("number", range(4))
def test_the_page_has_what_the_program_prints(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    sizing.main()
    table = capsys.readouterr().out.split("\n\n")[number]
    assert table.strip() in PAGE


def test_an_h100() -> None:
    (h100,) = (gpu for gpu in sizing.GPUS if gpu.name == sizing.H100)
    assert h100.matrix_tflops == 663
    assert h100.onnx_images == 705
    assert h100.expected_images == pytest.approx(0.6 * 663e3 / 384.7, rel=0.002)  # timm's GFLOP
    # The tower's FLOP in the time that it takes: 0.41 of the matrix product's rate.
    assert h100.onnx_images * sizing.image_gflop() / 1e3 / h100.matrix_tflops == pytest.approx(0.41, abs=0.005)
    assert (h100.needed(10_000, h100.onnx_images), h100.needed(10_000, h100.expected_images)) == (21, 14)
    assert h100.needed(1, h100.onnx_images) == 1
