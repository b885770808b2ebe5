"""The `tritonserver` of `nvidia-pytriton` as a child process whose files only its own user can read."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from deploy.embedded import probe, shared_memory
from deploy.embedded.child import Child
from deploy.embedded.endpoints import Endpoints
from deploy.embedded.engine_choice import EngineChoice
from deploy.embedded.errors import ModelsNotLoaded
from deploy.embedded.installation import Installation
from deploy.embedded.layout import Layout
from deploy.embedded.model_scan import Model
from deploy.embedded.signals import Signals
from gateway.cpus import usable_cpus

# Loading always ends in success or failure, so this only bounds a hang. The largest variant is 10 GB on a cold disk.
_LOAD_SECONDS: Final = 900.0
_STOP_SECONDS: Final = 15.0
_UNKNOWN: Final = "Triton's log says why"
_KEEP_PRIVATE: Final = Path(__file__).with_name("keep_private.py")


class TritonProcess:
    """A Triton that starts at once. `start` restarts it at the same endpoints.

    It sees the machine's GPUs only if an engine is installed in its build for NVIDIA GPUs.

    Args:
        installation: the Triton environment.
        models: the models to load.
        directory: an empty directory for its files.
        verbose: whether it logs to our terminal instead of a file.
        endpoints: where it listens.
        choice: the engine of each model; by default the engine that its `config.pbtxt` names.
    """

    def __init__(
        self,
        installation: Installation,
        models: Sequence[Model],
        directory: Path,
        verbose: bool,
        endpoints: Endpoints,
        choice: EngineChoice | None = None,
    ) -> None:
        self._models = models
        self.replaced: Mapping[str, str] = {}  # models that onnxruntime runs since they failed to load, and why
        self._installation = installation
        self._directory = directory = directory.absolute()
        self._log = None if verbose else directory / "triton.log"
        self.endpoints = endpoints
        self._choice = choice or EngineChoice()
        self.layout = Layout(directory, installation, self._choice)
        for model in models:
            self.layout.publish(model)
        self.start()

    def start(self) -> None:
        """Start the process without waiting. The log of the last process is kept as `previous_log`."""
        if self._log and self._log.exists():
            self._log.replace(previous_log(self._log))
        if self._installation.cuda:
            _make_device_files()
        self._started = time.time()
        self._child = Child(
            "Triton",
            [sys.executable, "-I", "-S", _KEEP_PRIVATE, self._installation.server, *self._arguments()],
            process_environment(self._installation, self.layout.libraries),
            self._log,
            # The Python stub imports from the current directory first, and the user's may have a folder named `numpy`.
            self._directory,
        )

    def _arguments(self) -> list[str]:
        return [
            f"--model-repository={self.layout.models}",
            f"--backend-directory={self.layout.backends}",
            "--model-control-mode=poll",
            "--repository-poll-secs=1",
            *self.endpoints.arguments(),
            # Triton keeps running when a model fails to load, and gives the reason over gRPC, not only in its log.
            "--exit-on-error=false",
            "--disable-auto-complete-config",  # the configs are complete, and completing them starts each model twice
            "--allow-gpu-metrics=false",
            "--pinned-memory-pool-byte-size=0",
        ]

    def wait_until_ready(self, signals: Signals) -> None:
        """Wait until every model is loaded and every endpoint is open.

        Models that fail with an automatically chosen engine are loaded once more, with onnxruntime.

        Raises:
            ProcessDied: Triton ended.
            ModelsNotLoaded: Triton could not load a model.
            ProcessNotReady: Triton was not ready in time.
            StopRequested: a stop signal came.
        """
        try:
            self._wait_until_ready(signals)
        except ModelsNotLoaded as error:
            replaced = self._choice.fall_back(model for model in self._models if model.name in error.reasons)
            if not replaced:
                raise
            self.replaced = {name: error.reasons[name] for name in replaced}
            self.stop(signals)
            for model in self._models:
                self.layout.publish(model)
            self.start()
            self._wait_until_ready(signals)

    def _wait_until_ready(self, signals: Signals) -> None:
        end = time.monotonic() + _LOAD_SECONDS
        while (states := self._load_states()) is None or not self.endpoints.all_open():
            self._child.require_alive()
            if time.monotonic() > end:
                raise self._child.not_ready(_LOAD_SECONDS)
            signals.wait(0.05)
        if reasons := {name: reason for name, reason in states.items() if reason is not None}:
            raise ModelsNotLoaded(reasons, self._log)

    def _load_states(self) -> dict[str, str | None] | None:
        """Map each model's name to the reason why it failed to load, or None if it is loaded; None while it loads."""
        # The endpoints open after the first attempt to load, but Triton soon retries what failed.
        if (index := self.index()) is None or any(entry["state"] == "LOADING" for entry in index):
            return None
        ready = {entry["name"] for entry in index if entry["state"] == "READY"}
        reasons = {entry["name"]: entry["reason"] for entry in index if entry["reason"]}
        return {
            name: None if name in ready else reasons.get(name) or self.failure_reason(name) or _UNKNOWN
            for name in (model.name for model in self._models)
        }

    def index(self) -> list[dict[str, str]] | None:
        """Return Triton's list of models, versions and states; None if there is no response, as while models load."""
        if (index := probe.model_index(self.endpoints.grpc)) is None:
            return None
        return [{**entry, "reason": _plain(entry["reason"])} for entry in index]

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def status(self) -> int | None:
        """None while it runs, then the exit status as in `subprocess`: negative for a signal."""
        return self._child.status

    def tail(self) -> str:
        """Return the last lines of its log."""
        return self._child.tail()

    def clean_up(self, signals: Signals) -> None:
        """Remove what a dead Triton leaves: stub processes, which hold its connections open, and shared memory."""
        self._child.kill_group(signals, grace=0)
        shared_memory.remove_unused(self._started)

    def stop(self, signals: Signals) -> None:
        """Stop the process, wait for its end, and remove what it left in shared memory."""
        self._child.stop(signals, patience=_STOP_SECONDS)
        shared_memory.remove_unused(self._started)

    @property
    def log(self) -> Path | None:
        """The path of its log; None if it logs to the terminal."""
        return self._log

    def failure_reason(self, model: str) -> str | None:
        """Return why a model failed to load according to the log: Triton reports a rejected config nowhere else."""
        if self._log is None or not self._log.exists():
            return None
        log = self._log.read_text(errors="replace")
        found = re.findall(rf"model(?: directory)? '{re.escape(model)}': (.*?)\"?$", log, re.MULTILINE)
        if not found:
            return None
        reason = _plain(found[-1])
        details = re.findall(
            r"^\[libprotobuf ERROR .*?\] Error parsing text-format inference\.ModelConfig: (.*)$", log, re.MULTILINE
        )
        return f"{reason} ({details[-1]})" if "text proto" in reason and details else reason


