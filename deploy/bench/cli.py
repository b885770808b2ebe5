"""`pe-bench`: measure, tune and check the served stack."""

import difflib
import sys
from collections.abc import Callable, Sequence
from typing import Final

from deploy.bench.first_check import cli as first_check
from deploy.bench.gpu import cli as gpu
from deploy.bench.resilience import cli as resilience
from deploy.bench.speed import cli as speed
from deploy.bench.tuning import cli as tuning

COMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "speed": speed.main,
    "resilience": resilience.main,
    "tune": tuning.main,
    "first-check": first_check.main,
    "gpu": gpu.main,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark. Without a command, run `speed`.

    Returns:
        The exit status of the command: see the `cli.py` of its folder. 2: there is no such command.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        return COMMANDS[given[0]](given[1:])
    if given and not given[0].startswith("-"):
        near = difflib.get_close_matches(given[0], COMMANDS, 1)
        guess = f" Did you mean {near[0]}?" if near else ""
        print(
            f"pe-bench: unknown command {given[0]!r}: choose from {', '.join(COMMANDS)}.{guess} Each has --help.",
            file=sys.stderr,
        )
        return 2
    return speed.main(given)


if __name__ == "__main__":
    sys.exit(main())
