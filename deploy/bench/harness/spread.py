"""Medians and spreads of a few repeated measurements."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """Repeated values by their median and range: too few for anything finer."""

    median: float
    low: float
    high: float
    count: int

    def __format__(self, spec: str) -> str:
        """As ``1.23 (1.20-1.31)``; the range only where there are several values."""
        if self.count == 1:
            return format(self.median, spec)
        return f"{self.median:{spec}} ({self.low:{spec}}-{self.high:{spec}})"


def spread(values: Sequence[float]) -> Spread | None:
    """None for no values, which is what a measurement that was left out has."""
    known = [value for value in values if math.isfinite(value)]
    return Spread(median(known), min(known), max(known), len(known)) if known else None


def paired(f: Callable[[float, float], float], a: Sequence[float], b: Sequence[float]) -> Spread | None:
    """``f`` of what was measured in the same round: a machine that slowed down slowed down both."""
    return spread([f(x, y) for x, y in zip(a, b, strict=False) if x > 0 and y > 0])


def ratio(a: Sequence[float], b: Sequence[float]) -> Spread | None:
    """a / b, round by round."""
    return paired(lambda x, y: x / y, a, b)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of them do not exceed (nearest rank); NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
