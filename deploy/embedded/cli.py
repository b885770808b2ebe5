"""`pe-serve`: the embedded Triton and the gateway as one command."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from deploy.embedded import banner, suggestions
from deploy.embedded import engine_choice as choice
from deploy.embedded.endpoints import Endpoints, PortEndpoints
from deploy.embedded.engines import OPENVINO_BF16
from deploy.embedded.environment_variables import variable
from deploy.embedded.errors import LaunchError
from deploy.embedded.events import Event
from deploy.embedded.hardware import nvidia_driver
from deploy.embedded.installation import CHECKOUT, Installation
from deploy.embedded.launcher import Options, serve
from deploy.embedded.run_directory import cache
from deploy.embedded.signals import StopRequested
from deploy.embedded.wording import error_message, event_message
from gateway.observe import output

_LOCAL: Final = ("127.0.0.1", "::1", "localhost")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line without the program's name; by default that of this process.

    Returns:
        The exit status. 0: served until a stop signal. 1: could not serve. 128 + signal: stopped before it was ready.
    """
    output.prepare()
    options, command = _parse(arguments)
    output.STDERR.write("Starting Triton and the gateway ...")

    def on_ready(url: str, info: dict[str, Any], found: Installation, triton: Endpoints) -> None:
        ports = triton if isinstance(triton, PortEndpoints) else None
        keys = any(map(variable, ("PE_API_KEYS", "PE_API_KEYS_FILE")))
        advice = _advice(info, found, command)
        output.STDOUT.write(banner.banner(url, info, options.host in _LOCAL, advice, ports, keys))

    def report(event: Event) -> None:
        output.STDERR.write(f"pe-serve: {event_message(event)}")

    try:
        serve(options, on_ready, report)
    except StopRequested as request:
        output.STDERR.write(f"pe-serve: stopped before it was ready ({request})")
        return 128 + request.signum
    except LaunchError as error:
        output.STDERR.write(f"pe-serve: {error_message(error, command)}")
        return 1
    output.STDERR.write("Stopped.")
    return 0


def _advice(info: dict[str, Any], found: Installation, command: str) -> str:
    """Return what would make the served models faster on this machine; empty if nothing is known.

    Args:
        info: the body of `/info`.
        found: the Triton environment.
        command: the command that starts `pe-serve`.
    """
    driver = nvidia_driver()
    if driver is not None and not found.cuda and variable("PE_ONNXRUNTIME_PROVIDER") != "cpu":
        return banner.gpu_advice(driver, suggestions.cuda_command(found.environment), command)
    engine, install = OPENVINO_BF16.engine, None
    if engine.backend not in found.engines:
        install = suggestions.install_command(found.environment, engine)
    return banner.openvino_advice(info, choice.bf16_is_faster(found.cuda), install, command)


def _parse(arguments: Sequence[str] | None) -> tuple[Options, str]:
    """Return the options, and the command that serves the same models."""
    committed = CHECKOUT / "model_repository"
    parser = argparse.ArgumentParser(
        prog="pe-serve",
        description="Serve a Triton model repository on this machine: Triton and the gateway, without a container.",
        epilog="The gateway's environment variables work here, too: `pe-gateway --help` lists them.",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        metavar="DIR",
        default=committed if committed.is_dir() else Path("model_repository"),
        help="Triton model repository (default: %(default)s)",
    )
    # HOST, PORT and NUM_WORKERS are the gateway's variables, and the incumbent's.
    parser.add_argument(
        "--host",
        default=variable("HOST") or "127.0.0.1",
        help="address to listen on (default: the variable HOST, else 127.0.0.1, which is this machine only)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=variable("PORT") or "9001",
        help="port to listen on; 0 takes a free one (default: the variable PORT, else 9001)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=variable("NUM_WORKERS") or "1",
        help="gateway processes (default: the variable NUM_WORKERS, else 1)",
    )
    parser.add_argument(
        "--engine",
        choices=choice.OPTIONS,
        default=variable("PE_ONNX_ENGINE") or choice.AUTO,
        help="what runs ONNX models (default: the variable PE_ONNX_ENGINE, else auto). auto is OpenVINO in BF16 on a "
        "CPU that is faster in BF16, if OpenVINO is installed and proves the same embeddings; otherwise onnxruntime",
    )
    parser.add_argument(
        "--triton-ports",
        type=_triton_ports,
        nargs="?",
        const="8000,8001,8002",
        default=variable("PE_TRITON_PORTS") or None,
        metavar="HTTP,GRPC,METRICS",
        help="let Triton listen on ports of 127.0.0.1 (%(const)s unless others are given; 0 takes a free one), for "
        "tritonclient, perf_analyzer and Prometheus. Every user of this machine can connect to them. (default: the "
        "variable PE_TRITON_PORTS, else a Unix socket that only this user can open)",
    )
    parser.add_argument("--verbose", action="store_true", help="show Triton's own log")
    parsed = parser.parse_args(arguments)
    # argparse does not check a default value, which comes from the variable.
    if parsed.engine not in choice.OPTIONS:
        parser.error(f"PE_ONNX_ENGINE is {parsed.engine!r}; there are {', '.join(choice.OPTIONS)}")
    given = None if parsed.repository == parser.get_default("repository") else parsed.repository
    options = Options(
        repository=parsed.repository.absolute(),
        host=parsed.host,
        port=parsed.port,
        workers=parsed.workers,
        cache=cache(),
        verbose=parsed.verbose,
        engine=parsed.engine,
        triton_ports=parsed.triton_ports,
    )
    return options, suggestions.serve_command(given)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _triton_ports(text: str) -> tuple[int, int, int]:
    try:
        http, grpc, metrics = (_port(part) for part in text.split(","))
    except (ValueError, argparse.ArgumentTypeError) as error:
        message = f"{text!r} is not three ports HTTP,GRPC,METRICS, such as 8000,8001,8002"
        raise argparse.ArgumentTypeError(message) from error
    given = [port for port in (http, grpc, metrics) if port]
    if len(set(given)) < len(given):
        raise argparse.ArgumentTypeError(f"{text!r} names a port twice; each endpoint needs a port of its own")
    return http, grpc, metrics


if __name__ == "__main__":
    sys.exit(main())
