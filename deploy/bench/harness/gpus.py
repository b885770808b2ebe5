"""Describe the machine's NVIDIA GPUs as `nvidia-smi` does."""

import csv
import subprocess
from typing import Final

_FIELDS: Final = ("name", "driver_version", "memory.total", "compute_cap", "power.limit", "mig.mode.current")


def describe() -> list[dict[str, str]]:
    """One dictionary for each GPU; empty where there is no `nvidia-smi`, or it fails."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = csv.reader(run.stdout.splitlines(), skipinitialspace=True)
    return [dict(zip(_FIELDS, row, strict=False)) for row in rows if row]
