"""Plot rates and latencies against concurrency, and the stages of one request."""

from pathlib import Path
from typing import Any, Final

from deploy.bench.speed.report import value
from deploy.bench.speed.targets import Results

_COLOURS: Final = {"triton vision": "#76b900", "http image base64": "#1f77b4"}
_NAMES: Final = {"triton vision": "Triton alone (perf_analyzer)", "http image base64": "gateway over HTTP"}


def draw(results: Results, folder: Path, stem: str) -> list[Path]:
    """Write SVG files. Without matplotlib, write none."""
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("Agg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": stem, "font.size": 9})
    return [_load(results, folder / f"{stem}-load.svg"), _time(results, folder / f"{stem}-time.svg")]


def _load(results: Results, file: Path) -> Path:
    from matplotlib.figure import Figure

    levels = results["effort"]["levels"]
    figure = Figure(figsize=(8, 3), layout="constrained")
    rate, latency = figure.subplots(1, 2)
    for kind, colour in _COLOURS.items():
        rates = [value(results, f"{kind} {level}", "items_per_s") for level in levels]
        points = [(level, found) for level, found in zip(levels, rates, strict=True) if found]
        if not points:
            continue
        x = [level for level, _ in points]
        rate.plot(x, [v.median for _, v in points], "o-", color=colour, label=_NAMES[kind])
        rate.fill_between(x, [v.low for _, v in points], [v.high for _, v in points], color=colour, alpha=0.2)
        for percentile, style in (("p50", "-"), ("p99", ":")):
            spreads = [value(results, f"{kind} {level}", "ms", percentile) for level in x]
            latency.plot(
                x, [v.median if v else float("nan") for v in spreads], "o" + style, color=colour, label=percentile
            )
    for axes, label in ((rate, "images/s"), (latency, "latency, ms (solid p50, dotted p99)")):
        axes.set_xlabel("requests in flight")
        axes.set_ylabel(label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(levels, [str(level) for level in levels])
        axes.set_ylim(bottom=0)
    rate.legend()
    figure.suptitle(f"{results['variant']}, 640x480 JPEG in base64 JSON")
    return _save(figure, file)


def _time(results: Results, file: Path) -> Path:
    from matplotlib.figure import Figure

    names = [name for name, samples in results["series"].items() if "ms_by_stage" in samples[0]]
    figure = Figure(figsize=(8, 0.8 + 0.4 * len(names)), layout="constrained")
    axes = figure.subplots()
    begun = [0.0] * len(names)
    for stage in dict.fromkeys(s for n in names for sample in results["series"][n] for s in sample["ms_by_stage"]):
        spreads = [value(results, name, "ms_by_stage", stage) for name in names]
        widths = [found.median if found else 0.0 for found in spreads]
        axes.barh([n.removeprefix("one ") for n in names], widths, left=begun, label=stage)
        begun = [a + b for a, b in zip(begun, widths, strict=True)]
    axes.set_xlabel(f"ms of one request alone, {results['variant']}")
    axes.invert_yaxis()
    axes.legend(ncols=4, fontsize=8)
    return _save(figure, file)


def _save(figure: Any, file: Path) -> Path:
    figure.savefig(file, metadata={"Date": None})
    return file
