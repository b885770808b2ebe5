"""One run of `pe-serve`: check everything, start Triton, start the gateway, supervise, stop in reverse order."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.embedded import endpoints, installation, model_scan, ports
from deploy.embedded.child import adopt_orphans
from deploy.embedded.engine_choice import AUTO, EngineChoice, bf16_is_faster
from deploy.embedded.events import EngineReplaced, Event
from deploy.embedded.gateway_process import GatewayProcess
from deploy.embedded.reconciler import Reconciler
from deploy.embedded.run_directory import run_directory
from deploy.embedded.signals import Signals, StopRequested
from deploy.embedded.socket_directory import parents, socket_directory
from deploy.embedded.triton_process import TritonProcess
from deploy.embedded.triton_supervisor import TritonSupervisor


@dataclass(frozen=True)
class Options:
    """The command line's options."""

    repository: Path
    host: str
    port: int  # 0: any free port
    workers: int  # gateway processes
    cache: Path
    verbose: bool  # whether Triton logs to the terminal instead of a file
    engine: str = AUTO  # for ONNX models; one of `engine_choice.OPTIONS`
    triton_ports: tuple[int, int, int] | None = None  # HTTP, gRPC and metrics, 0: any free port; None: a Unix socket


OnReady = Callable[[str, dict[str, Any], installation.Installation, endpoints.Endpoints], None]


def serve(options: Options, on_ready: OnReady, report: Callable[[Event], None]) -> None:
    """Serve until a stop signal. No child process is left in any case.

    Args:
        options: the command line's options.
        on_ready: called once, with the base URL, the gateway's `/info`, the Triton environment and Triton's endpoints.
        report: called with each event after that.

    Raises:
        LaunchError: any of its subclasses.
        StopRequested: a stop signal came before the server was ready.
    """
    with Signals() as signals, ExitStack() as running:
        models = model_scan.servable_models(options.repository)
        ports.require_bindable(options.host, options.port)
        for triton_port in options.triton_ports or ():
            ports.require_bindable(ports.LOOPBACK, triton_port, "--triton-ports")
        found = installation.find(installation.candidate_environments(options.cache))
        choice = EngineChoice(options.engine, bf16_is_faster(found.cuda), found.engines)
        for model in models:
            found.require_engine(choice.engine_for(model), model.name)
        port = options.port or ports.free(1)[0]

        adopt_orphans()
        directory = running.enter_context(run_directory(options.cache))
        listening: endpoints.Endpoints
        if options.triton_ports:
            listening = endpoints.on_ports(options.triton_ports)
        else:
            listening = endpoints.SocketEndpoint(running.enter_context(socket_directory(parents())))
        triton = TritonProcess(found, models, directory, options.verbose, listening, choice)
        running.callback(triton.stop, signals)
        triton.wait_until_ready(signals)
        gateway = GatewayProcess(options.host, port, options.workers, listening.grpc)
        running.callback(gateway.stop, signals)
        gateway.wait_until_ready(signals)
        on_ready(gateway.url, gateway.info(), found, listening)
        for name, reason in triton.replaced.items():
            report(EngineReplaced(name, reason))

        reconciler = Reconciler(
            options.repository, found, triton.layout, choice, models, failure_reason=triton.failure_reason
        )
        supervisor = TritonSupervisor(triton, reconciler, report)
        try:
            while True:
                gateway.require_alive()
                signals.wait(supervisor.step(signals))  # the end of a child process also ends the wait
        except StopRequested:
            return
