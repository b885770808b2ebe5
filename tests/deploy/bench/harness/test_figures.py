import math

from deploy.bench.harness import figures
from deploy.bench.harness.figures import Figure
from deploy.bench.harness.spread import Spread


def test_a_figure_is_judged_by_its_target() -> None:
    assert figures.at_most("a", 2, 3).met
    assert not figures.at_most("a", 3.1, 3, "s").met
    assert figures.at_least("a", 0.9, 0.9, "x").met
    assert not figures.at_least("a", 0.89, 0.9, "x").met
    assert figures.exactly("a", 0, 0).met
    assert not figures.exactly("a", 1, 0).met
    assert figures.observed("a", 1).met is None


def test_rounds_are_judged_by_their_median() -> None:
    rounds = Figure("a", Spread(0.8, 0.1, 0.9, 3), "x", 0.75, "at least", 0.85)
    assert (rounds.measured, rounds.target, rounds.verdict) == (
        "0.80 (0.10-0.90) x",
        "at least 0.75 x, aim 0.85",
        "met",
    )
    assert Figure("a", Spread(0.85, 0.1, 0.9, 3), "x", 0.75, "at least", 0.85).verdict == "aim met"


def test_a_target_for_other_machines_is_not_missed() -> None:
    figure = Figure("a", Spread(0.1, 0.1, 0.1, 1), "x", 0.75, "at least", exempt="for a CPU with AMX")
    assert (figure.met, figure.verdict) == (None, "for a CPU with AMX")
    assert Figure("a", None, "x", 0.75, "at least", exempt="for a CPU with AMX").verdict == "not measured"


def test_a_measurement_that_failed_is_missed() -> None:
    never = figures.at_most("never happened", math.inf, 1, "s")
    assert (never.met, never.measured, never.json()["value"]) == (False, "not measured", None)
    assert not figures.at_most("nan", math.nan, 1).met
    assert not figures.at_least("nan", math.nan, 1).met


def test_units_have_their_digits() -> None:
    assert Figure("a", 12345.678, "ms").measured == "12,346 ms"
    assert Figure("a", 0.126, "s").measured == "0.13 s"
    assert Figure("a", 92.44, "/s").measured == "92.4/s"
    assert Figure("a", 0).measured == "0"


def test_a_table_escapes_bars_in_notes() -> None:
    figure = figures.at_most("the slowest", 2, 1, "s", note="of 5|7")
    assert figures.figures_table([figure.json()]).splitlines() == [
        "| | measured | target | |",
        "| --- | ---: | --- | --- |",
        "| the slowest (of 5/7) | 2.00 s | at most 1 s | MISSED |",
    ]


def test_json_gets_no_more_digits_than_are_true() -> None:
    assert figures.rounded({"a": [1.23456789, float("nan"), 3]}) == {"a": [1.235, None, 3]}
