"""`pe-serve`: the embedded Triton and the gateway as one command. This module words every message for a person."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from deploy.embedded import banner
from deploy.embedded import engine_choice as choice
from deploy.embedded import errors as e
from deploy.embedded import events as ev
from deploy.embedded.endpoints import Endpoints, PortEndpoints
from deploy.embedded.engines import OPENVINO_BF16, Engine, installable_names
from deploy.embedded.environment import variable
from deploy.embedded.hardware import nvidia_driver
from deploy.embedded.installation import CHECKOUT, CUDA_REQUIREMENTS, Installation
from deploy.embedded.launcher import Options, serve
from deploy.embedded.run_directory import cache
from deploy.embedded.signals import StopRequested
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
    options = _parse(arguments)
    output.STDERR.write("Starting Triton and the gateway ...")

    def on_ready(url: str, info: dict[str, Any], found: Installation, triton: Endpoints) -> None:
        engine, driver = OPENVINO_BF16.engine, nvidia_driver()
        if driver is not None and not found.cuda and variable("PE_ONNXRUNTIME_PROVIDER") != "cpu":
            advice = banner.gpu_advice(driver, _cuda_command(found.environment), _command())
        else:
            install = None if engine.backend in found.engines else _install_command(found.environment, engine)
            advice = banner.advice(info, choice.bf16_is_faster(found.cuda), install, _command())
        ports = triton if isinstance(triton, PortEndpoints) else None
        output.STDOUT.write(banner.banner(url, info, options.host in _LOCAL, advice, ports))

    def report(event: ev.Event) -> None:
        output.STDERR.write(f"pe-serve: {event_message(event)}")

    try:
        serve(options, on_ready, report)
    except StopRequested as request:
        output.STDERR.write(f"pe-serve: stopped before it was ready ({request})")
        return 128 + request.signum
    except e.LaunchError as error:
        output.STDERR.write(f"pe-serve: {error_message(error)}")
        return 1
    output.STDERR.write("Stopped.")
    return 0


def _parse(arguments: Sequence[str] | None) -> Options:
    committed = CHECKOUT / "model_repository"
    parser = argparse.ArgumentParser(
        prog="pe-serve", description="Serve a Triton model repository on the CPU of this machine."
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
        help="address to listen on (default: %(default)s; the variable HOST, else this machine only)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=variable("PORT") or "9001",
        help="port to listen on; 0 takes a free one (default: %(default)s; the variable PORT, else 9001)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=variable("NUM_WORKERS") or "1",
        help="gateway processes (default: %(default)s; the variable NUM_WORKERS, else 1)",
    )
    parser.add_argument(
        "--engine",
        choices=choice.OPTIONS,
        default=variable("PE_ONNX_ENGINE") or choice.AUTO,
        help="what runs ONNX models (default: %(default)s; the variable PE_ONNX_ENGINE, else auto: OpenVINO in BF16 on "
        "a CPU that is faster in BF16, where OpenVINO is there and has proved the same embeddings, else onnxruntime)",
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
    return Options(
        parsed.repository.absolute(), parsed.host, parsed.port, parsed.workers, cache(), parsed.verbose, parsed.engine,
        parsed.triton_ports,
    )  # fmt: skip


def _install_command(environment: Path, engine: Engine) -> str:
    """Return the shell command that adds an optional engine to Triton's environment."""
    if environment == CHECKOUT / ".venv-triton":
        return shlex.join([str(CHECKOUT / "deploy/setup.sh"), engine.backend])
    return shlex.join([str(environment / "bin/pip"), "install", "--no-deps", "-r", str(engine.requirements)])


def _cuda_command(environment: Path) -> str:
    """Return the shell command that replaces onnxruntime in Triton's environment by its build for NVIDIA GPUs."""
    if environment == CHECKOUT / ".venv-triton":
        return shlex.join([str(CHECKOUT / "deploy/setup.sh"), "cuda"])
    pip = str(environment / "bin/pip")
    # The two builds have the same module, so that one must be removed before the other is installed.
    remove = shlex.join([pip, "uninstall", "--yes", "onnxruntime"])
    return f"{remove} && {shlex.join([pip, 'install', '--no-deps', '-r', str(CUDA_REQUIREMENTS)])}"


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


