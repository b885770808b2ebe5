"""The gateway as a child process, told where this Triton is."""

import os
import sys
import time
from typing import Any

from deploy.embedded import http_probe
from deploy.embedded.child import Child
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.signals import Signals

_START_S = 30.0
_STOP_S = 45.0  # longer than its own grace for requests in flight
_COMMAND = (sys.executable, "-P", "-m", "gateway")  # -P: not a folder of that name where we happen to be started


class Gateway:
    """Starts at once, logging to our own terminal; `wait_until_ready` tells how it went."""

    def __init__(self, host: str, port: int, workers: int, triton_grpc_port: int) -> None:
        self._port = port
        self._host = reachable(host)
        self._child = Child(
            "The gateway",
            _COMMAND,
            {
                **os.environ,
                "HOST": host,
                "PORT": str(port),
                "NUM_WORKERS": str(workers),
                # Nothing stands before it that would need time to turn elsewhere, unless somebody says so.
                "PE_DRAIN_SECONDS": os.environ.get("PE_DRAIN_SECONDS", "0"),
                "PE_TRITON_URL": f"{LOOPBACK}:{triton_grpc_port}",
            },
            log=None,
        )

    @property
    def url(self) -> str:
        """Where clients on this machine reach it; an IPv6 address in brackets."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def wait_until_ready(self, signals: Signals) -> None:
        """Raises ProcessDied, ProcessNotReady or StopRequested."""
        end = time.monotonic() + _START_S
        while (reply := http_probe.request("GET", self._host, self._port, "/readiness")) is None or reply[0] != 200:
            self._child.require_alive()
            if time.monotonic() > end:
                raise self._child.not_ready(_START_S)
            signals.wait(0.05)

    def info(self) -> dict[str, Any]:
        """What it says it serves; empty if it says nothing."""
        reply = http_probe.request("GET", self._host, self._port, "/info")
        return reply[1] if reply and isinstance(reply[1], dict) else {}

    def require_alive(self) -> None:
        """Raises ProcessDied."""
        self._child.require_alive()

    def stop(self, signals: Signals) -> None:
        """Returns when it has drained, or was ended for taking too long."""
        self._child.stop(signals, patience=_STOP_S)


def reachable(host: str) -> str:
    """The address by which a client on this machine reaches a server that listens on `host`."""
    return {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)
