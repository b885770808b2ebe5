"""A run's figures as one table, each beside its target."""

from typing import Any


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


def table(results: dict[str, Any]) -> str:
    lines = ["| | measured | target | |", "| --- | ---: | --- | --- |"]
    for section in results["sections"]:
        lines.append(f"| **{section['title']}** | | | |")
        if section["failed"]:
            lines.append(f"| {section['failed']} | not measured | | MISSED |")
        for figure in section["figures"]:
            note = f" ({figure['note']})".replace("|", "/") if figure["note"] else ""
            cells = (figure["what"] + note, figure["measured"], figure["target"], figure["verdict"])
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
