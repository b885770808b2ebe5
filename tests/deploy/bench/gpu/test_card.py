"""The summary of a GPU, from figures that one could have. test_tower.py checks that figures have this form."""

from pathlib import Path
from typing import Any

import pytest

from deploy.bench.gpu import card
from deploy.bench.harness.worker import WorkerFailed
from deploy.bench.speed import report


def found() -> dict[str, Any]:
    def rate(value: float) -> dict[str, float]:
        return {"median": value, "low": value, "high": value}

    return {
        "device": "A card",
        "precision": "fp16",
        "gflop_per_image": 400.0,
        "matmul_tflops": {"fp16": rate(800.0), "bf16": rate(700.0)},
        "images_per_second": {
            "onnxruntime fp16, batch 1": rate(300.0),
            "onnxruntime fp16, batch 32": rate(1000.0),
            "torch eager fp16, batch 32": rate(1500.0),
        },
    }


@pytest.fixture
def of_a_card() -> dict[str, Any]:
    def load(rate: float, ms: float) -> list[dict[str, Any]]:
        return [{"round": i, "items_per_s": rate, "cpu_s": {"gateway": ms / 1e3}} for i in range(2)]

    return {
        "effort": {"rounds": 2, "levels": [8, 64]},
        "series": {
            "triton vision 8": load(500.0, 0.0),
            "triton vision 64": load(950.0, 0.0),
            "http image base64 8": load(400.0, 4.0),
            "http image base64 64": load(800.0, 3.0),
        },
        "card": found(),
    }


def test_targets(of_a_card: dict[str, Any]) -> None:
    tower, served = card.targets(of_a_card)
    assert tower.number == pytest.approx(1000 * 0.4 / 800)
    assert tower.verdict == "met"
    assert served.number == pytest.approx(0.95)


def test_summary(of_a_card: dict[str, Any]) -> None:
    text = card.markdown(of_a_card)
    assert "fp16 800 TFLOP/s" in text
    assert "| torch eager fp16, batch 32 | 1500 (1500-1500) |" in text
    assert "in cores for 1,000 images/s: 3.00" in text


def test_the_report_has_a_part_about_the_gpu(results: dict[str, Any]) -> None:
    text = report.markdown(results | {"card": found()})
    assert "## The GPU" in text
    assert "| vision model through Triton / vision tower by onnxruntime (images/s) |" in text


@pytest.mark.export
def test_says_why_it_could_not(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match=r"the card could not be measured:\n(.*\n)*.*--rounds"):
        card.measure("PE-Demo-T8-64", "fp16", tmp_path, "--rounds", "none")
