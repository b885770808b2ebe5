"""What was measured, beside what was aimed at."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

UNITS: Final = {"MB": 1, "%": 1, "ms": 0, "s": 2, "x": 2, "/s": 1, "": 0}  # and the decimals to show


@dataclass(frozen=True)
class Figure:
    """``met``: None where it is told for comparison only. ``timed``: it hangs on how fast the machine is, too."""

    what: str
    value: float | None  # None: it could not be measured
    unit: str = ""
    target: str = ""
    met: bool | None = None
    timed: bool = False
    note: str = ""

    @property
    def measured(self) -> str:
        if self.value is None or not math.isfinite(self.value):
            return "not measured"
        return f"{self.value:,.{UNITS[self.unit]}f}{'' if self.unit in ('', '/s') else ' '}{self.unit}".strip()

    @property
    def verdict(self) -> str:
        if self.met is None:
            return ""
        return "met" if self.met else "MISSED"

    def json(self) -> dict[str, Any]:
        value = self.value if self.value is not None and math.isfinite(self.value) else None
        return {**asdict(self), "value": value and float(f"{value:.5g}")}


def at_most(what: str, value: float, limit: float, unit: str = "", *, timed: bool = False, note: str = "") -> Figure:
    """Met by what does not exceed the limit."""
    return Figure(what, value, unit, f"at most {limit:g} {unit}".rstrip(), value <= limit, timed, note)


def at_least(what: str, value: float, limit: float, unit: str = "", *, timed: bool = False, note: str = "") -> Figure:
    """Met by what reaches the limit."""
    return Figure(what, value, unit, f"at least {limit:g} {unit}".rstrip(), value >= limit, timed, note)


def exactly(what: str, value: float, wanted: float, unit: str = "", *, note: str = "") -> Figure:
    return Figure(what, value, unit, f"{wanted:g} {unit}".rstrip(), value == wanted, False, note)


def told(what: str, value: float, unit: str = "", *, note: str = "") -> Figure:
    """For comparison."""
    return Figure(what, value, unit, note=note)


def missed(figures: Sequence[Figure]) -> list[Figure]:
    return [figure for figure in figures if figure.met is False]
