"""Health checks reach their own container where the environment names a proxy, as Docker's client configuration can."""

import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from tests.deploy import compose_file
from tests.deploy.compose_file import ROOT
from tests.deploy.images.dockerfile import Instruction, stages
from tests.running import free_port


def gateway_image() -> list[str]:
    (check,) = stages(ROOT / "deploy/images/gateway.Dockerfile")[-1].of("HEALTHCHECK")
    program, *arguments = Instruction("CMD", check.value.partition(" CMD ")[2]).words
    assert program == "python"
    return [sys.executable, *arguments]


def compose(profile: str, service: str) -> list[str]:
    services = compose_file.load({**compose_file.defaults(), "COMPOSE_PROFILES": profile})["services"]
    check: list[str] = services[service]["healthcheck"]["test"][1:]
    return check


def kubernetes() -> list[list[str]]:
    deployment = yaml.safe_load((ROOT / "deploy/kubernetes/base/deployment.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    containers: list[dict[str, Any]] = [*pod.get("initContainers", []), *pod["containers"]]
    probes = [probe for each in containers for name, probe in each.items() if name.endswith("Probe")]
    return [probe["exec"]["command"] for probe in probes if "exec" in probe]


CHECKS = [gateway_image(), compose("gpu", "triton"), compose("cpu", "triton-cpu"), *kubernetes()]


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def check(command: list[str], port: int) -> int:
    proxy = f"http://127.0.0.1:{free_port()}"
    environment = {**os.environ, "http_proxy": proxy, "HTTP_PROXY": proxy, "no_proxy": "", "PORT": str(port)}
    here = [re.sub(r"^http://127\.0\.0\.1:\d+", f"http://127.0.0.1:{port}", word) for word in command]
    return subprocess.run(here, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize("command", CHECKS, ids=lambda command: command[-1][-30:])
def test_no_proxy_stands_between(command: list[str]) -> None:
    with answering(200) as port:
        assert check(command, port) == 0
    with answering(503) as port:
        assert check(command, port) != 0
    assert check(command, free_port()) != 0
