"""Known vulnerabilities of everything that is pinned, by pip-audit: ``make audit``.

pip-audit passes over packages that it could not look up, and ends well even if that were all of them. Here a package
that was not looked up is not verified, and that is no success.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
_VERDICTS: Final = ("No known vulnerability.", "VULNERABLE.", "NOT VERIFIED: this says nothing of their safety.")
PINS: Final = tuple(
    ROOT / "constraints" / name for name in ("gateway.txt", "triton.txt", "export.txt", "build-hashed.txt")
)


@dataclass
class Report:
    """What is known of the packages of one file, by ``name version``; and why some are not known of."""

    verified: int = 0
    vulnerable: dict[str, list[str]] = field(default_factory=dict)
    unverified: dict[str, str] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all were looked up, and nothing is known of them. 1: something is. 2: not all could be looked up.

    What is given goes to pip-audit as it is, such as ``--vulnerability-service osv``.
    """
    given = sys.argv[1:] if arguments is None else arguments
    status = 0
    for file in PINS:
        report = audit(file, given)
        _say(f"{file.name}: {report.verified} verified, {', '.join(report.unverified) or 'none'} not verified")
        for package, known in report.vulnerable.items():
            _say(f"  {package}: {', '.join(known)}")
        for reason in list(report.unverified.values())[:1]:
            _say(f"  not verified, for instance: {reason}")
        if report.vulnerable:
            status = 1
        elif (report.unverified or not report.verified) and status == 0:
            status = 2
    _say(
        {0: "No known vulnerability.", 1: "VULNERABLE.", 2: "NOT VERIFIED: this says nothing of their safety."}[status]
    )
    return status


def audit(file: Path, arguments: Sequence[str] = ()) -> Report:
    """Asks about the pins of one file, which are taken as they stand."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--requirement", str(file)]
    options = ["--format", "json", "--progress-spinner", "off", *arguments]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(run.stdout)["dependencies"]
    except (ValueError, KeyError):  # it gave up: the database could not be reached at all
        last = run.stderr.strip().splitlines()[-1:] or [f"pip-audit ended with status {run.returncode}"]
        return Report(unverified={"everything": last[0]})
    report = Report()
    for package in found:
        name = f"{package['name']} {package.get('version', '')}".strip()
        if "skip_reason" in package:
            report.unverified[name] = package["skip_reason"]
            continue
        report.verified += 1
        if package["vulns"]:
            report.vulnerable[name] = [_describe(known) for known in package["vulns"]]
    return report


def _describe(known: dict[str, Any]) -> str:
    fixed = ", ".join(known.get("fix_versions") or ())
    return f"{known['id']} ({f'fixed in {fixed}' if fixed else 'no fix known'})"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
