"""The real tritonserver of nvidia-pytriton as a child process, on the CPU, listening on loopback only."""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.embedded import http_probe, ports, shared_memory
from deploy.embedded.child import Child
from deploy.embedded.engine_choice import EngineChoice
from deploy.embedded.errors import ModelsNotLoaded
from deploy.embedded.installation import Installation
from deploy.embedded.layout import Layout
from deploy.embedded.repository_scan import Model
from deploy.embedded.signals import Signals

# Loading ends by itself, in success or failure; this only bounds a hang. The largest variant is 10 GB on a cold disk.
_LOAD_S = 900.0
_STOP_S = 15.0
_UNKNOWN = "Triton's log says why"


class Triton:
    """Starts at once; `wait_until_ready` tells how it went. `start` starts it again, at the same addresses.

    `grpc`: address and port for gRPC, where several are to be told apart by their address alone. `run_by`: as `Layout`
    has it. It sees GPUs where onnxruntime could use them.
    """

    def __init__(
        self,
        installation: Installation,
        models: Sequence[Model],
        directory: Path,
        verbose: bool,
        grpc: tuple[str, int] | None = None,
        choice: EngineChoice | None = None,
    ) -> None:
        self._models = models
        self._installation = installation
        self._log = None if verbose else directory / "triton.log"
        self.http, free, self._metrics = ports.free(3)
        self._host, self.grpc = grpc or (ports.LOOPBACK, free)
        self._choice = choice or EngineChoice()
        self.layout = Layout(directory, installation, self._choice)
        for model in models:
            self.layout.publish(model)
        self.start()

    def start(self) -> None:
        """Returns at once. The log of the one before is kept as its `previous`."""
        if self._log and self._log.exists():
            self._log.replace(previous(self._log))
        self._started = time.time()
        self._child = Child(
            "Triton",
            [self._installation.server, *self._arguments()],
            _environment(self._installation, self.layout.libraries),
            self._log,
        )

    def _arguments(self) -> list[str]:
        return [
            f"--model-repository={self.layout.models}",
            f"--backend-directory={self.layout.backends}",
            "--model-control-mode=poll",
            "--repository-poll-secs=1",
            f"--http-address={ports.LOOPBACK}",
            f"--http-port={self.http}",
            f"--grpc-address={self._host}",
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
        try:
            self._wait_until_ready(signals)
        except ModelsNotLoaded as error:
            if not self._choice.fall_back(error.reasons):
                raise
            self.stop(signals)
            for model in self._models:
                self.layout.publish(model)
            self.start()
            self._wait_until_ready(signals)

    def _wait_until_ready(self, signals: Signals) -> None:
        end = time.monotonic() + _LOAD_S
        while (states := self._outcome()) is None:
            self._child.require_alive()
            if time.monotonic() > end:
                raise self._child.not_ready(_LOAD_S)
            signals.wait(0.05)
        if reasons := {name: reason for name, reason in states.items() if reason is not None}:
            raise ModelsNotLoaded(reasons, self._log)

    def _outcome(self) -> dict[str, str | None] | None:
        """Why each model could not be loaded, or None if it could; None in all while that is not known."""
        # The endpoints open when loading is over, but what failed is being tried again soon.
        if (index := self.index()) is None or any(entry.get("state") == "LOADING" for entry in index):
            return None
        ready = {entry["name"] for entry in index if entry.get("state") == "READY"}
        reasons = {entry["name"]: entry["reason"] for entry in index if entry["reason"]}
        return {
            name: None if name in ready else reasons.get(name) or self.reason(name) or _UNKNOWN
            for name in (model.name for model in self._models)
        }

    def index(self) -> list[dict[str, Any]] | None:
        """Triton's own list of models, versions and states; None while it does not answer, as when it loads them."""
        reply = http_probe.request("POST", ports.LOOPBACK, self.http, "/v2/repository/index")
        if reply is None or not isinstance(reply[1], list):
            return None
        return [{**entry, "reason": _plain(entry.get("reason", ""))} for entry in reply[1]]

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def status(self) -> int | None:
        """None while it runs, then as in subprocess: negative for a signal."""
        return self._child.status

    def tail(self) -> str:
        """The last lines of its log."""
        return self._child.tail()

    def clean_up(self, signals: Signals) -> None:
        """What a Triton that died leaves: stubs, which hold its connections open, and shared memory."""
        self._child.end_group(signals, grace=0)
        shared_memory.sweep(self._started)

    def stop(self, signals: Signals) -> None:
        """Returns when it has ended, by itself or not, and left nothing in shared memory."""
        self._child.stop(signals, patience=_STOP_S)
        shared_memory.sweep(self._started)

    @property
    def log(self) -> Path | None:
        """None where it writes to the terminal."""
        return self._log

    def reason(self, model: str) -> str | None:
        """Why it could not be loaded, by the log: of a config that it cannot read, Triton says nothing elsewhere."""
        if self._log is None:
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


def previous(log: Path) -> Path:
    """Where the log of the Triton before is."""
    return log.with_suffix(".previous.log")


def _plain(reason: str) -> str:
    """Without the traceback of the Python stub and the error class it begins with."""
    first = reason.split("\n\nAt:\n")[0].strip()
    return re.sub(r"^(Internal|Invalid argument|Not found|Unavailable): (TritonModelException: )?", "", first)


def _environment(installation: Installation, libraries: Path) -> dict[str, str]:
    """Ours, without what would lead the stub's Python astray, or a server for the CPU to a GPU."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH"}}
    paths = [str(libraries), str(installation.libraries), environment.get("LD_LIBRARY_PATH", "")]
    return environment | {
        "LD_LIBRARY_PATH": ":".join(filter(None, paths)),
        # The stub embeds Python, which finds its packages by way of the first python3 on the path.
        "PATH": f"{installation.environment / 'bin'}:{environment.get('PATH', os.defpath)}",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **({} if installation.cuda else {"CUDA_VISIBLE_DEVICES": ""}),
    }
