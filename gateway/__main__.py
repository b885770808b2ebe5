"""`pe-gateway`, the command that serves HTTP as the environment variables configure it."""

import errno
import logging
import os
import socket
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Final

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gateway import listening
from gateway.observe import logs, output
from gateway.observe.metrics import count_in_this_process
from gateway.serving import check, serve, serve_with_workers
from gateway.settings import Settings

_IGNORED_KEYS: Final = frozenset({"API_KEY", "ROBOFLOW_API_KEY"})
_SHARED_MEMORY: Final = "/dev/shm"

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        The exit status. 1: cannot listen. 2: an environment variable or an argument is invalid.
    """
    output.prepare()
    count_in_this_process()
    parser = _parser()
    _, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"environment variables configure it, not arguments such as {unknown[0]!r}. --help lists them.")
    try:
        settings = Settings()
        check(settings)
    except ValidationError as error:
        for problem in error.errors():
            output.STDERR.write(f"pe-gateway: {': '.join((*map(str, problem['loc']), problem['msg']))}")
        return 2
    except ValueError as error:  # from `check`
        output.STDERR.write(f"pe-gateway: {error}")
        return 2
    logs.configure(settings.log_format)
    for name in _IGNORED_KEYS & os.environ.keys():
        _log.info("%s is set and ignored: it is Roboflow's key for downloads. PE_API_KEYS sets API keys.", name)
    try:
        listeners = listening.bind(settings.host, settings.port)
    except OSError as error:
        output.STDERR.write(f"pe-gateway: cannot listen on {settings.host}, port {settings.port}: {_reason(error)}")
        return 1
    _log.info("Listening on %s, port %d", settings.host, listeners[0].getsockname()[1])
    if settings.num_workers == 1:
        return serve(settings, listeners)
    # Each worker writes its metrics to this directory, and the worker that serves `/metrics` adds them up.
    with TemporaryDirectory(prefix="pe-gateway-", dir=_directory_in_memory()) as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        return serve_with_workers(settings, listeners)


def _directory_in_memory() -> str | None:
    """Return a directory in memory, or None for the usual temporary one.

    The workers map the files of their metrics. On a disk that is full, the kernel would end them by SIGBUS.
    """
    return _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        return f"{reason}. Stop the program that listens there, or set another PORT."
    if isinstance(error, socket.gaierror):
        return f"{reason}. HOST takes an address of this machine."
    return reason


def _parser() -> ArgumentParser:
    """A parser without options. Its `--help` lists the environment variables."""
    variables = [
        f"  {field.validation_alias}{_default(field)}\n      {field.description}"
        for field in Settings.model_fields.values()
    ]
    return ArgumentParser(
        prog="pe-gateway",
        description="Serve a running Triton's Perception Encoder models over HTTP.",
        epilog="\n".join(["environment variables configure it:", *variables]),
        formatter_class=RawDescriptionHelpFormatter,
    )


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:  # PE_DECODE_WORKERS
        return " (default: one a CPU)"
    value = ",".join(sorted(field.default)) if isinstance(field.default, frozenset) else field.default
    return "" if value in (None, "") else f" (default: {value})"


if __name__ == "__main__":
    sys.exit(main())
