"""The real tritonserver of nvidia-pytriton as a child process, on the CPU, listening on loopback only."""

import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.embedded import ports, probe, shared_memory
from deploy.embedded.child import Child
from deploy.embedded.errors import ModelsNotLoaded
from deploy.embedded.installation import Installation
from deploy.embedded.repository import Model
from deploy.embedded.signals import Signals

# One for all engines, under each of their names.
BACKEND = Path(__file__).with_name("backend")
# Loading ends by itself, in success or failure; this only bounds a hang. The largest variant is 10 GB on a cold disk.
_LOAD_S = 900.0
_STOP_S = 15.0


class Triton:
    """Starts at once; `wait_until_ready` tells how it went."""

    def __init__(self, installation: Installation, models: Sequence[Model], directory: Path, verbose: bool) -> None:
        self._models = models
        self._started = time.time()
        self._http, self.grpc, self._metrics = ports.free(3)
        _lay_out(directory, installation, models)
        self._child = Child(
            "Triton",
            [installation.server, *self._arguments(directory)],
            _environment(installation, directory),
            log=None if verbose else directory / "triton.log",
        )

    def _arguments(self, directory: Path) -> list[str]:
        return [
            f"--model-repository={directory / 'models'}",
            f"--backend-directory={directory / 'backends'}",
            f"--http-address={ports.LOOPBACK}",
            f"--http-port={self._http}",
            f"--grpc-address={ports.LOOPBACK}",
            f"--grpc-port={self.grpc}",
            f"--metrics-address={ports.LOOPBACK}",
            f"--metrics-port={self._metrics}",
            # Stay up with a model that did not load, and tell the reason over HTTP instead of in a log only.
            "--exit-on-error=false",
            "--disable-auto-complete-config",  # our configs are complete, and guessing starts each model twice
            "--allow-gpu-metrics=false",
            "--pinned-memory-pool-byte-size=0",
        ]

    def wait_until_ready(self, signals: Signals) -> None:
        """Raises ProcessDied, ModelsNotLoaded, ProcessNotReady or StopRequested."""
        end = time.monotonic() + _LOAD_S
        # The endpoints open when loading is over, so the first answer is the final one.
        while (reply := probe.request("POST", ports.LOOPBACK, self._http, "/v2/repository/index")) is None:
            self._child.require_alive()
            if time.monotonic() > end:
                raise self._child.not_ready(_LOAD_S)
            signals.wait(0.05)
        _, index = reply
        states = {entry["name"]: entry for entry in index or ()}
        reasons = {
            model.name: _plain(states.get(model.name, {}).get("reason") or self._reason_from_log(model.name))
            for model in self._models
            if states.get(model.name, {}).get("state") != "READY"
        }
        if reasons:
            raise ModelsNotLoaded(reasons, self._child.log)

    def require_alive(self) -> None:
        """Raises ProcessDied."""
        self._child.require_alive()

    def stop(self, signals: Signals) -> None:
        self._child.stop(signals, patience=_STOP_S)
        shared_memory.sweep(self._started)

    @property
    def log(self) -> Path | None:
        return self._child.log

    def _reason_from_log(self, model: str) -> str:
        """For a config that Triton could not read, the index has no reason, only the log."""
        if self._child.log is None:
            return "Triton's log, above, says why"
        log = self._child.log.read_text(errors="replace")
        found = re.search(rf"model(?: directory)? '{re.escape(model)}': (.*?)\"?$", log, re.MULTILINE)
        details = re.findall(
            r"^\[libprotobuf ERROR .*?\] Error parsing text-format inference\.ModelConfig: (.*)$", log, re.MULTILINE
        )
        reason = found[1] if found else "Triton's log says why"
        return f"{reason} ({'; '.join(details)})" if "text proto" in reason and details else reason


def _plain(reason: str) -> str:
    """Without the traceback of the Python stub and the error class it begins with."""
    first = reason.split("\n\nAt:\n")[0].strip()
    return re.sub(r"^(Internal|Invalid argument|Not found|Unavailable): (TritonModelException: )?", "", first)


def _lay_out(directory: Path, installation: Installation, models: Sequence[Model]) -> None:
    """`models/`, `backends/` and `lib/` as Triton wants them."""
    # Links to what was checked, so that nothing else in the repository (an export's half-made directory) is touched.
    (directory / "models").mkdir()
    for model in models:
        (directory / "models" / model.name).symlink_to(model.path)
    # Copies (3 MB): Triton refuses a library that a link leads out of the backend directory, and wants the stub beside.
    python = directory / "backends/python"
    shutil.copytree(installation.python_backend, python, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(installation.stub, python)
    for engine in ("onnxruntime", "openvino"):
        (directory / "backends" / engine).symlink_to(BACKEND)
    # A link of its own: the library's own directory may hold a whole distribution that must not take precedence.
    (directory / "lib").mkdir()
    if installation.libpython.is_absolute():
        (directory / "lib" / installation.libpython.name).symlink_to(installation.libpython)


def _environment(installation: Installation, directory: Path) -> dict[str, str]:
    """Ours, without what would lead the stub's Python astray."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH"}}
    libraries = [str(directory / "lib"), str(installation.libraries), environment.get("LD_LIBRARY_PATH", "")]
    return environment | {
        "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        # The stub embeds Python, which finds its packages by way of the first python3 on the path.
        "PATH": f"{installation.environment / 'bin'}:{environment.get('PATH', os.defpath)}",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": "",  # this Triton and its backends serve on the CPU; GPU servers run the container
    }
