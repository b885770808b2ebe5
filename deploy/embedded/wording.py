"""The words of `pe-serve` for a person: a message for each error that ends it, and for each event while it runs."""

import shlex
import signal
import sys
from pathlib import Path

from deploy.embedded import errors as e
from deploy.embedded import events as ev
from deploy.embedded import suggestions
from deploy.embedded.engines import installable_names


def error_message(error: e.LaunchError, command: str = "pe-serve") -> str:
    """Word an error: what is wrong, and what to do about it.

    Args:
        command: the command that was run, for a suggestion to run it again with another option.
    """
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
                f"Add it ({engine.install_megabytes} MB):\n  {suggestions.install_command(environment, engine)}"
            )
        case e.LibpythonMissing(python, library):
            package = library.removesuffix(".so.1.0")
            return (
                f"Triton needs {library}, which {python} does not bring along.\n"
                f"Install it (Debian, Ubuntu: apt-get install {package}), or use a Python built with --enable-shared."
            )
        case e.RunDirectoryUnusable(reasons):
            lines = "\n".join(f"  {directory}: {reason}" for directory, reason in reasons.items())
            return (
                f"Triton's files cannot be written, or not be run:\n{lines}\n"
                "Free some space there, or name another directory by the variable XDG_CACHE_HOME."
            )
        case e.PortTaken(host, port, "--triton-ports"):
            return (
                f"port {port} on {host}, which Triton is to use, is in use by another program.\n"
                f"Stop that one, or let Triton take free ports: {command} --triton-ports 0,0,0"
            )
        case e.PortTaken(host, port):
            return (
                f"port {port} on {host} is in use by another program.\n"
                f"Stop that one, or choose another port: {command} --port {port + 1}"
            )
        case e.AddressUnusable(host, port, reason):
            return f"cannot listen on {host}, port {port}: {reason}. --host takes an address of this machine."
        case e.SocketDirectoryImpossible(reasons):
            tried = "".join(f"\n  {parent}: {reason}" for parent, reason in reasons.items())
            return (
                f"there is no directory for Triton's socket:{tried}\n"
                "Set TMPDIR to a directory of your own with a short path."
            )
        case e.RepositoryMissing(repository):
            return f"there is no model repository at {repository}. `pe-export` makes one; --repository names another."
        case e.RepositoryEmpty(repository, ()):
            return (
                f"the model repository {repository} holds no model. `pe-export` adds one; --repository names another."
            )
        case e.RepositoryEmpty(repository, inside):
            commands = "".join(f"\n  --repository {shlex.quote(str(path))}" for path in inside)
            return f"{repository} is a folder of model repositories. Name one of them:{commands}"
        case e.RepositoryIsModel(repository, parent):
            return (
                f"{repository} belongs to a single model. A repository is the directory that has the models of both "
                f"towers: --repository {shlex.quote(str(parent))}"
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


def _status(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _said(tail: str, log: Path | None) -> str:
    return f" The end of its log:\n{tail}{_log(log)}" if log else " What it said is above."


def _log(log: Path | None) -> str:
    return f"\nTriton's log: {log}" if log else ""
