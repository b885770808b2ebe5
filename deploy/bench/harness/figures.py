"""Measured figures beside their targets, and tables of figures in Markdown."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from deploy.bench.harness.spread import Spread

_DECIMALS: Final = {"MB": 1, "%": 1, "ms": 0, "s": 2, "x": 2, "/s": 1, "": 0}


@dataclass(frozen=True)
class Figure:
    """A measured value and its target."""

    what: str
    value: float | Spread | None  # None if the run left the measurement out; not finite if the measurement failed
    unit: str = ""  # "x" for ratios
    limit: float | None = None
    bound: Literal["at most", "at least", "exactly"] = "exactly"
    aim: float | None = None  # a stricter limit
    timed: bool = False  # the result also depends on the machine's speed
    note: str = ""
    exempt: str = ""  # why the target does not apply to this run

    @property
    def number(self) -> float:
        """The value, or the median of its rounds; NaN if there is none."""
        if self.value is None:
            return math.nan
        return self.value.median if isinstance(self.value, Spread) else self.value

    @property
    def measured(self) -> str:
        """The value with its unit."""
        if not math.isfinite(self.number):
            return "not measured"
        assert self.value is not None
        return _with_unit(format(self.value, f",.{_DECIMALS[self.unit]}f"), self.unit)

    @property
    def target(self) -> str:
        """The limit in words; empty without one."""
        if self.limit is None:
            return ""
        words = "" if self.bound == "exactly" else f"{self.bound} "
        aim = "" if self.aim is None else f", aim {self.aim:g}"
        return words + _with_unit(f"{self.limit:g}", self.unit) + aim

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is no target, or it does not apply, or nothing was measured."""
        if self.limit is None or self.value is None or self.exempt:
            return None
        return self._meets(self.limit)

    @property
    def verdict(self) -> str:
        """Whether the target is met, as one word."""
        if self.limit is None:
            return ""
        if self.met is None:
            return self.exempt if self.value is not None else "not measured"
        if not self.met:
            return "MISSED"
        return "aim met" if self.aim is not None and self._meets(self.aim) else "met"

    def _meets(self, limit: float) -> bool:
        if self.bound == "exactly":
            return self.number == limit
        return self.number <= limit if self.bound == "at most" else self.number >= limit

    def json(self) -> dict[str, Any]:
        """All of it as JSON values. JSON has no NaN and no infinity, so these become null."""
        value = float(f"{self.number:.5g}") if math.isfinite(self.number) else None
        return {
            "what": self.what, "value": value, "unit": self.unit, "target": self.target, "met": self.met,
            "timed": self.timed, "note": self.note, "measured": self.measured, "verdict": self.verdict,
        }  # fmt: skip


def _with_unit(number: str, unit: str) -> str:
    return f"{number}{unit}" if unit == "/s" else f"{number} {unit}".strip()


def at_most(what: str, value: float, limit: float, unit: str = "", *, timed: bool = False, note: str = "") -> Figure:
    """Build a figure that may not exceed its limit."""
    return Figure(what, value, unit, limit, "at most", timed=timed, note=note)


def at_least(what: str, value: float, limit: float, unit: str = "", *, timed: bool = False, note: str = "") -> Figure:
    """Build a figure that has to reach its limit."""
    return Figure(what, value, unit, limit, "at least", timed=timed, note=note)


def exactly(what: str, value: float, wanted: float, unit: str = "", *, timed: bool = False, note: str = "") -> Figure:
    """Build a figure that has to equal its target."""
    return Figure(what, value, unit, wanted, timed=timed, note=note)


def observed(what: str, value: float, unit: str = "", *, note: str = "") -> Figure:
    """Build a figure without a target."""
    return Figure(what, value, unit, note=note)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table. Columns after the first hold numbers and are aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures_table(figures: Iterable[dict[str, Any]]) -> str:
    """Write a Markdown table of figures, given as `Figure.json` returns them."""
    return "\n".join(["| | measured | target | |", "| --- | ---: | --- | --- |", *map(figure_row, figures)])


def figure_row(figure: dict[str, Any]) -> str:
    """Write one line of the table."""
    note = f" ({figure['note']})".replace("|", "/") if figure["note"] else ""
    return f"| {' | '.join((figure['what'] + note, figure['measured'], figure['target'], figure['verdict']))} |"


def rounded(value: Any) -> Any:
    """Round every float to four digits, because the rest is noise. NaN and infinity become null, which JSON has."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value
