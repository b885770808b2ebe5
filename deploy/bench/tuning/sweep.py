"""Measure a model with each setting, in rounds, and recommend one."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness.spread import Spread, ratio, spread
from deploy.bench.speed import perf_analyzer
from deploy.bench.tuning.control import ControlFailed, ModelControl
from deploy.bench.tuning.grid import Setting, current, grid

# Rates within this part of the best one count as equal. Then the lower latency and the smaller setting decide.
_EQUAL: Final = 0.03
_WARM_UP: Final = 0.3  # of the length of a measurement


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float
    """Length of one measurement by perf_analyzer."""
    concurrency: int
    """Requests in flight."""


@dataclass
class Row:
    """The measurements of one setting, one of each round."""

    setting: Setting
    rates: list[float] = field(default_factory=list)
    """Items/s."""
    p99_ms: list[float] = field(default_factory=list)
    alone_ms: list[float] = field(default_factory=list)
    """The median latency of a client that is alone."""
    refused: str = ""
    """Why Triton did not load the setting, or why it could not be measured."""

    def add(self, loaded: dict[str, Any], alone: dict[str, Any]) -> None:
        self.rates.append(loaded["items_per_s"])
        self.p99_ms.append(loaded["ms"]["p99"])
        self.alone_ms.append(alone["ms"]["p50"])

    def gain(self, over: "Row") -> Spread | None:
        """The rate as a multiple of another row's in the same round."""
        return ratio(self.rates, over.rates)


Say = Callable[[str], None]


@dataclass(frozen=True)
class Served:
    """A model of a running Triton."""

    control: ModelControl
    triton: str
    """Triton's gRPC address, `host:port`."""
    model: str
    data: Path
    """Inputs of the model, as `perf_analyzer.input_data` writes them."""
    directory: Path
    """For perf_analyzer's reports."""

    def rate(self, seconds: float, concurrency: int) -> dict[str, Any]:
        """Measure the model as it is loaded now. Raises the errors of `perf_analyzer.measure`."""
        return perf_analyzer.measure(self.triton, self.model, self.data, self.directory, seconds, concurrency)


def sweep(
    served: Served, effort: Effort, choices: tuple[Sequence[int], Sequence[int], Sequence[int]], say: Say
) -> list[Row]:
    """Measure every setting. Every second round measures them in reverse order.

    The model is loaded with its own configuration again at the end, also after an error.

    Args:
        choices: numbers of instances, batch sizes, and delays in microseconds.

    Returns:
        The rows. The first one is the model's own setting.

    Raises:
        ControlFailed: the model's own configuration cannot be read.
    """
    original = served.control.config(served.model)
    rows = [Row(setting) for setting in grid(current(original), *choices)]
    try:
        for number in range(effort.rounds):
            for row in rows if number % 2 == 0 else reversed(rows):
                if not row.refused:
                    shown = _measure(served, effort, original, row)
                    say(f"round {number + 1} of {effort.rounds}: {served.model}: {row.setting}: {shown}")
    finally:
        # Without a configuration, Triton 2.51 would keep the last one.
        served.control.load(served.model, original)
    return rows


def _measure(served: Served, effort: Effort, original: Any, row: Row) -> str:
    """Add a round to a row. Returns the result in words."""
    config = type(original)()
    config.CopyFrom(original)
    row.setting.apply(config)
    try:
        served.control.load(served.model, config)
        with suppress(perf_analyzer.PerfAnalyzerFailed):  # The first batches allocate memory, so they do not count.
            served.rate(effort.seconds * _WARM_UP, effort.concurrency)
        row.add(served.rate(effort.seconds, effort.concurrency), served.rate(effort.seconds, 1))
    except (ControlFailed, perf_analyzer.PerfAnalyzerFailed) as error:
        row.refused = " ".join(str(error).split())
        return row.refused
    return f"{row.rates[-1]:.1f}/s"


def recommend(rows: Sequence[Row]) -> Row | None:
    """Choose a setting; None if the present one is as good as any.

    The rate must be higher than the present one in every round. Among rates that are equal to the best, the lowest p99
    and then the smallest setting wins.
    """
    present, *others = rows
    better = [(row, gain) for row in others if (gain := row.gain(present)) is not None and gain.low > 1 + _EQUAL]
    if not better:
        return None
    best = max(gain.median for _, gain in better)
    equal = [row for row, gain in better if gain.median >= best * (1 - _EQUAL)]
    return min(equal, key=lambda row: (_median(row.p99_ms), row.setting))


def _median(values: Sequence[float]) -> float:
    found = spread(values)
    return found.median if found else math.inf
