import math

from deploy.bench.harness import figures
from deploy.bench.harness.figures import Figure
from deploy.bench.resilience import report


def test_a_figure_is_judged_by_its_target() -> None:
    assert figures.at_most("a", 2, 3).met
    assert not figures.at_most("a", 3.1, 3, "s").met
    assert figures.at_least("a", 0.9, 0.9, "x").met
    assert not figures.at_least("a", 0.89, 0.9, "x").met
    assert figures.exactly("a", 0, 0).met
    assert not figures.exactly("a", 1, 0).met
    assert figures.told("a", 1).met is None


def test_what_could_not_be_measured_is_missed_and_said() -> None:
    never = figures.at_most("never happened", math.inf, 1, "s")
    assert (never.met, never.measured, never.json()["value"]) == (False, "not measured", None)
    assert not figures.at_most("nan", math.nan, 1).met
    assert not figures.at_least("nan", math.nan, 1).met


def test_units_have_their_digits() -> None:
    assert Figure("a", 12345.678, "ms").measured == "12,346 ms"
    assert Figure("a", 0.126, "s").measured == "0.13 s"
    assert Figure("a", 92.44, "/s").measured == "92.4/s"
    assert Figure("a", 0).measured == "0"


def test_the_table_shows_all_and_names_what_failed() -> None:
    figure = figures.at_most("the slowest", 2, 1, "s", note="of 5|7")
    shown = {**figure.json(), "measured": figure.measured, "verdict": figure.verdict}
    section = {"title": "Load", "failed": "", "figures": [shown]}
    broken = {"title": "Memory", "failed": "OSError: gone", "figures": []}
    lines = report.table({"sections": [section, broken]}).splitlines()
    assert lines[2:] == [
        "| **Load** | | | |",
        "| the slowest (of 5/7) | 2.00 s | at most 1 s | MISSED |",
        "| **Memory** | | | |",
        "| OSError: gone | not measured | | MISSED |",
    ]
