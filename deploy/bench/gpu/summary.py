"""The summary of a run, and its targets, from whatever JSON files there are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from deploy.bench.gpu.steps import Values
from deploy.bench.harness.figures import Figure, figures_table, table
from deploy.bench.harness.spread import Spread, ratio, spread
from deploy.bench.speed.targets import best, cpu, rates

_EXPORTED: Final = "exported"
_ROLES: Final = ("gateway", "tritonserver", "stub vision", "stub text")


def write(folder: Path) -> Path:
    """Write `gpu.md` beside the JSON files of a run, and return its path."""
    files = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    path = folder / "gpu.md"
    path.write_text(markdown(files))
    return path


def markdown(files: dict[str, Values]) -> str:
    """Write the summary of the experiments, given as their files' values by name."""
    queue = files["queue"]
    described = next((values for name, values in files.items() if name != "queue" and "driver" in values), {})
    parts = [f"# {queue['variant']} on {described.get('device', queue['device'])}", _setting(queue, described)]
    parts += ["## Experiments", _experiments(queue)]
    if figures := targets(files):
        parts += ["## Targets", figures_table(figure.json() for figure in figures)]
    if "rtx" in files:
        parts += ["## TensorRT for RTX", _rtx(files["rtx"])]
    for name, title in (("forms", "Graph forms by onnxruntime"), ("torch", "torch")):
        if "images_per_second" in files.get(name, {}):
            parts += [f"## {title}", _rates(files[name])]
    if profiles := _profiles(files):
        parts += ["## Kernels", profiles]
    if "series" in files.get("stack", {}):
        parts += ["## Behind Triton", _stack(files["stack"])]
    if errors := _errors(files):
        parts += ["## What failed", errors]
    return "\n\n".join(parts) + "\n"


def targets(files: dict[str, Values]) -> list[Figure]:
    """Compute the figures that have a target."""
    figures, forms, stack = [], files.get("forms", {}), files.get("stack", {})
    parts: dict[str, dict[str, float]] = forms.get("of_the_limit", {})
    if parts:
        name = max(parts, key=lambda name: parts[name]["median"])
        what = f"fastest graph form ({name}) / the card's FP16 matrix product"
        figures.append(Figure(what, _spread(parts[name]), "x", 0.55, "at least", 0.65, note="FLOP/s"))
    if stack.get("series"):
        triton = best(stack, [name for name in stack["series"] if name.startswith("triton vision")])
        http = best(stack, [name for name in stack["series"] if name.startswith("http image raw")])
        figures.append(Figure("HTTP / Triton", ratio(http, triton), "x", 0.9, "at least", note="images/s"))
        if alone := forms.get("images_per_second", {}).get(_EXPORTED):
            of_tower = ratio(triton, [alone["median"]] * len(triton))
            figures.append(Figure("Triton / exported form alone", of_tower, "x", 0.9, "at least", note="images/s"))
    return figures


def _spread(values: dict[str, float]) -> Spread:
    return Spread(values["median"], values["low"], values["high"], 2)


def _setting(queue: Values, described: Values) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in described.get("versions", {}).items())
    card = f"Driver {described['driver']}, CUDA {described['cuda']}. " if described.get("driver") else ""
    return (
        f"{card}{queue['machine']['cpu']}, {queue['machine']['cores']} cores. {queue['date']}. "
        f"{versions + '. ' if versions else ''}Weights: {described.get('weights', 'random')}."
    )


def _experiments(queue: Values) -> str:
    rows = [
        [name, state["state"], f"{state.get('seconds', 0):.0f}", ", ".join(state.get("failed_steps", [])) or "none"]
        for name, state in queue["experiments"].items()
    ]
    return table(["experiment", "state", "s", "failed steps"], rows)


def _rtx(values: Values) -> str:
    rows = []
    for step in values["steps"]:
        figures = {
            "compile_s": "s to compile", "engine_bytes": "bytes", "load_s": "s to load", "images_per_s": "images/s",
            "of_the_limit": "of the matrix product", "one_minus_cosine": "1 - cosine",
        }  # fmt: skip
        found = ", ".join(f"{step[key]:.4g} {unit}" for key, unit in figures.items() if key in step)
        rows.append([step["name"], step["state"], found])
    return table(["step", "state", "figures"], rows)


def _rates(values: Values) -> str:
    losses = {step["name"]: step.get("one_minus_cosine") for step in values["steps"]}
    rows = [
        [
            name,
            f"{_spread(found):.1f}",
            f"{_spread(values['of_the_limit'][name]):.3f}",
            f"{losses[name]:.1e}" if losses.get(name) is not None else "",
        ]
        for name, found in sorted(values["images_per_second"].items(), key=lambda item: -item[1]["median"])
    ]
    limit = f"FP16 matrix product: {_spread(values['matmul_tflops']):.4g} TFLOP/s. Batch {values['batch']}."
    return f"{limit}\n\n" + table(["", "images/s", "of the matrix product", "1 - cosine"], rows)


def _profiles(files: dict[str, Values]) -> str:
    parts = []
    for values in files.values():
        for step in values.get("steps", []):
            if kernels := step.get("kernel_ms"):
                name = step.get("form", step["name"])
                rows = [[f"`{kernel[:100]}`".replace("|", "/"), f"{ms:.3f}"] for kernel, ms in kernels.items()]
                parts.append(table([name, "ms per call"], rows[:20]))
    return "\n\n".join(parts)


def _stack(values: Values) -> str:
    rows = []
    for name in values["series"]:
        cores = [_cores(cpu(values, name, role)) for role in _ROLES]
        ms = _latest(values, name, "ms")
        rows.append([
            name, _range(rates(values, name)), *(f"{ms[p]:.1f}" if ms.get(p) else "" for p in ("p50", "p99")), *cores,
        ])  # fmt: skip
    head = ["", "items/s", "p50 ms", "p99 ms", *(f"{role}: cores for 1,000/s" for role in _ROLES)]
    return table(head, rows)


def _latest(values: Values, name: str, key: str) -> dict[str, Any]:
    found: dict[str, Any] = values["series"][name][-1].get(key) or {}
    return found


def _range(found: Sequence[float]) -> str:
    known = spread(found)
    return f"{known:.1f}" if known else ""


def _cores(seconds: Sequence[float]) -> str:
    known = spread([value * 1e3 for value in seconds])
    return f"{known.median:.2f}" if known else ""


def _errors(files: dict[str, Values]) -> str:
    lines = [
        f"- {name}, {step['name']}: {_brief(step['error'])}"
        for name, values in files.items()
        for step in values.get("steps", [])
        if "error" in step
    ]
    lines += [f"- {name}: {values['error']}" for name, values in files.items() if "error" in values]
    return "\n".join(lines)


def _brief(error: str) -> str:
    """The first line, and the last one, which has the reason if the lines between are a program's log."""
    lines = error.splitlines()
    return " ".join(line[:300] for line in (lines[:1] + lines[1:][-1:]))
