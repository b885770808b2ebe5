"""Medians, ranges and percentiles of repeated measurements."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The median and the range of repeated values. There are too few values for anything finer."""

    median: float
    low: float
    high: float
    count: int

    def __format__(self, spec: str) -> str:
        """Format as `1.23 (1.20-1.31)`. A single value has no range."""
        if self.count == 1:
            return format(self.median, spec)
        return f"{self.median:{spec}} ({self.low:{spec}}-{self.high:{spec}})"


def spread(values: Sequence[float]) -> Spread | None:
    """Summarize the finite values. Without any, the measurement was left out and the result is None."""
    known = [value for value in values if math.isfinite(value)]
    return Spread(median(known), min(known), max(known), len(known)) if known else None


def paired(f: Callable[[float, float], float], a: Sequence[float], b: Sequence[float]) -> Spread | None:
    """Summarize `f(a, b)` per round. A slower machine slows both values of a round alike."""
    return spread([f(x, y) for x, y in zip(a, b, strict=False) if x > 0 and y > 0])


def ratio(a: Sequence[float], b: Sequence[float]) -> Spread | None:
    """Summarize a / b per round."""
    return paired(lambda x, y: x / y, a, b)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the values do not exceed (nearest rank).

    Without values, return NaN.
    """
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