def previous_log(log: Path) -> Path:
    """Return the path of the log of the process before the last restart."""
    return log.with_suffix(".previous.log")


def _make_device_files() -> None:
    """Make the device files of the GPU. CUDA would run the same setuid program, but `keep_private.py` forbids it."""
    with suppress(OSError):  # most machines make the files at boot and do not have the program
        subprocess.run(
            ["nvidia-modprobe", "-c", "0", "-u"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )


def _plain(reason: str) -> str:
    """Strip the Python stub's traceback and the leading error class from a reason."""
    first = reason.split("\n\nAt:\n")[0].strip()
    return re.sub(r"^(Internal|Invalid argument|Not found|Unavailable): (TritonModelException: )?", "", first)


def process_environment(installation: Installation, libraries: Path) -> dict[str, str]:
    """Return the environment variables for Triton, derived from our own.

    Args:
        installation: the Triton environment.
        libraries: the directory of the libpython that the stub must load.
    """
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH"}}
    paths = [str(libraries), str(installation.libraries), environment.get("LD_LIBRARY_PATH", "")]
    return environment | {
        "LD_LIBRARY_PATH": ":".join(filter(None, paths)),
        # The stub embeds Python, which finds its packages through the first python3 on the path. Triton starts the stub
        # by a shell, which a service's own path may lack.
        "PATH": ":".join(filter(None, (f"{installation.environment}/bin", environment.get("PATH"), os.defpath))),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PE_CPUS": str(usable_cpus()),
        # onnxruntime reports its use to Microsoft unless told otherwise, and keeps the reports in the user's cache.
        "ORT_DISABLE_TELEMETRY": os.environ.get("ORT_DISABLE_TELEMETRY", "1"),
        **({} if installation.cuda else {"CUDA_VISIBLE_DEVICES": ""}),
    }
