"""``pe-gateway``: builds the real things from the environment and runs them."""

import logging
import sys

import uvicorn
from pydantic import ValidationError

from gateway.fetch import FetchPolicy, ImageFetcher
from gateway.http.app import create_app
from gateway.settings import Settings
from gateway.triton import TritonEncoder


def main() -> int:
    """Serves until SIGTERM or SIGINT. Exit status 2 says that the environment is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
    try:
        settings = Settings()
        fetch = _fetcher(settings)
    except ValidationError as error:
        for problem in error.errors():
            print(f"pe-gateway: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", file=sys.stderr)
        return 2
    except ValueError as error:  # an entry of a host list that is no host
        print(f"pe-gateway: {error}", file=sys.stderr)
        return 2
    uvicorn.run(
        create_app(settings, TritonEncoder(settings.triton_url, settings.deadline_seconds), fetch),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,  # the gateway writes its own line, with the stages' times
        log_config=None,
        server_header=True,
        timeout_graceful_shutdown=int(settings.deadline_seconds),
    )
    return 0


def _fetcher(settings: Settings) -> ImageFetcher:
    return ImageFetcher(
        FetchPolicy(
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
    )


if __name__ == "__main__":
    sys.exit(main())
