"""The table of two servers, in Markdown."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from deploy.bench.against import agreement
from deploy.bench.harness.figures import table
from deploy.bench.harness.spread import Spread, ratio, spread

Results = dict[str, Any]
_MISSING: Final = "not measured"


def markdown(results: Results) -> str:
    """Write the whole summary."""
    name = results["name"]
    parts = [f"# {results['variant']} and {name}", _setting(results)]
    if warned := agreement.warning(results["agreement"], name):
        parts.append(f"**{warned}** So the rates do not compare the same work.")
    parts += [
        "## Rates and latencies",
        f"Items are images or texts; a comparison is one item. `ratio` is our rate by {name}'s of the same round: the "
        "median over rounds, and the range. Milliseconds are per request.",
        _rates(results),
        "## The answers",
        _answers(results),
    ]
    if notes := _bottlenecks(results):
        parts += ["## Where the load generator was the bottleneck", notes]
    return "\n\n".join(parts) + "\n"


def _setting(results: Results) -> str:
    machine, interface = results["machine"], results["interface"]
    asked = "Roboflow's" if interface["kind"] == "roboflow" else f"OpenAI's ({interface['path']})"
    images = f", images by the convention `{interface['images']}`" if interface["images"] else ""
    return (
        f"{results['date']}, commit {results['commit']}, {machine['cpu']}, {machine['cores']} cores, load before "
        f"{machine['load_before']}. {results['rounds']} rounds, at least {results['seconds']} s for each figure, both "
        f"servers in turn, in the reverse order every second round. The interface is {asked}{images}. The other "
        f"server's model is `{interface['model'] or 'not named'}`. Images: JPEG of 640x480, {results['pictures']}."
    )


def _rates(results: Results) -> str:
    name = results["name"]
    head = [
        "request",
        "ours, items/s",
        f"{name}, items/s",
        "ratio",
        "ours p50, p95 ms",
        f"{name} p50, p95 ms",
        "errors",
    ]
    rows = []
    for row, sides in results["rows"].items():
        ours, theirs = sides["ours"], sides["theirs"]
        rates = [[sample["items_per_s"] for sample in samples] for samples in (ours, theirs)]
        errors = [f"{side}: {found}" for side, found in (("ours", _errors(ours)), (name, _errors(theirs))) if found]
        rows.append(
            [row, *(_cell(spread(values), 1) for values in rates), _cell(ratio(*rates), 2), _ms(ours), _ms(theirs),
             "; ".join(errors) or "0"]
        )  # fmt: skip
    for operation, reason in results["not_offered"].items():
        rows.append([operation, "", f"not offered: {_escaped(reason)}", "", "", "", ""])
    return table(head, rows)


def _answers(results: Results) -> str:
    name = results["name"]
    rows = []
    for what, found in results["agreement"].items():
        if "not_offered" in found:
            rows.append([what, "", "", f"not offered: {_escaped(found['not_offered'])}", "", ""])
            continue
        cosine = found["cosine"]
        cosines = f"{cosine['min']:.7f}, {cosine['median']:.7f}" if cosine else "not comparable"
        dimensions = ", ".join(map(str, found["dimensions"]))
        lengths = [f"{low:.7f} to {high:.7f}" for low, high in found["length"]]
        rows.append([what, str(found["pairs"]), dimensions, cosines, *lengths])
    head = [
        "",
        "pairs",
        f"dimensions of ours, {name}'s",
        "smallest, median cosine",
        "length of ours",
        f"length of {name}'s",
    ]
    return table(head, rows)


def _cell(found: Spread | None, digits: int) -> str:
    return format(found, f".{digits}f") if found else _MISSING


def _ms(samples: Sequence[dict[str, Any]]) -> str:
    found = [spread([sample["ms"][key] for sample in samples]) for key in ("p50", "p95")]
    return ", ".join(f"{one.median:.1f}" if one else _MISSING for one in found)


def _errors(samples: Sequence[dict[str, Any]]) -> str:
    total: Counter[str] = Counter()
    for sample in samples:
        total.update(sample["errors"])
    return ", ".join(f"{count} of status {status}" for status, count in sorted(total.items()))


def _escaped(text: str) -> str:
    return text.replace("|", "/")


def _bottlenecks(results: Results) -> str:
    lines = []
    for row, sides in results["rows"].items():
        for side, samples in sides.items():
            reasons = [s["generator"]["bottleneck"] for s in samples if s["generator"]["bottleneck"]]
            if reasons:
                whose = "ours" if side == "ours" else results["name"]
                lines.append(f"- {row}, {whose}: {len(reasons)} of {len(samples)} rounds ({reasons[0]})")
    return "\n".join(lines)
