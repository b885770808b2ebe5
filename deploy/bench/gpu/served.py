"""Experiment `stack`: the variant behind the real embedded Triton and the gateway, on the GPU.

perf_analyzer measures Triton alone. The load generator measures HTTP: raw bodies, lists, base64, and texts of 8 and 32
tokens, with the CPU that each item costs. `graphs` has exported the models. It runs in the gateway's environment.
"""

import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from deploy.bench.gpu import setting as settings
from deploy.bench.gpu.setting import Setting
from deploy.bench.gpu.steps import Record
from deploy.bench.harness import flops, processes, stack
from deploy.bench.speed import cli as speed
from deploy.bench.speed import payloads, schedule
from deploy.bench.speed.schedule import Bench, Result

# A GPU needs many requests in flight. More than a batch in the queue of each of two instances is of no use.
_LEVELS: Final = {"cuda": (1, 8, 32, 64, 128), "cpu": (1, 8)}
_MANY: Final = {"cuda": 64, "cpu": 8}
_EFFORT: Final = replace(schedule.QUICK, gemm=False, torch=False)


def facts(setting: Setting) -> dict[str, Any]:
    """Describe the machine's CPU. The other experiments describe the GPU."""
    return {"machine": processes.machine(), "python": platform.python_version(), "gateway_workers": setting.workers}


def measurements(bench: Bench, setting: Setting) -> dict[str, Callable[[], Result]]:
    """Return the measurements of a round by name, those first that decide the most."""
    levels, many = _LEVELS[setting.device], _MANY[setting.device]
    found: dict[str, Callable[[], Result]] = {}
    for level in reversed(levels):
        # These two are neighbours, because their ratio is a target.
        found[f"triton vision {level}"] = partial(bench.triton, "vision", level)
        found[f"http image raw {level}"] = partial(bench.http, "image raw", level)
    for name, level in (
        ("list of 32", max(1, many // 16)),
        ("list of 8", max(1, many // 4)),
        ("image base64", many),
        *((f"text of {count} tokens", many) for count in payloads.LENGTHS),
    ):
        found[f"http {name} {level}"] = partial(bench.http, name, level)
    found[f"triton text {many}"] = partial(bench.triton, "text", many)
    return found


def measure(setting: Setting, record: Record) -> None:
    """Start the stack, and measure in rounds. Each measurement is kept at once."""
    # Without it, a model could run on the CPU, and only a line in a log would say so.
    environment = {"PE_ONNXRUNTIME_PROVIDER": setting.device, "PE_MAX_IN_FLIGHT": "1000"}
    options = ("--workers", str(setting.workers))
    series: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory(prefix="pe-bench-") as name, record.step("stack") as figures:
        directory, repository = Path(name), setting.models
        effort = replace(_EFFORT, seconds=setting.seconds, levels=_LEVELS[setting.device], rounds=setting.rounds)
        with stack.start(repository, directory, setting.variant, options, environment) as served:
            record.update(
                info=served.info,
                versions=speed.versions(served),
                gflop={
                    "vision": flops.vision_gflop(served.variant, served.image_size[0]),
                    "text": flops.text_gflop(served.variant, served.info["context_length"]),
                },
            )
            written = payloads.write(served, directory)
            record.update(pictures=written.source)
            with schedule.bench(served, written, directory, effort, _say) as bench:
                planned = measurements(bench, setting)
                for number in range(setting.rounds):
                    for key in list(planned)[:: 1 if number % 2 == 0 else -1]:
                        with record.step(f"round {number + 1}: {key}"):
                            result = planned[key]()
                            series.setdefault(key, []).append(result | {"round": number})
                        record.update(series=series, effort={"rounds": number + 1, "levels": effort.levels})
        figures["measurements"] = len(series)


def _say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")


if __name__ == "__main__":
    sys.exit(settings.main(measure, facts))
