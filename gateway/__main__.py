"""``pe-gateway``: builds the real things from the environment and runs them."""

import logging
import math
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Final

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from gateway.fetch import FetchPolicy, ImageFetcher
from gateway.http.app import create_app
from gateway.observe import logs
from gateway.settings import Settings
from gateway.triton import addresses
from gateway.triton.encoder import TritonEncoder

_INCUMBENTS_KEYS: Final = frozenset({"API_KEY", "ROBOFLOW_API_KEY"})

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Exit status 2 says that the environment, or the command, is wrong."""
    _parser().parse_args(arguments)
    try:
        settings = Settings()
        _fetch_policy(settings)
        addresses.parse(settings.triton_url)
    except ValidationError as error:
        for problem in error.errors():
            print(f"pe-gateway: {': '.join((*map(str, problem['loc']), problem['msg']))}", file=sys.stderr)
        return 2
    except ValueError as error:  # a list with an entry that is no host, or no address
        print(f"pe-gateway: {error}", file=sys.stderr)
        return 2
    # Workers write their metrics here, for whichever is asked to add them up.
    with TemporaryDirectory(prefix="pe-gateway-") as directory:
        if settings.num_workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        logs.configure(settings.log_format)
        for name in _INCUMBENTS_KEYS & os.environ.keys():
            _log.info("%s is set and ignored: it is for downloading weights, and locks nothing here", name)
        uvicorn.run(
            "gateway.__main__:make_app",
            factory=True,
            workers=settings.num_workers,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            access_log=False,  # the gateway writes its own line, with the stages' times
            log_config=None,
            timeout_graceful_shutdown=math.ceil(settings.deadline_seconds),
            # Workers that start together on a busy machine took longer than uvicorn's 5 s, and were killed for ever.
            timeout_worker_healthcheck=60,
        )
    return 0


def _parser() -> ArgumentParser:
    """No options, but a --help that lists the variables: nobody who asks for help wants a server."""
    variables = [f"  {field.validation_alias}\n      {field.description}" for field in Settings.model_fields.values()]
    return ArgumentParser(
        prog="pe-gateway",
        description="Serve a running Triton's Perception Encoder models over HTTP. Configured by environment:",
        epilog="\n".join(variables),
        formatter_class=RawDescriptionHelpFormatter,
    )


def make_app() -> FastAPI:
    """The app around the real things; each worker makes its own."""
    settings = Settings()
    logs.configure(settings.log_format)
    encoder = TritonEncoder(settings.triton_url, settings.deadline_seconds)
    return create_app(settings, encoder, ImageFetcher(_fetch_policy(settings)))


def _fetch_policy(settings: Settings) -> FetchPolicy:
    return FetchPolicy(
        allow_url_input=settings.allow_url_input,
        allow_non_https=settings.allow_non_https_url_input,
        allow_without_fqdn=settings.allow_url_input_without_fqdn,
        allow_non_global_addresses=settings.allow_url_to_non_global_addresses,
        allowed_hosts=settings.allowed_hosts,
        denied_hosts=settings.denied_hosts,
        max_redirects=settings.max_redirects,
        timeout_seconds=settings.url_timeout_seconds,
        max_bytes=settings.max_body_bytes,
    )


if __name__ == "__main__":
    sys.exit(main())
