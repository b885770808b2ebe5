"""The gateway as a child process, configured to use the embedded Triton."""

import os
import sys
import time
from typing import Any, Final

from deploy.embedded import probe
from deploy.embedded.child import Child
from deploy.embedded.environment_variables import variable
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.signals import Signals

_START_SECONDS: Final = 120.0  # its imports take 3 s of CPU time, and a container may get a tenth of a CPU
_STOP_SECONDS: Final = 45.0  # longer than the gateway's own grace period for requests in flight
# -P keeps Python from importing a folder named `gateway` in the current directory.
_COMMAND: Final = (sys.executable, "-P", "-m", "gateway")


class GatewayProcess:
    """A gateway that starts at once and logs to our terminal.

    Args:
        host: the address to listen on.
        port: the port to listen on.
        workers: the number of gateway processes.
        triton: Triton's gRPC target.
    """

    def __init__(self, host: str, port: int, workers: int, triton: str) -> None:
        self._port = port
        self._host = reachable_host(host)
        self._child = Child(
            "The gateway",
            _COMMAND,
            {
                **_environment(),
                "HOST": host,
                "PORT": str(port),
                "NUM_WORKERS": str(workers),
                # A gateway of pe-serve usually has no load balancer that needs time to notice the drain.
                "PE_DRAIN_SECONDS": variable("PE_DRAIN_SECONDS") or "0",
                "PE_TRITON_URL": triton,
            },
            log=None,
        )

    @property
    def url(self) -> str:
        """The base URL for clients on this machine; an IPv6 address stands in brackets."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def wait_until_ready(self, signals: Signals) -> None:
        """Wait until `/readiness` is 200.

        Raises:
            ProcessDied: the gateway ended.
            ProcessNotReady: the gateway was not ready in time.
            StopRequested: a stop signal came.
        """
        end = time.monotonic() + _START_SECONDS
        while (reply := probe.request("GET", self._host, self._port, "/readiness")) is None or reply[0] != 200:
            self._child.require_alive()
            if time.monotonic() > end:
                raise self._child.not_ready(_START_SECONDS)
            signals.wait(0.05)

    def info(self) -> dict[str, Any]:
        """Return the body of `/info`; empty if there is no valid response."""
        reply = probe.request("GET", self._host, self._port, "/info")
        return reply[1] if reply and isinstance(reply[1], dict) else {}

    def require_alive(self) -> None:
        """Raise `ProcessDied` if the gateway ended."""
        self._child.require_alive()

    def stop(self, signals: Signals) -> None:
        """Stop the gateway and wait until it drained, or was killed for taking too long."""
        self._child.stop(signals, patience=_STOP_SECONDS)


def _environment() -> dict[str, str]:
    """Return our environment without settings for another Triton, such as TLS, which the embedded one does not use."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PE_TRITON_")}


def reachable_host(host: str) -> str:
    """Return the address by which clients on this machine reach a server that listens on `host`."""
    return {"0.0.0.0": LOOPBACK, "::": LOOPBACK}.get(host, host)
