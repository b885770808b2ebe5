"""The summary, from figures that a card could have. test_queue.py checks that figures have this form."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.bench.gpu import summary


def rate(value: float) -> dict[str, float]:
    return {"median": value, "low": value, "high": value}


def load(rate: float, ms: float) -> list[dict[str, Any]]:
    sample = {"items_per_s": rate, "cpu_s": {"gateway": ms / 1e3}, "ms": {"p50": 1.0, "p99": 2.0}}
    return [{"round": i, **sample} for i in range(2)]


@pytest.fixture
def files() -> dict[str, dict[str, Any]]:
    queue = {
        "variant": "PE-Core-L14-336", "device": "cuda", "date": "2026-01-01",
        "machine": {"cpu": "A processor", "cores": 16},
        "experiments": {
            "forms": {"state": "done", "seconds": 200, "failed_steps": ["packed"]},
            "stack": {"state": "stopped: out of time", "seconds": 300, "failed_steps": []},
        },
    }  # fmt: skip
    forms = {
        "device": "A card", "driver": "580.1", "cuda": "13.0", "versions": {"torch": "2.11.0"}, "weights": "random",
        "batch": 32, "matmul_tflops": rate(800.0),
        "images_per_second": {"exported": rate(900.0), "FP16 stream": rate(1200.0)},
        "of_the_limit": {"exported": rate(0.43), "FP16 stream": rate(0.58)},
        "steps": [
            {"name": "exported", "state": "done", "one_minus_cosine": 7e-7},
            {"name": "FP16 stream", "state": "done", "one_minus_cosine": 9e-7},
            {"name": "packed", "state": "failed", "error": "RuntimeError: no kernel:\na log\nthe reason"},
            {"name": "profile of the best", "state": "done", "form": "FP16 stream", "kernel_ms": {"gemm|x": 15.3}},
        ],
    }  # fmt: skip
    rtx = {
        "device": "A card",
        "steps": [
            {"name": "B16, default: compile", "state": "done", "compile_s": 3.0, "engine_bytes": 190e6},
            {"name": "B16, default: run", "state": "failed", "error": "TargetError: cannot load"},
        ],
    }
    stack = {
        "effort": {"rounds": 2},
        "series": {
            "triton vision 64": load(850.0, 0.0),
            "http image raw 64": load(800.0, 3.0),
            "http text of 8 tokens 64": load(5000.0, 1.0),
        },
        "steps": [],
    }
    return {"queue": queue, "forms": forms, "rtx": rtx, "stack": stack}


def test_targets(files: dict[str, dict[str, Any]]) -> None:
    form, http, triton = summary.targets(files)
    assert (form.number, form.verdict) == (0.58, "met")
    assert "(FP16 stream)" in form.what
    assert http.number == pytest.approx(800 / 850)
    assert triton.number == pytest.approx(850 / 900)


def test_the_summary(files: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    for name, values in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    text = summary.write(tmp_path).read_text()
    for line in (
        "# PE-Core-L14-336 on A card",
        "Driver 580.1, CUDA 13.0. A processor, 16 cores. 2026-01-01. torch 2.11.0. Weights: random.",
        "| forms | done | 200 | packed |",
        "| stack | stopped: out of time | 300 | none |",
        "| FP16 stream | 1200.0 (1200.0-1200.0) | 0.580 (0.580-0.580) | 9.0e-07 |",
        "| `gemm/x` | 15.300 |",
        "| B16, default: compile | done | 3 s to compile, 1.9e+08 bytes |",
        "| http image raw 64 | 800.0 (800.0-800.0) | 1.0 | 2.0 | 3.00 |  |  |  |",
        "- forms, packed: RuntimeError: no kernel: the reason",
    ):
        assert line in text.splitlines()
    assert "nan" not in text


@pytest.mark.parametrize("without", ["forms", "rtx", "stack"])
def test_an_experiment_that_is_missing_is_left_out(files: dict[str, dict[str, Any]], without: str) -> None:
    del files[without]
    assert summary.markdown(files).startswith("# PE-Core-L14-336 on ")


def test_an_experiment_that_was_cut_off_before_its_first_figure(files: dict[str, dict[str, Any]]) -> None:
    for name in ("forms", "rtx", "stack"):
        files[name] = {"variant": "V", "steps": [{"name": "one", "state": "begun"}]}
    text = summary.markdown(files)
    assert text.startswith("# PE-Core-L14-336 on cuda")
    assert "A processor, 16 cores. 2026-01-01. Weights: random." in text
    assert summary.targets(files) == []
