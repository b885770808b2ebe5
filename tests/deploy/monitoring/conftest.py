"""Prometheus's own tools, of Debian's package."""

from pathlib import Path

import pytest

from deploy.bootstrap.plan import ROOT
from deploy.bootstrap.tools import PACKAGES, Tools


@pytest.fixture(scope="session")
def tool() -> dict[str, Path]:
    """`promtool` and `prometheus`."""
    tools = Tools(ROOT, PACKAGES)
    found = {name: tools.find(name) for name in ("promtool", "prometheus")}
    assert all(found.values()), "`make test` brings prometheus"
    return {name: path for name, path in found.items() if path}
