"""The JSON file of one experiment, written again after each step: a run that is cut off keeps its steps."""

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.bench.harness.figures import rounded

Values = dict[str, Any]


def write_json(path: Path, values: Values) -> None:
    """Write a file such that readers, and a crash, find either the old content or the new."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(rounded(values), indent=1) + "\n")
    partial.replace(path)


class Record:
    """An experiment's figures: facts about the run, and its steps in order.

    Each step has its `name`, its `state` (begun, done or failed), `seconds`, and figures of its own. A failed step has
    `error`.
    """

    def __init__(self, path: Path, **facts: Any) -> None:
        self._path = path
        self.values: Values = {**facts, "steps": []}
        self.write()

    def update(self, **values: Any) -> None:
        """Add facts, and write the file."""
        self.values.update(values)
        self.write()

    @contextmanager
    def step(self, name: str) -> Iterator[Values]:
        """Run a step. An exception ends the step and not the experiment. Add figures to the yielded dictionary."""
        figures: Values = {"name": name, "state": "begun"}
        self.values["steps"].append(figures)
        self.write()
        begun = time.monotonic()
        try:
            yield figures
        except Exception as error:
            traceback.print_exc()
            figures |= {"state": "failed", "error": f"{type(error).__name__}: {str(error).strip()[:2000]}"}
        else:
            figures["state"] = "done"
        figures["seconds"] = time.monotonic() - begun
        self.write()
        sys.stderr.write(f"  {name}: {figures['state']} after {figures['seconds']:.1f} s\n")

    def write(self) -> None:
        """Write the file. A step that adds figures one by one calls this after each."""
        write_json(self._path, self.values)
