"""Write the results of a run as Markdown."""

from collections import Counter
from typing import Any

from deploy.bench.harness.figures import figures_table, table
from deploy.bench.harness.spread import Spread, spread
from deploy.bench.speed.targets import Results, overhead_ms, targets, values


def markdown(results: Results) -> str:
    """Write the whole summary."""
    parts = [
        f"# {results['variant']}",
        _setting(results),
        "## Targets",
        "Each figure is a ratio of two measurements of the same round: the median over rounds, and the range.",
        _targets(results),
        "## Rates and latencies",
        "`triton`: perf_analyzer over gRPC. `http`: the gateway. `bare`: the least that such a gateway could cost. The "
        f"number is the requests in flight. `open`: requests come at {results['open_loop']} of the rate at "
        f"{results['at']} in flight, as a Poisson process, and the latency of a late request counts from when it was "
        "due. Items are images or texts; in `compare`, requests.",
        _rates(results),
        "## CPU per item, in ms of one core",
        _cpu(results),
        "## Where the time of one request goes, in ms, alone on the machine",
        _stages(results),
        "## The machine's limits",
        _limits(results),
        "## Batches that Triton ran, by size",
        _batches(results),
    ]
    if notes := _bottlenecks(results):
        parts += ["## Where the load generator was the bottleneck", notes]
    return "\n\n".join(parts) + "\n"


def _setting(results: Results) -> str:
    machine, versions = results["machine"], results["versions"]
    effort = results["effort"]
    # A slow model gets fewer rounds than the effort allows.
    rounds = 1 + max((sample["round"] for samples in results["series"].values() for sample in samples), default=0)
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['instructions'])}), {machine['system']}, "
        f"Python {machine['python']}; load {machine['load_before']} before the run. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f". {rounds} round{'s' if rounds > 1 else ''}, {effort['seconds']:g} s or more a measurement; "
        f"{results['took_s'] / 60:.0f} minutes in all. Pictures: {results['pictures']}."
    )


def _targets(results: Results) -> str:
    text = figures_table(figure.json() for figure in targets(results))
    over = overhead_ms(results)
    return text + (f"\n\nThe gateway's CPU per image beyond decoding and resizing: {over:.2f} ms." if over else "")


def _loads(results: Results) -> list[str]:
    """Return the names of the measurements under load."""
    return [name for name, samples in results["series"].items() if "ms" in samples[0]]


def value(results: Results, name: str, *keys: str) -> Spread | None:
    """Summarize one value of a measurement over the rounds, by its path in the JSON."""

    def get(sample: dict[str, Any]) -> Any:
        found: Any = sample
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    return spread(values(results, name, get))


def _cell(found: Spread | None, digits: int, scale: float = 1.0, full: bool = False) -> str:
    if found is None:
        return ""
    scaled = Spread(found.median * scale, found.low * scale, found.high * scale, found.count)
    return format(scaled, f".{digits}f") if full else f"{scaled.median:.{digits}f}"


def _rates(results: Results) -> str:
    rows = []
    for name in _loads(results):
        errors: Counter[str] = Counter()
        for sample in results["series"][name]:
            errors.update(sample.get("errors", {}))
        rows.append(
            [
                name,
                _cell(value(results, name, "items_per_s"), 1, full=True),
                *(_cell(value(results, name, "ms", p), 1) for p in ("p50", "p95", "p99")),
                ", ".join(f"{count} of status {status}" for status, count in errors.items()) or "0",
            ]
        )
    return table(["", "items/s", "p50 ms", "p95 ms", "p99 ms", "errors"], rows)


def _cpu(results: Results) -> str:
    roles = ["gateway", "tritonserver", "stub vision", "stub text", "bare"]
    rows = [
        [
            name,
            *(_cell(value(results, name, "cpu_s", role), 3, 1e3) for role in roles),
            _cell(value(results, name, "generator", "cores"), 2),
        ]
        for name in _loads(results)
    ]
    return table(["", *roles, "load generator, cores"], rows)


def _stages(results: Results) -> str:
    names = [name for name, samples in results["series"].items() if "ms_by_stage" in samples[0]]
    stages = list(dict.fromkeys(s for n in names for sample in results["series"][n] for s in sample["ms_by_stage"]))
    rows = [[n, *(_cell(value(results, n, "ms_by_stage", stage), 2) for stage in stages)] for n in names]
    return table(["", *stages], rows) + (
        "\n\n`gateway`: HTTP, JSON, middleware and hand-offs between threads; `client`: the way there and back."
    )


def _limits(results: Results) -> str:
    series, rows = results["series"], []
    for name in (n for n in series if n.startswith("decode")):
        rows.append([f"{name}, Pillow", "ms of CPU per image", _cell(value(results, name, "cpu_s"), 2, 1e3, True)])
    for library in [k for k in series.get("gemm", [{}])[0] if k != "round"]:
        rows.append([f"matrix product, {library}", "GFLOP/s", _cell(value(results, "gemm", library), 0, full=True)])
    for batch in ("1", "8") if "torch fp32" in series else ():
        rows.append(
            [f"torch FP32 eager, batch {batch}", "images/s", _cell(value(results, "torch fp32", batch), 2, full=True)]
        )
    for tower, gflop in results["gflop"].items():
        rows.append([f"{tower} tower", "GFLOP per item", f"{gflop:.3g}" if gflop else "unknown"])
    return table(["", "unit", "measured"], rows)


def _batches(results: Results) -> str:
    rows = []
    for name in _loads(results):
        counts: Counter[int] = Counter()
        for sample in results["series"][name]:
            counts.update({int(size): count for size, count in sample.get("batches", {}).items()})
        if not counts:
            continue
        items = sum(size * count for size, count in counts.items())
        # The share is of the items, not of the batches.
        share = ", ".join(f"{s}: {100 * s * n / items:.0f} %" for s, n in sorted(counts.items()) if s * n * 50 >= items)
        rows.append([name, f"{items / counts.total():.2f}", share])
    return table(["", "mean", "share of the items (2 % and more)"], rows)


def _bottlenecks(results: Results) -> str:
    lines = []
    for name in _loads(results):
        reasons = [
            s["generator"]["bottleneck"] for s in results["series"][name] if s.get("generator", {}).get("bottleneck")
        ]
        if reasons:
            lines.append(f"- {name}: {len(reasons)} of {len(results['series'][name])} rounds ({reasons[0]})")
        slow = [s for s in results["series"][name] if s.get("kept_up") is False]
        if slow:
            lines.append(f"- {name}: perf_analyzer did not keep up in {len(slow)} rounds")
    return "\n".join(lines)
