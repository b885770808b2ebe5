"""What `pe-bench gpu` passes to each experiment, and the command line that carries it.

Each experiment is a module with `measure(setting, record)`, and runs in a process of its own, because each needs the
whole GPU, and its own environment.
"""

import argparse
import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from deploy.bench.gpu.steps import Record
from gateway.parent_death import end_with_parent

Device = Literal["cuda", "cpu"]


@dataclass(frozen=True)
class Setting:
    """The options of an experiment."""

    variant: str
    device: Device
    work: Path
    """Folder of the exported graphs and models, which the experiments share."""
    batch: int
    """Images in one call."""
    rounds: int
    seconds: float
    """Of one measurement, at least."""
    forms: tuple[str, ...]
    """Names of the graph forms to measure; empty for all."""
    workers: int
    """Processes of the gateway."""

    @property
    def models(self) -> Path:
        """The model repository with both towers, which `graphs` exports."""
        return self.work / "models"

    def graph(self, variant: str, form: str) -> Path:
        """Return where `graphs` puts the vision tower in FP16: in a form of `GRAPHS`, or in TensorRT's form."""
        return self.work / variant / form.replace(" ", "-").replace(",", "") / "model.onnx"

    def arguments(self) -> list[str]:
        """Return the arguments from which `main` makes this setting again."""
        return [json.dumps(asdict(self) | {"work": str(self.work)})]


Measure = Callable[[Setting, Record], None]


def main(measure: Measure, facts: Callable[[Setting], dict[str, Any]], arguments: Sequence[str] | None = None) -> int:
    """Run an experiment as a command: `python -m MODULE SETTING OUTPUT`. SIGTERM ends it as Ctrl-C does.

    Args:
        measure: the experiment.
        facts: describes device and versions, for the head of its file.
        arguments: of the command line: what `Setting.arguments` returned, and the JSON file to write.

    Returns:
        0: it has run to its end, though steps may have failed. 130: interrupted. An error ends the process with 1.
    """
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument("setting", type=_setting)
    parser.add_argument("output", type=Path)
    parser.add_argument("--parent", type=int, help="end with this process")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.parent:
        end_with_parent(options.parent, signal.SIGTERM)
    setting: Setting = options.setting
    record = Record(options.output, variant=setting.variant)
    try:
        record.update(**facts(setting))
        measure(setting, record)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        record.update(error=f"{type(error).__name__}: {error}")
        raise
    return 0


def _setting(text: str) -> Setting:
    values = json.loads(text)
    return Setting(**values | {"work": Path(values["work"]), "forms": tuple(values["forms"])})
