"""Find the other server, and measure it in turn with ours."""

import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.bench.against import agreement, operations, side_by_side
from deploy.bench.against.interfaces import KINDS, OPENAI_PATHS, Interface
from deploy.bench.against.peer import KEY_VARIABLE, Peer, find
from deploy.bench.harness import processes
from deploy.bench.harness.stack import Stack
from deploy.bench.harness.worker import load_generator


def add_options(parser: ArgumentParser) -> None:
    """Add the options that name the other server."""
    other = parser.add_argument_group(
        "another server, in turn with ours",
        f"An API key of the other server is read from the environment variable {KEY_VARIABLE}.",
    )
    other.add_argument("--against", metavar="URL", help="the other server, as http://host:port")
    other.add_argument("--against-interface", choices=KINDS, help="of the other server (default: found by trying)")
    other.add_argument("--against-model", help="to name in requests (default: the only one, or the variant)")
    other.add_argument("--against-name", default="the other server", help="in the table (default: %(default)s)")


def effort(options: Namespace) -> side_by_side.Effort:
    """Return how much the command line asks to measure."""
    chosen = side_by_side.QUICK if options.quick else side_by_side.FULL
    given = {"rounds": options.rounds, "seconds": options.seconds, "minutes": options.minutes}
    return replace(chosen, **{name: value for name, value in given.items() if value})


def measure(served: Stack, options: Namespace, directory: Path, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yield the results after each round.

    Args:
        served: our server.
        options: of the command line.
        directory: for the bodies.
        say: called with each step.

    Raises:
        PeerFailed: the other server cannot be measured.
        WorkerFailed: the load generator failed.
    """
    planned = effort(options)
    machine = processes.machine()
    theirs = find(
        options.against_name, options.against, options.against_interface, options.against_model, served.variant,
        os.environ.get(KEY_VARIABLE),
    )  # fmt: skip
    ours = Peer("our server", served.url, _ours(theirs.interface, served.variant), {})
    say(f"{theirs.name} has {theirs.interface.kind}'s interface, model {theirs.interface.model or 'not named'}.")
    images, pictures = operations.jpegs()
    servers = {"ours": ours, "theirs": theirs}
    rows, refused = side_by_side.prepare(servers, operations.operations(images), planned.levels, directory)
    answers = agreement.compare(ours, theirs, images)
    if warned := agreement.warning(answers, theirs.name):
        say(f"Warning: {warned}")
    with load_generator() as load:
        for found in side_by_side.rounds(rows, load, planned, say):
            yield {
                "variant": served.variant,
                "info": served.info,
                "name": theirs.name,
                "interface": {
                    "kind": theirs.interface.kind,
                    "path": theirs.interface.path if theirs.interface.kind == "openai" else "",
                    "model": theirs.interface.model,
                    "images": theirs.interface.images,
                },
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "commit": processes.commit(),
                "machine": machine,
                "pictures": pictures,
                "rounds": len(next(iter(found.values()))["ours"]),
                "seconds": planned.seconds,
                "agreement": answers,
                "not_offered": refused,
                "rows": found,
            }


def _ours(theirs: Interface, variant: str) -> Interface:
    """Return our server's interface of the same kind. Ours takes no chat messages, and every other convention."""
    images = theirs.images
    return replace(theirs, model=variant, path=OPENAI_PATHS[0], images="string" if images == "messages" else images)
