"""One run of pe-serve from check to end: Triton, then the gateway; ended in the opposite order."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.embedded import installation, ports, repository_scan
from deploy.embedded.child import adopt_orphans
from deploy.embedded.engine_choice import AUTO, EngineChoice, bf16_pays
from deploy.embedded.events import Event
from deploy.embedded.gateway_process import Gateway
from deploy.embedded.repository_watcher import RepositoryWatcher
from deploy.embedded.run_directory import run_directory
from deploy.embedded.signals import Signals, StopRequested
from deploy.embedded.triton_process import Triton
from deploy.embedded.triton_supervisor import TritonSupervisor


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    repository: Path
    host: str
    port: int  # 0: any free one
    workers: int  # gateway processes
    cache: Path
    verbose: bool  # Triton's log to the terminal instead of a file
    engine: str = AUTO  # that runs ONNX models, of `engine.CHOICES`


OnReady = Callable[[str, dict[str, Any], installation.Installation], None]


def serve(options: Options, on_ready: OnReady, report: Callable[[Event], None]) -> None:
    """Serves until asked to stop; calls `on_ready` once, with the base URL, the gateway's /info and what runs the
    models, then `report`.

    Raises any LaunchError, or StopRequested if asked to stop before it was ready. Leaves no process in any case.
    """
    with Signals() as signals, ExitStack() as running:
        models = repository_scan.require_models(options.repository)
        ports.require_bindable(options.host, options.port)
        triton_installation = installation.find(installation.places(options.cache))
        choice = EngineChoice(
            options.engine, bf16_pays(triton_installation.cuda), "openvino" in triton_installation.engines
        )
        installation.require_engines(triton_installation, models, choice.forced)
        port = options.port or ports.free(1)[0]

        adopt_orphans()
        directory = running.enter_context(run_directory(options.cache))
        triton = Triton(triton_installation, models, directory, options.verbose, choice=choice)
        running.callback(triton.stop, signals)
        triton.wait_until_ready(signals)
        gateway = Gateway(options.host, port, options.workers, triton.grpc)
        running.callback(gateway.stop, signals)
        gateway.wait_until_ready(signals)
        on_ready(gateway.url, gateway.info(), triton_installation)

        watcher = RepositoryWatcher(options.repository, triton_installation, triton.layout, models, triton.reason)
        supervisor = TritonSupervisor(triton, watcher, report)
        try:
            while True:
                gateway.require_alive()
                signals.wait(supervisor.step(signals))  # the end of a child ends the wait
        except StopRequested:
            return
