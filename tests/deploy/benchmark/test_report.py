import copy
from typing import Any

import pytest

from deploy.benchmark import plots, report, targets

LATENCIES = {"p50": 1.0, "p95": 2.0, "p99": 3.0}


def load(number: int, rate: float, **cpu: float) -> dict[str, Any]:
    return {
        "round": number,
        "items_per_s": rate,
        "ms": LATENCIES,
        "cpu_s": cpu,
        "batches": {"1": 10, "4": 10},
        "errors": {"429": 1} if rate < 20 else {},
        "generator": {"cores": 0.1, "bottleneck": "1.0 ms late" if rate < 20 else ""},
    }


@pytest.fixture
def results() -> dict[str, Any]:
    """Two rounds, the second on a machine half as fast."""
    speeds = list(enumerate((1.0, 0.5)))
    series: dict[str, Any] = {
        name: [load(i, rate * speed, gateway=0.004 / speed, bare=0.002 / speed) for i, speed in speeds]
        for name, rate in {
            "triton vision 1": 80.0,
            "triton vision 8": 100.0,
            "http image base64 1": 30.0,
            "http image base64 8": 96.0,
            "http list of 32 1": 90.0,
            "http text new 8": 50.0,
            "bare grpc 8": 200.0,
            "http text repeated 8": 700.0,
            "bare ready 8": 1000.0,
        }.items()
    }
    series["decode 640x480"] = [{"round": i, "cpu_s": 0.003 / speed} for i, speed in speeds]
    series["gemm"] = [{"round": i, "numpy fp32": 10 * speed, "onnxruntime fp32": 200 * speed} for i, speed in speeds]
    series["one image base64"] = [{"round": i, "ms_by_stage": {"decode": 2.0, "gateway": 1.0}} for i, _ in speeds]
    return {
        "variant": "PE-Core-B16-224",
        "info": {"precision": "fp32"},
        "machine": {
            "cpu": "A processor", "cores": 2, "instructions": ["avx2"], "system": "Linux", "python": "3.11",
            "load_before": 0.1,
        },
        "versions": {"Triton": "2.51.0"},
        "effort": {"rounds": 2, "seconds": 1.0, "levels": [1, 8]},
        "at": 8,
        "open_loop": 0.7,
        "pictures": "photographs",
        "gflop": {"vision": 1.5, "text": None},
        "memory": {"requests": 1000, "mb": 150.0},
        "series": series,
        "took_s": 90.0,
    }  # fmt: skip


def by_what(results: dict[str, Any], part: str) -> targets.Target:
    (found,) = (target for target in targets.targets(results) if part in target.what)
    return found


@pytest.mark.parametrize(
    ("part", "median", "verdict"),
    [
        ("HTTP embed_image", 0.96, "met"),
        ("bare decode", 0.75, "met"),
        ("embed_text repeated", 0.7, "met"),
        ("embed_text new", 2.0, "missed"),
        ("list of 32", 90 / 96, "missed"),
        ("vision tower", 100 * 1.5 / 200, "aim met"),
        ("memory", 150.0, "met"),
    ],
)
def test_targets(results: dict[str, Any], part: str, median: float, verdict: str) -> None:
    target = by_what(results, part)
    assert target.measured
    assert target.measured.median == pytest.approx(median)
    assert target.measured.high == pytest.approx(target.measured.low)
    assert target.verdict(results["variant"]) == verdict


def test_what_was_left_out_is_not_measured(results: dict[str, Any]) -> None:
    assert by_what(results, "torch").verdict("PE-Core-B16-224") == "not measured"
    for name in list(results["series"]):
        fewer = copy.deepcopy(results)
        del fewer["series"][name]
        assert "# PE-Core-B16-224" in report.markdown(fewer)


def test_a_round_that_failed_is_left_out_of_the_ratio(results: dict[str, Any]) -> None:
    del results["series"]["http image base64 8"][0]
    measured = by_what(results, "HTTP embed_image").measured
    assert measured
    assert measured.median == pytest.approx(0.96)
    assert measured.count == 1


def test_targets_of_one_variant_are_not_another_ones_misses(results: dict[str, Any]) -> None:
    assert by_what(results, "HTTP embed_image").verdict("PE-Demo-T8-64") == "for PE-Core-B16-224"


def test_the_summary(results: dict[str, Any]) -> None:
    text = report.markdown(results)
    assert "| what | of | measured | due | aim |  |" in text
    assert "| embed_text repeated / the bare route | requests/s | 0.70 (0.70-0.70) | 0.6 | 0.75 | met |" in text
    assert "| http image base64 1 | 22.5 (15.0-30.0) | 1.0 | 2.0 | 3.0 | 1 of status 429 |" in text
    assert "| triton vision 8 | 2.50 | 1: 20 %, 4: 80 % |" in text
    assert "- http image base64 1: 1 of 2 rounds (1.0 ms late)" in text
    assert "nan" not in text


def test_a_figure_that_json_cannot_hold(results: dict[str, Any]) -> None:
    results["series"]["http image base64 8"][1]["ms"] = {"p50": None, "p95": None, "p99": None}
    results["series"]["http image base64 8"][1]["items_per_s"] = None
    results["series"]["http image base64 8"][1]["cpu_s"] = {"gateway": None}
    assert "| http image base64 8 | 96.0 | 1.0 |" in report.markdown(results)


def test_plots(results: dict[str, Any], tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    drawn = plots.draw(results, tmp_path, "a")
    assert [file.name for file in drawn] == ["a-load.svg", "a-time.svg"]
    assert all(file.stat().st_size < 100_000 for file in drawn)