def error_message(error: e.LaunchError) -> str:
    """Word an error: what is wrong, and what to do about it."""
    match error:
        case e.InstallationMissing(candidates, requirements):
            last = candidates[-1]
            return (
                f"the Triton environment is missing: {' and '.join(map(str, candidates))} is not there.\n"
                "In a checkout, `make serve` makes it. Elsewhere:\n"
                f"  {shlex.quote(sys.executable)} -m venv {shlex.quote(str(last))}\n"
                f"  {shlex.quote(str(last / 'bin/pip'))} install --no-deps -r {shlex.quote(str(requirements))}"
            )
        case e.InstallationBroken(environment, missing):
            return f"the Triton environment {environment} lacks {missing}. Remove it and run `make serve`."
        case e.EngineMissing(environment, model, engine):
            return (
                f"model {model} needs {engine.name}, which {environment} lacks. "
                f"Add it ({engine.install_megabytes} MB):\n  {_install_command(environment, engine)}"
            )
        case e.LibpythonMissing(python, library):
            package = library.removesuffix(".so.1.0")
            return (
                f"Triton needs {library}, which {python} does not bring along.\n"
                f"Install it (Debian, Ubuntu: apt-get install {package}), or use a Python built with --enable-shared."
            )
        case e.PortTaken(host, port, "--triton-ports"):
            return (
                f"port {port} on {host}, which Triton is to use, is in use by another program.\n"
                f"Stop that one, or let Triton take free ports: {_command()} --triton-ports 0,0,0"
            )
        case e.SocketDirectoryImpossible(reasons):
            tried = "".join(f"\n  {parent}: {reason}" for parent, reason in reasons.items())
            return (
                f"there is no directory for Triton's socket:{tried}\n"
                "Set TMPDIR to a directory of your own with a short path."
            )
        case e.RunDirectoryUnusable(reasons):
            lines = "\n".join(f"  {directory}: {reason}" for directory, reason in reasons.items())
            return (
                f"Triton's files cannot be written, or not be run:\n{lines}\n"
                "Free some space there, or name another directory by the variable XDG_CACHE_HOME."
            )
        case e.PortTaken(host, port):
            return (
                f"port {port} on {host} is in use by another program.\n"
                f"Stop that one, or choose another port: {_command()} --port {port + 1}"
            )
        case e.AddressUnusable(host, port, reason):
            return f"cannot listen on {host}, port {port}: {reason}. --host takes an address of this machine."
        case e.RepositoryMissing(repository):
            return f"there is no model repository at {repository}. `pe-export` makes one; --repository names another."
        case e.RepositoryEmpty(repository):
            return (
                f"the model repository {repository} holds no model. `pe-export` adds one; --repository names another."
            )
        case e.ModelIncomplete(model, lacks):
            return (
                f"model {model.name} is incomplete: {model} has no {lacks}. Export it again, or remove that directory."
            )
        case e.ConfigInvalid(model, reason):
            return f"model {model.name} cannot be read: {model}/{reason}\nExport it again, or correct that file."
        case e.VariantIncomplete(repository, missing):
            return f"the model repository {repository} holds no variant whole: {missing} is missing. Export it as well."
        case e.EngineUnsupported(model, backend, built_for):
            return (
                f"model {model.name} is for Triton's {backend} backend, which the embedded server does not have:\n"
                + (f"{built_for};\n" if built_for else "")
                + f"it runs {installable_names()} on the CPU. Export with --engine onnx, serve this one with a\n"
                f"Triton container, or move {model} away."
            )
        case e.ModelsNotLoaded(reasons, log):
            lines = "\n".join(f"  {model}: {reason}" for model, reason in reasons.items())
            return f"Triton could not load\n{lines}{_log(log)}"
        case e.ProcessDied(process, status, tail, log):
            return f"{process} ended unexpectedly ({_status(status)}).{_said(tail, log)}"
        case e.DiedTooOften(process, deaths, seconds, status, tail, log):
            return (
                f"{process} was started again and again, and ended {deaths} times within {seconds:.0f} s or before it "
                f"was ready, last with {_status(status)}: giving up.{_said(tail, log)}"
            )
        case e.ProcessNotReady(process, seconds, tail, log):
            return f"{process} was not ready after {seconds:.0f} s.{_said(tail, log)}"
        case _:
            raise AssertionError(f"no message for {error!r}")


def event_message(event: ev.Event) -> str:
    """Word an event while the server runs."""
    match event:
        case ev.TritonDied(status, pause, log):
            return f"Triton ended unexpectedly ({_status(status)}); starting it again in {pause:.1f} s.{_log(log)}"
        case ev.TritonRestarted(seconds):
            return f"Triton is back, after {seconds:.1f} s."
        case ev.ModelLoaded(model, version):
            return f"model {model}: version {version} is served now."
        case ev.EngineReplaced(model, reason):
            return f"model {model}: onnxruntime runs it as it was exported, because {reason}"
        case ev.ModelRefused(model, version, reason):
            return f"model {model}: version {version} could not be loaded, and is left out until it changes: {reason}"
        case ev.ModelRemoved(model):
            return f"model {model} is not in the repository any more, and not served."
        case ev.ModelSkipped(error):
            return f"{error_message(error)}\nUntil then what is loaded is served on."


def _command() -> str:
    """Return the command that serves the same models, for a person to repeat: .venv/bin/pe-serve after `make serve`."""
    program = sys.argv[0] if Path(sys.argv[0]).name == "pe-serve" else "pe-serve"
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--repository")
    repository = parser.parse_known_args()[0].repository
    return shlex.join([program, *(("--repository", repository) if repository else ())])


def _status(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _said(tail: str, log: Path | None) -> str:
    return f" The end of its log:\n{tail}{_log(log)}" if log else " What it said is above."


def _log(log: Path | None) -> str:
    return f"\nTriton's log: {log}" if log else ""


if __name__ == "__main__":
    sys.exit(main())
