#!/usr/bin/env python3
"""Brings the environments of this checkout up to date: python3 deploy/environments.py serve|openvino|bench|export|test

Run by the system's Python before anything is installed, by `make` before every target, so an up-to-date checkout must
cost next to nothing. Whatever interrupts it, the next run repairs.
"""

from __future__ import annotations

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[0] = ROOT  # instead of deploy/

from deploy.bootstrap import interpreter  # noqa: E402
from deploy.bootstrap.errors import BootstrapError  # noqa: E402

TARGETS = ("serve", "openvino", "bench", "export", "test")


def main(arguments: list[str]) -> int:
    """0: up to date. 1: something is in the way. 2: not called properly. 130: interrupted."""
    if len(arguments) != 1 or arguments[0] not in TARGETS:
        _say(f"usage: {os.path.basename(__file__)} {'|'.join(TARGETS)}")
        return 2
    try:
        interpreter.ensure()
        from deploy.bootstrap import plan  # needs the Python just ensured

        plan.bring_up_to_date(arguments[0], _say)
    except BootstrapError as error:
        _say(f"Setup failed: {error}")
        return 1
    except KeyboardInterrupt:
        _say("\nInterrupted: run the same command again, and it goes on from here.")
        return 130
    return 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
