"""What Triton and the gateway count of themselves: Prometheus text over HTTP."""

import re
from collections.abc import Mapping
from typing import Final

from deploy.bench.harness import client as asking

_LINE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


def read(url: str, path: str = "/metrics") -> str:
    return asking.get(url, path).body.decode()


def value(text: str, name: str, labels: Mapping[str, str] | None = None) -> float:
    """The sum of all series of that name that have these labels."""
    wanted = [f'{key}="{label}"' for key, label in (labels or {}).items()]
    return sum(
        float(number)
        for found, given, number in _LINE.findall(text)
        if found == name and all(label in given for label in wanted)
    )
