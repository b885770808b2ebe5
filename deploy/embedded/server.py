"""One run of pe-serve from check to end: Triton, then the gateway; ended in the opposite order."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.embedded import installation, ports, repository
from deploy.embedded.child import adopt_orphans
from deploy.embedded.engine import AUTO, RunBy, bf16_pays
from deploy.embedded.events import Event
from deploy.embedded.follower import Follower
from deploy.embedded.gateway import Gateway
from deploy.embedded.keeper import Keeper
from deploy.embedded.run_directory import run_directory
from deploy.embedded.signals import Signals, StopRequested
from deploy.embedded.triton import Triton


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


def serve(options: Options, on_ready: OnReady, tell: Callable[[Event], None]) -> None:
    """Serves until asked to stop; calls `on_ready` once, with the base URL, the gateway's /info and what runs the
    models, then `tell`.

    Raises any LaunchError, or StopRequested if asked to stop before it was ready. Leaves no process in any case.
    """
    with Signals() as signals, ExitStack() as running:
        models = repository.models(options.repository)
        ports.require_bindable(options.host, options.port)
        triton_installation = installation.find(installation.places(options.cache))
        run_by = RunBy(options.engine, bf16_pays(triton_installation.cuda), triton_installation.openvino)
        installation.require_engines(triton_installation, models, run_by.insisted)
        port = options.port or ports.free(1)[0]

        adopt_orphans()
        directory = running.enter_context(run_directory(options.cache))
        triton = Triton(triton_installation, models, directory, options.verbose, run_by=run_by)
        running.callback(triton.stop, signals)
        triton.wait_until_ready(signals)
        gateway = Gateway(options.host, port, options.workers, triton.grpc)
        running.callback(gateway.stop, signals)
        gateway.wait_until_ready(signals)
        on_ready(gateway.url, gateway.info(), triton_installation)

        follower = Follower(options.repository, triton_installation, triton.layout, models, triton.reason)
        keeper = Keeper(triton, follower, tell)
        try:
            while True:
                gateway.require_alive()
                signals.wait(keeper.step(signals))  # the end of a child ends the wait
        except StopRequested:
            return
