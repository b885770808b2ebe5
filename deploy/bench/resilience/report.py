"""A run's figures as one table, each beside its target."""

from typing import Any, Final


def markdown(results: dict[str, Any]) -> str:
    machine = results["machine"]
    lines = [
        "# Does it hold?",
        "",
        f"One run of `{results['command']}` on {results['date']}, of {results['took_s'] / 60:.0f} minutes: "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; commit {results['commit']}.",
        "The stand-in is a model of a fixed service time: a batch of up to 8 takes 80 ms, so 100 items a second are",
        "the most that it can answer.",
        "",
        table(results),
    ]
    return "\n".join(lines)


# What README shows: figures by how they begin.
HEADLINES: Final = (
    "goodput", "p99 of what", "refusal, p99", "answers other than 504", "of these: cancelled,",
    "of 48 whose client left: cancelled,", "a PNG of", "the only Triton killed", "/readiness is 200",
    "one of two", "requests dropped", "100 clients that send", "2000 connections", "damaged images", "5xx", "growth",
    "drift of the memory of gateway",
)  # fmt: skip


def headlines(results: dict[str, Any]) -> str:
    """A shorter table, of one section."""
    figures = [figure for section in results["sections"] for figure in section["figures"]]
    shown = [figure for figure in figures if figure["what"].startswith(HEADLINES)]
    return "\n".join(["| | measured | target | |", "| --- | ---: | --- | --- |", *map(_row, shown)]) + "\n"


def _row(figure: dict[str, Any]) -> str:
    note = f" ({figure['note']})".replace("|", "/") if figure["note"] else ""
    return f"| {' | '.join((figure['what'] + note, figure['measured'], figure['target'], figure['verdict']))} |"


def table(results: dict[str, Any]) -> str:
    lines = ["| | measured | target | |", "| --- | ---: | --- | --- |"]
    for section in results["sections"]:
        lines.append(f"| **{section['title']}** | | | |")
        if section["failed"]:
            lines.append(f"| {section['failed']} | not measured | | MISSED |")
        lines += map(_row, section["figures"])
    return "\n".join(lines) + "\n"
