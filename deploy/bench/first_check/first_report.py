"""Write the report in Markdown."""

from typing import Any

from deploy.bench.first_check.known import CAPTIONS
from deploy.bench.harness.figures import table


def markdown(results: dict[str, Any]) -> str:
    """Write the results of `cli.run`: the verdict first, then what each step found."""
    problems = [f"- {step['name']}: {problem}" for step in results["steps"] for problem in step["problems"]]
    parts = [
        f"# First check of {results['variant'] or 'a server'}: {'FAILED' if problems else 'passed'}",
        "\n".join(problems),
        _steps(results),
        _machine(results),
    ]
    found = {step["name"]: step["found"] for step in results["steps"] if step["found"]}
    if info := found.get("serve"):
        rows = [[key, str(value)] for key, value in sorted(info["info"].items()) if not isinstance(value, dict | list)]
        parts.append(f"## Models\n\n{table(['`/info`', info['variant']], rows)}")
    if known := found.get("replay"):
        parts.append(_known(known))
    if rates := found.get("measure"):
        parts.append(_rates(rates))
    return "\n\n".join(part for part in parts if part) + "\n"


def _steps(results: dict[str, Any]) -> str:
    rows = [
        [step["name"], f"{step['seconds']:.1f}", "failed" if step["problems"] else "passed"]
        for step in results["steps"]
    ]
    return (
        f"{table(['step', 'seconds', 'result'], rows)}\n\nCommand: `{results['command']}`, commit {results['commit']}."
    )


def _machine(results: dict[str, Any]) -> str:
    rows = [
        [key, " ".join(value) if isinstance(value, list) else str(value)] for key, value in results["machine"].items()
    ]
    for number, gpu in enumerate(results["gpus"]):
        rows += [[f"GPU {number} {key}", value] for key, value in gpu.items()]
    if not results["gpus"]:
        rows.append(["GPU", "none found by nvidia-smi"])
    return f"## Machine\n\n{table(['', 'value'], rows)}"


def _known(known: dict[str, Any]) -> str:
    rows = [
        [f"picture {place}", *(f"**{value:.3f}**" if known["best"][place] == i else f"{value:.3f}" for i, value in row)]
        for place, row in enumerate(list(enumerate(values)) for values in known["similarities"])
    ]
    unchecked = (
        ""
        if known["matches"] is not None
        else "**The captions were not checked, because they describe photographs.** `deploy/setup.sh bench` installs "
        "the photographs.\n\n"
    )
    captions = "\n".join(f"{number}. {caption}" for number, caption in enumerate(CAPTIONS))
    return (
        f"## Known pictures and texts\n\n{unchecked}Cosines, the best of each picture in bold. The pictures: "
        f"{known['pictures']}. Captions:\n\n"
        f"{captions}\n\n{table(['', *map(str, range(len(CAPTIONS)))], rows)}\n\n"
        f"Smallest cosine of a picture to itself in another body: {known['same_image']:.6f}; of a text: "
        f"{known['same_text']:.6f}. First numbers of the embeddings: `{known['first']}`."
    )


def _rates(rates: list[dict[str, Any]]) -> str:
    rows = [
        [
            rate["what"],
            str(rate["in_flight"]),
            f"{rate['items_per_s']:.1f}",
            *(f"{rate['ms'][p]:.1f}" for p in ("p50", "p99")),
            str(rate["errors"] or ""),
            rate["generator"]["bottleneck"],
        ]
        for rate in rates
    ]
    head = ["request", "in flight", "items/s", "p50 ms", "p99 ms", "errors", "the client was the limit"]
    return f"## Rates\n\n{table(head, rows)}"
