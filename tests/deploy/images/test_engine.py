"""Where no Docker engine can be had, the tests fail, and say why."""

import os
from pathlib import Path

import pytest

from tests.deploy.images import engine
from tests.deploy.images.engine import EngineUnavailable, running_engine

pytestmark = pytest.mark.slow


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `.tools/engine`, on a machine whose `docker` reaches no daemon."""
    program(tmp_path / "bin/docker", "exit 1")
    program(tmp_path / "bin/iptables", "exit 0")  # Not every machine has one, and these tests start no engine.
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(engine, "TOOLS", tmp_path / "tools")
    return tmp_path / "tools"


def test_without_an_engine_it_names_what_brings_one(tools: Path) -> None:
    with (
        pytest.raises(EngineUnavailable, match="`make containers` brings one for root"),
        running_engine(),
    ):
        pass


def test_only_root_starts_one(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tools / "usr/sbin/dockerd", "exit 0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EngineUnavailable, match="only root can start one"), running_engine():
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts an engine")
def test_a_daemon_that_does_not_start_is_quoted(tools: Path) -> None:
    program(tools / "usr/sbin/dockerd", "echo 'iptables: operation not permitted'; exit 1")
    program(tools / "usr/bin/docker", "exit 1")
    (tools / "usr/libexec/docker/cli-plugins").mkdir(parents=True)
    expected = "dockerd does not start here:\niptables: operation not permitted"
    with pytest.raises(EngineUnavailable, match=expected), running_engine():
        pass
