"""What `nvidia-smi` says of the GPUs, by a program that stands for it."""

from typing import Any

import pytest

from deploy.bench.harness import gpus


def test_gpus_are_described_by_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.describe() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 580.65.06, 23034 MiB, 8.9, 72.00 W, [N/A]'\n")
    program.chmod(0o755)
    assert gpus.describe() == [
        {
            "name": "NVIDIA L4",
            "driver_version": "580.65.06",
            "memory.total": "23034 MiB",
            "compute_cap": "8.9",
            "power.limit": "72.00 W",
            "mig.mode.current": "[N/A]",
        }
    ]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpus.describe() == []
