"""A run's results as Markdown, for people."""

from typing import Any

from deploy.bench.gpu import card
from deploy.bench.harness.spread import Spread, spread
from deploy.bench.harness.table import table
from deploy.bench.speed.targets import Results, Target, overhead_ms, targets, values


def markdown(results: Results) -> str:
    """The whole summary."""
    parts = [
        f"# {results['variant']}",
        _setting(results),
        "## Targets",
        "Each is a ratio of two things measured in the same round: the median over rounds, and the range.",
        _targets(results),
        "## Rates and latencies",
        f"`triton`: perf_analyzer over gRPC. `http`: the gateway. `bare`: the least that such a gateway could be. The "
        f"number is how many requests were in flight; `open`: requests come at {results['open_loop']} of the rate at "
        f"{results['at']} in flight, as a Poisson process, and a late one counts from when it was due. Items are "
        "images or texts; in `compare`, requests.",
        _rates(results),
        "## CPU, in ms of one core an item",
        _cpu(results),
        "## Where one request's time goes, in ms, alone on the machine",
        _stages(results),
        "## The machine's limits",
        _limits(results),
        *(("## The GPU", card.markdown(results)) if "card" in results else ()),
        "## Batches that Triton ran, by size",
        _batches(results),
    ]
    if notes := _bottlenecks(results):
        parts += ["## Where the load generator was the bottleneck", notes]
    return "\n\n".join(parts) + "\n"


def _setting(results: Results) -> str:
    machine, versions = results["machine"], results["versions"]
    effort = results["effort"]
    # A slow model has fewer than were asked for.
    rounds = 1 + max((sample["round"] for samples in results["series"].values() for sample in samples), default=0)
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['instructions'])}), {machine['system']}, "
        f"Python {machine['python']}; load {machine['load_before']} before the run. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f". {rounds} round{'s' if rounds > 1 else ''}, {effort['seconds']:g} s or more a measurement; "
        f"{results['took_s'] / 60:.0f} minutes in all. Pictures: {results['pictures']}."
    )


def _targets(results: Results) -> str:
    found = [*targets(results), *(card.targets(results) if "card" in results else ())]

    def row(target: Target) -> list[str]:
        digits = ".0f" if target.of == "MB" else ".2f"
        sign = "at most " if target.at_most else ""
        measured = "-" if target.measured is None else format(target.measured, digits)
        aim = "" if target.aim is None else f"{target.aim:g}"
        verdict = target.verdict(results["variant"], results["machine"]["instructions"])
        return [target.what, target.of, measured, f"{sign}{target.due:g}", aim, verdict]

    text = table(["what", "of", "measured", "due", "aim", ""], [row(target) for target in found])
    over = overhead_ms(results)
    return text + (f"\n\nThe gateway's CPU an image beyond decoding and resizing: {over:.2f} ms." if over else "")


def _loads(results: Results) -> list[str]:
    return [name for name, samples in results["series"].items() if "ms" in samples[0]]


def figure(results: Results, name: str, *keys: str) -> Spread | None:
    """One figure of a measurement over the rounds, by where it stands in the JSON."""

    def get(sample: dict[str, Any]) -> Any:
        value: Any = sample
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    return spread(values(results, name, get))


def _cell(value: Spread | None, digits: int, scale: float = 1.0, full: bool = False) -> str:
    if value is None:
        return ""
    scaled = Spread(value.median * scale, value.low * scale, value.high * scale, value.count)
    return format(scaled, f".{digits}f") if full else f"{scaled.median:.{digits}f}"


def _rates(results: Results) -> str:
    rows = []
    for name in _loads(results):
        errors: dict[str, int] = {}
        for sample in results["series"][name]:
            for status, count in sample.get("errors", {}).items():
                errors[status] = errors.get(status, 0) + count
        rows.append(
            [
                name,
                _cell(figure(results, name, "items_per_s"), 1, full=True),
                *(_cell(figure(results, name, "ms", p), 1) for p in ("p50", "p95", "p99")),
                ", ".join(f"{count} of status {status}" for status, count in errors.items()) or "0",
            ]
        )
    return table(["", "items/s", "p50 ms", "p95 ms", "p99 ms", "errors"], rows)


def _cpu(results: Results) -> str:
    roles = ["gateway", "tritonserver", "stub vision", "stub text", "bare"]
    rows = [
        [
            name,
            *(_cell(figure(results, name, "cpu_s", role), 3, 1e3) for role in roles),
            _cell(figure(results, name, "generator", "cores"), 2),
        ]
        for name in _loads(results)
    ]
    return table(["", *roles, "load generator, cores"], rows)


def _stages(results: Results) -> str:
    names = [name for name, samples in results["series"].items() if "ms_by_stage" in samples[0]]
    stages = list(dict.fromkeys(s for n in names for sample in results["series"][n] for s in sample["ms_by_stage"]))
    rows = [[n, *(_cell(figure(results, n, "ms_by_stage", stage), 2) for stage in stages)] for n in names]
    return table(["", *stages], rows) + (
        "\n\n`gateway`: HTTP, JSON, middleware and hand-offs between threads; `client`: the way there and back."
    )


def _limits(results: Results) -> str:
    series, rows = results["series"], []
    for name in (n for n in series if n.startswith("decode")):
        rows.append([f"{name}, Pillow", "ms of CPU an image", _cell(figure(results, name, "cpu_s"), 2, 1e3, True)])
    for library in [k for k in series.get("gemm", [{}])[0] if k != "round"]:
        rows.append([f"matrix product, {library}", "GFLOP/s", _cell(figure(results, "gemm", library), 0, full=True)])
    for batch in ("1", "8") if "torch fp32" in series else ():
        rows.append(
            [f"torch FP32 eager, batch {batch}", "images/s", _cell(figure(results, "torch fp32", batch), 2, full=True)]
        )
    for tower, gflop in results["gflop"].items():
        rows.append([f"{tower} tower", "GFLOP an item", f"{gflop:.3g}" if gflop else "unknown"])
    return table(["", "of", "measured"], rows)


def _batches(results: Results) -> str:
    rows = []
    for name in _loads(results):
        together: dict[int, int] = {}
        for sample in results["series"][name]:
            for size, count in sample.get("batches", {}).items():
                together[int(size)] = together.get(int(size), 0) + count
        if not together:
            continue
        items = sum(size * count for size, count in together.items())
        # By images, not by batches: what share of the items went in a batch of this size.
        share = ", ".join(
            f"{s}: {100 * s * n / items:.0f} %" for s, n in sorted(together.items()) if s * n * 50 >= items
        )
        rows.append([name, f"{items / sum(together.values()):.2f}", share])
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
