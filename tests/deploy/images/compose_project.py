"""deploy/compose.yaml with test.compose.yaml on top, on a real engine."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.deploy.images.engine import ROOT, Engine

_FILES: Final = (ROOT / "deploy/compose.yaml", Path(__file__).with_name("test.compose.yaml"))
NAME: Final = "pe-test"


class ComposeProject:
    """One project: Compose's commands, and where its ports are published on loopback.

    Args:
        engine: runs it.
        environment: variables of the shell, which come before `deploy/.env`.
        port: of the gateway.
        prometheus_port: of Prometheus.
    """

    def __init__(self, engine: Engine, environment: dict[str, str], port: int, prometheus_port: int) -> None:
        self.engine = engine
        self.environment = environment
        self.port = port
        self.prometheus_port = prometheus_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(
        self, *arguments: str | Path, seconds: float = 120, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command of `docker compose`."""
        files = [word for file in _FILES for word in ("-f", file)]
        return self.engine.run(
            *("compose", "--project-name", NAME, *files, *arguments), seconds=seconds, check=check, **self.environment
        )

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container, running or not."""
        container = self.run("ps", "--all", "--quiet", service).stdout.strip()
        (found,) = json.loads(self.engine.out("inspect", container))
        return dict(found)

    def inside(self, service: str, script: str) -> str:
        """What a shell script prints in a service's running container."""
        return self.run("exec", "--no-TTY", service, "sh", "-c", script).stdout

    def log(self, service: str) -> str:
        return self.run("logs", "--no-log-prefix", service).stdout

    def clear(self) -> None:
        """Remove everything of it but images."""
        self.run("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "10")
