"""`pe-bench first-check`: export, serve, replay known pictures and texts, measure, and write one report.

It is for the first run with real weights on a new machine. Send the report to whoever maintains the installation.
"""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from deploy.bench.first_check import first_report, known, rates
from deploy.bench.harness import gpus, processes, stack
from deploy.bench.harness.arguments import output_folder, positive_number
from deploy.bench.harness.stack import Stack, StackFailed
from deploy.bench.harness.worker import WorkerFailed
from deploy.embedded.installation import CHECKOUT

_DESCRIPTION: Final = """\
Export, serve, replay known pictures and texts, measure, and write one report.

It is for the first run with real weights on a new machine. Send the report to whoever maintains the installation."""
_EPILOG: Final = """\
examples:
  pe-bench first-check PE-Core-L14-336 --from hub          export, then serve by pe-serve
  pe-bench first-check PE-Core-B16-224 --checkpoint FILE --engine openvino
  pe-bench first-check --url http://127.0.0.1:9001         a stack that runs already, such as Compose's
Further options are those of pe-export. The environment variable PE_API_KEY is the key of a server that wants one.
"""
_KNOWN_ERRORS: Final = (StackFailed, WorkerFailed, known.ReplayFailed, OSError, subprocess.SubprocessError)


class _Steps:
    """Run steps, and note what each found, how long it took, and what is wrong."""

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []

    def run(self, name: str, work: Callable[[], Any], judge: Callable[[Any], list[str]] = lambda _: []) -> Any:
        """Run one step. Returns None if it failed."""
        print(f"{name} ...", file=sys.stderr, flush=True)
        begun, found, wrong = time.monotonic(), None, list[str]()
        try:
            found = work()
            wrong = judge(found)
        except _KNOWN_ERRORS as error:
            wrong = [str(error) or type(error).__name__]
        seconds = round(time.monotonic() - begun, 2)
        self.done.append({"name": name, "seconds": seconds, "problems": wrong, "found": found})
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print the report, and write `first-check.md` and `first-check.json`.

    Returns:
        0: passed. 1: something is wrong; the report says what. 130: interrupted.
    """
    options, export = _parse(arguments)
    # SIGTERM ends the run as Ctrl-C does, so that all processes that it started are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = run(options, export)
    except KeyboardInterrupt:
        print("pe-bench first-check: interrupted; nothing was written", file=sys.stderr)
        return 130
    text = first_report.markdown(results)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "first-check.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.output / "first-check.md").write_text(text)
    print(text, end="")
    print(f"Written: {options.output / 'first-check.md'} and .json", file=sys.stderr)
    return 1 if any(step["problems"] for step in results["steps"]) else 0


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="pe-bench first-check",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", help="check a gateway that runs already; nothing is exported")
    parser.add_argument("--variant", help="with --url: if several are served (default: the first)")
    parser.add_argument("--repository", type=Path, help="export to this folder (default: OUTPUT/models)")
    parser.add_argument("--seconds", type=positive_number, default=5, help="of one measurement (default: %(default)s)")
    parser.add_argument("--output", type=output_folder, default=Path("benchmark"), help="folder (default: %(default)s)")
    options, export = parser.parse_known_args(arguments)
    if options.url and export:
        parser.error(f"with --url nothing is exported, so there is no {export[0]}")
    return options, export


def run(options: argparse.Namespace, export: Sequence[str]) -> dict[str, Any]:
    """Run the steps. A step that fails ends those that need it.

    Args:
        options: the parsed command line.
        export: arguments of pe-export.
    """
    steps, variant = _Steps(), ""
    shown = {"machine": processes.machine(), "gpus": gpus.describe(), "commit": processes.commit()}
    repository = (options.repository or options.output / "models").absolute()
    with tempfile.TemporaryDirectory(prefix="pe-first-check-") as name, ExitStack() as running:
        folder = Path(name)
        if options.url or steps.run("export", lambda: _export(repository, export)):
            served: dict[str, Any] | None = steps.run("serve", lambda: _serve(options, repository, folder, running))
            if served:
                url, variant = served["url"], served["variant"]
                judge = partial(known.problems, demo="notice" in served["info"])
                if steps.run("replay", lambda: known.replay(url, variant), judge):
                    steps.run("measure", lambda: rates.measure(url, variant, folder, options.seconds), _errors)
    command = shlex.join(["pe-bench", "first-check", *(["--url", "URL"] if options.url else export)])
    return {"variant": variant, "command": command, **shown, "steps": steps.done}


def _export(repository: Path, arguments: Sequence[str]) -> dict[str, Any]:
    program = CHECKOUT / ".venv-export/bin/pe-export"
    if not program.exists():
        raise StackFailed(f"there is no {program}: `deploy/setup.sh export` makes it")
    status = subprocess.run([program, *arguments, "--repository", repository], check=False).returncode
    if status:
        raise StackFailed(f"pe-export ended with status {status}; see its messages above")
    return {"status": status}


def _serve(options: argparse.Namespace, repository: Path, folder: Path, running: ExitStack) -> dict[str, Any]:
    served: Stack
    if options.url:
        served = stack.attach(options.url, "", "", options.variant)
    else:
        served = running.enter_context(stack.start(repository, folder, None))
    return {"url": served.url, "variant": served.variant, "info": served.info}


def _errors(found: list[dict[str, Any]]) -> list[str]:
    return [f"{rate['what']}, {rate['in_flight']} in flight: {rate['errors']}" for rate in found if rate["errors"]]
