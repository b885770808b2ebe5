"""Fuzz one target with coverage: `python -m tests.fuzz TARGET [CORPUS] [libFuzzer's options]`, as CONTRIBUTING says."""

import logging
import sys

import atheris

with atheris.instrument_imports(include=["gateway", "python_multipart"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run until an input fails, or as long as `-max_total_time` says."""
    logging.disable(logging.CRITICAL)  # Not in targets.py: tests of the same process read what is logged.
    name, *options = sys.argv[1:]
    atheris.Setup([name, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
