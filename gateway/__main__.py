"""``pe-gateway``: reads the environment, and serves by it."""

import logging
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Final

from pydantic import ValidationError

from gateway.observe import logs
from gateway.serving import check, serve, serve_by_workers
from gateway.settings import Settings

_INCUMBENTS_KEYS: Final = frozenset({"API_KEY", "ROBOFLOW_API_KEY"})

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Exit status 2 says that the environment, or the command, is wrong."""
    _parser().parse_args(arguments)
    try:
        settings = Settings()
        check(settings)
    except ValidationError as error:
        for problem in error.errors():
            print(f"pe-gateway: {': '.join((*map(str, problem['loc']), problem['msg']))}", file=sys.stderr)
        return 2
    except ValueError as error:  # a list with an entry that is no host, or no address
        print(f"pe-gateway: {error}", file=sys.stderr)
        return 2
    logs.configure(settings.log_format)
    for name in _INCUMBENTS_KEYS & os.environ.keys():
        _log.info("%s is set and ignored: it is for downloading weights, and locks nothing here", name)
    if settings.num_workers == 1:
        return serve(settings)
    # Workers write their metrics here, for whichever is asked to add them up.
    with TemporaryDirectory(prefix="pe-gateway-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        return serve_by_workers(settings)


def _parser() -> ArgumentParser:
    """No options, but a --help that lists the variables: nobody who asks for help wants a server."""
    variables = [f"  {field.validation_alias}\n      {field.description}" for field in Settings.model_fields.values()]
    return ArgumentParser(
        prog="pe-gateway",
        description="Serve a running Triton's Perception Encoder models over HTTP. Configured by environment:",
        epilog="\n".join(variables),
        formatter_class=RawDescriptionHelpFormatter,
    )


if __name__ == "__main__":
    sys.exit(main())
