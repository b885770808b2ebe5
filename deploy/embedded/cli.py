"""pe-serve: the embedded Triton and the gateway, as one command. Every message that a person reads is made here."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.embedded import banner, engine_choice, engines
from deploy.embedded import errors as e
from deploy.embedded import events as ev
from deploy.embedded.engines import ENGINES, Engine
from deploy.embedded.installation import CHECKOUT, Installation
from deploy.embedded.run_directory import cache
from deploy.embedded.server import Options, serve
from deploy.embedded.signals import StopRequested

_LOCAL = ("127.0.0.1", "::1", "localhost")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: served, and stopped when asked. 1: could not serve. 128 + signal: stopped before it was ready."""
    options = _parse(arguments)
    print("Starting Triton and the gateway ...", file=sys.stderr, flush=True)

    def on_ready(url: str, info: dict[str, Any], found: Installation) -> None:
        openvino = ENGINES["openvino"]
        adding = None if openvino.backend in found.engines else _command_that_adds(openvino, found.environment)
        advice = banner.advice(info, engine_choice.bf16_pays(found.cuda), adding, _command())
        print(banner.banner(url, info, options.host in _LOCAL, advice), flush=True)

    def report(event: ev.Event) -> None:
        print(f"pe-serve: {news(event)}", file=sys.stderr, flush=True)

    try:
        serve(options, on_ready, report)
    except StopRequested as request:
        print(f"pe-serve: stopped before it was ready ({request})", file=sys.stderr)
        return 128 + request.signum
    except e.LaunchError as error:
        print(f"pe-serve: {message(error)}", file=sys.stderr)
        return 1
    print("Stopped.", file=sys.stderr)
    return 0


def _parse(arguments: Sequence[str] | None) -> Options:
    beside = CHECKOUT / "model_repository"
    parser = argparse.ArgumentParser(
        prog="pe-serve", description="Serve a Triton model repository on the CPU of this machine."
    )
    parser.add_argument(
        "--repository",
        type=Path,
        metavar="DIR",
        default=beside if beside.is_dir() else Path("model_repository"),
        help="Triton model repository (default: %(default)s)",
    )
    # The variables are the gateway's own, and the incumbent's.
    parser.add_argument(
        "--host",
        default=os.environ.get("HOST", "127.0.0.1"),
        help="address to listen on (default: %(default)s; the variable HOST, else this machine only)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("PORT", "9001"),
        help="port to listen on; 0 takes a free one (default: %(default)s; the variable PORT, else 9001)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.environ.get("NUM_WORKERS", "1"),
        help="gateway processes (default: %(default)s; the variable NUM_WORKERS, else 1)",
    )
    parser.add_argument(
        "--engine",
        choices=engine_choice.CHOICES,
        default=os.environ.get("PE_ONNX_ENGINE") or engine_choice.AUTO,
        help="what runs ONNX models (default: %(default)s; the variable PE_ONNX_ENGINE, else auto: OpenVINO in BF16 on "
        "a CPU that is faster in BF16, where OpenVINO is there and has proved the same embeddings, else onnxruntime)",
    )
    parser.add_argument("--verbose", action="store_true", help="show Triton's own log")
    parsed = parser.parse_args(arguments)
    if parsed.engine not in engine_choice.CHOICES:  # the variable's value, which argparse takes as it is
        parser.error(f"PE_ONNX_ENGINE is {parsed.engine!r}; there are {', '.join(engine_choice.CHOICES)}")
    return Options(
        parsed.repository.absolute(), parsed.host, parsed.port, parsed.workers, cache(), parsed.verbose, parsed.engine
    )


def _command_that_adds(engine: Engine, environment: Path) -> str:
    """Write the command that installs an engine into Triton's environment."""
    if environment == CHECKOUT / ".venv-triton":
        return shlex.join([sys.executable, str(CHECKOUT / "deploy/environments.py"), engine.backend])
    return shlex.join([str(environment / "bin/pip"), "install", "--no-deps", "-r", str(engine.requirements)])


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise ValueError
    return port


def message(error: e.LaunchError) -> str:
    """What happened, and what to do about it."""
    match error:
        case e.InstallationMissing(looked_at, requirements):
            last = looked_at[-1]
            return (
                f"the Triton environment is missing: {' and '.join(map(str, looked_at))} is not there.\n"
                "In a checkout, `make serve` makes it. Elsewhere:\n"
                f"  {shlex.quote(sys.executable)} -m venv {shlex.quote(str(last))}\n"
                f"  {shlex.quote(str(last / 'bin/pip'))} install --no-deps -r {shlex.quote(str(requirements))}"
            )
        case e.InstallationBroken(environment, missing):
            return f"the Triton environment {environment} lacks {missing}. Remove it and run `make serve`."
        case e.EngineMissing(environment, model, engine):
            add = _command_that_adds(engine, environment)
            return f"model {model} needs {engine.title}, which {environment} lacks. Add it ({engine.size}):\n  {add}"
        case e.LibpythonMissing(python, library):
            package = library.removesuffix(".so.1.0")
            return (
                f"Triton needs {library}, which {python} does not bring along.\n"
                f"Install it (Debian, Ubuntu: apt-get install {package}), or use a Python built with --enable-shared."
            )
        case e.PortTaken(host, port):
            return (
                f"port {port} on {host} is in use by another program.\n"
                f"Stop that one, or choose another port: {_command()} --port {port + 1}"
            )
        case e.AddressUnusable(host, port, reason):
            return f"cannot listen on {host}, port {port}: {reason}"
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
        case e.VariantIncomplete(repository, missing):
            return f"the model repository {repository} holds no variant whole: {missing} is missing. Export it as well."
        case e.ConfigUnreadable(model, reason):
            return f"model {model.name}: {model / 'config.pbtxt'} is not a Triton configuration: {reason}"
        case e.EngineUnsupported(model, backend, built_for):
            return (
                f"model {model.name} is for Triton's {backend} backend, which the embedded server does not have:\n"
                + (f"{built_for};\n" if built_for else "")
                + f"it runs {engines.titles()} on the CPU. Export with --engine onnx, serve this one with a\n"
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


def news(event: ev.Event) -> str:
    """What happened while it serves."""
    match event:
        case ev.TritonDied(status, pause, log):
            return f"Triton ended unexpectedly ({_status(status)}); starting it again in {pause:.1f} s.{_log(log)}"
        case ev.TritonBack(seconds):
            return f"Triton is back, after {seconds:.1f} s."
        case ev.ModelLoaded(model, version):
            return f"model {model}: version {version} is served now."
        case ev.ModelRefused(model, version, reason):
            return f"model {model}: version {version} could not be loaded, and is left out until it changes: {reason}"
        case ev.ModelGone(model):
            return f"model {model} is not in the repository any more, and not served."
        case ev.ModelPassedOver(error):
            return f"{message(error)}\nUntil then what is loaded is served on."


def _command() -> str:
    """How this program was called, for a person to call it so again: after `make serve`, .venv/bin/pe-serve."""
    return sys.argv[0] if Path(sys.argv[0]).name == "pe-serve" else "pe-serve"


def _status(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _said(tail: str, log: Path | None) -> str:
    return f" The end of its log:\n{tail}{_log(log)}" if log else " What it said is above."


def _log(log: Path | None) -> str:
    return f"\nTriton's log: {log}" if log else ""


if __name__ == "__main__":
    sys.exit(main())
