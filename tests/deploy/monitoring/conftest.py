"""Prometheus's own tools, of Debian's packages."""

from pathlib import Path

import pytest

from tests.tools import find_tool


@pytest.fixture(scope="session")
def tool() -> dict[str, Path]:
    """`promtool`, `prometheus` and `prometheus-node-exporter`."""
    return {name: find_tool(name) for name in ("promtool", "prometheus", "prometheus-node-exporter")}
