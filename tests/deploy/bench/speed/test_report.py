import copy
from typing import Any

import pytest

from deploy.bench.harness.figures import Figure
from deploy.bench.harness.spread import Spread
from deploy.bench.speed import plots, report, targets


def by_what(results: dict[str, Any], part: str) -> Figure:
    (found,) = (target for target in targets.targets(results) if part in target.what)
    return found


@pytest.mark.parametrize(
    ("part", "median", "verdict"),
    [
        ("HTTP embed_image", 0.96, "met"),
        ("bare decode", 0.75, "met"),
        ("embed_text repeated", 0.7, "met"),
        ("embed_text new", 2.0, "MISSED"),
        ("list of 32", 90 / 96, "MISSED"),
        ("vision tower", 100 * 1.5 / 200, "aim met"),
        ("memory", 150.0, "met"),
    ],
)
def test_targets(results: dict[str, Any], part: str, median: float, verdict: str) -> None:
    target = by_what(results, part)
    assert isinstance(target.value, Spread)
    assert target.number == pytest.approx(median)
    assert target.value.high == pytest.approx(target.value.low)
    assert target.verdict == verdict


def test_what_was_left_out_is_not_measured(results: dict[str, Any]) -> None:
    assert by_what(results, "torch").verdict == "not measured"
    for name in list(results["series"]):
        fewer = copy.deepcopy(results)
        del fewer["series"][name]
        assert "# PE-Core-B16-224" in report.markdown(fewer)


def test_a_round_that_failed_is_left_out_of_the_ratio(results: dict[str, Any]) -> None:
    del results["series"]["http image base64 8"][0]
    measured = by_what(results, "HTTP embed_image").value
    assert isinstance(measured, Spread)
    assert measured.median == pytest.approx(0.96)
    assert measured.count == 1


def test_targets_of_one_variant_are_not_another_ones_misses(results: dict[str, Any]) -> None:
    results["variant"] = "PE-Demo-T8-64"
    assert by_what(results, "HTTP embed_image").verdict == "for PE-Core-B16-224"


def test_a_target_for_cpus_with_amx_is_not_another_ones_miss(results: dict[str, Any]) -> None:
    results["series"]["torch fp32"] = [{"round": number, "1": 80.0, "8": 90.0} for number in range(2)]
    assert by_what(results, "torch").verdict == "for a CPU with AMX"
    results["machine"]["instructions"].append("amx_bf16")
    assert by_what(results, "torch").verdict == "MISSED"


def test_the_summary_names_the_number_of_rounds(results: dict[str, Any]) -> None:
    assert ". 2 rounds, " in report.markdown(results)
    results["series"] = {name: samples[:1] for name, samples in results["series"].items()}
    assert ". 1 round, " in report.markdown(results)


def test_the_summary(results: dict[str, Any]) -> None:
    text = report.markdown(results)
    row = "| embed_text repeated / the bare route (requests/s) | 0.70 (0.70-0.70) x | at least 0.6 x, aim 0.75 | met |"
    assert row in text
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
