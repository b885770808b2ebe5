"""Start the embedded Triton so that its models can be loaded with other settings."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.bench.harness.stack import StackFailed, spawn
from deploy.embedded import endpoints, installation, model_scan, probe, triton_process
from deploy.embedded.layout import Layout

_LOAD_S: Final = 900.0
_STOP_S: Final = 60.0
_LINES: Final = 8


@contextmanager
def serve(repository: Path, directory: Path) -> Iterator[str]:
    """Start it on ports of loopback, and stop it at the end of the block.

    Every client that can connect can load models while it runs, and a load can bring code. So use your own machine.

    Args:
        repository: the model repository.
        directory: an empty directory for its files.

    Yields:
        Its gRPC address, `host:port`.

    Raises:
        StackFailed: it did not start.
        LaunchError: the repository or the environment cannot be used.
    """
    found = installation.find(installation.candidate_environments(directory))
    layout, where = Layout(directory, found), endpoints.on_ports((0, 0, 0))
    for model in model_scan.servable_models(repository):
        layout.publish(model)
    log = directory / "triton.txt"
    command = [
        str(found.server),
        f"--model-repository={layout.models}",
        f"--backend-directory={layout.backends}",
        "--model-control-mode=explicit",
        "--load-model=*",
        "--disable-auto-complete-config",
        *where.arguments(),
    ]
    process = spawn(command, triton_process.process_environment(found, layout.libraries), log)
    try:
        _wait(process, where.grpc, log)
        yield where.grpc
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], target: str, log: Path) -> None:
    end = time.monotonic() + _LOAD_S
    while not any(entry["state"] == "READY" for entry in probe.model_index(target) or ()):
        if process.poll() is not None or time.monotonic() > end:
            said = log.read_text(errors="replace").splitlines()[-_LINES:]
            raise StackFailed("\n".join(["Triton did not start:", *said]))
        time.sleep(0.2)
