"""A Docker engine for the tests: the daemon that answers, or else one of their own, which is stopped with them."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.embedded import end_with_parent

ROOT: Final = Path(__file__).parents[3]
TOOLS: Final = ROOT / ".tools/engine"
_FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
_START_S: Final = 60


class EngineUnavailable(Exception):
    """No Docker daemon answers, and none can be started. The message says why."""


class Engine:
    """Docker's command line, connected to one daemon."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)

    def run(
        self, *arguments: str | Path, seconds: float = 120, check: bool = True, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command of `docker`. With `check`, fail with its output if its exit status is not 0."""
        run = subprocess.run(
            ["docker", *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        said = f"docker {' '.join(map(str, arguments))}\n{run.stdout[-4000:]}\n{run.stderr[-4000:]}"
        assert run.returncode == 0 or not check, said
        return run

    def out(self, *arguments: str | Path, seconds: float = 120) -> str:
        """Run a command of `docker` that succeeds, and return what it prints on stdout."""
        return self.run(*arguments, seconds=seconds).stdout

    def answers(self) -> bool:
        """Whether there is a client with Compose, and a daemon that this user may use."""
        try:
            return all(self.run(*words, check=False).returncode == 0 for words in (("compose", "version"), ("info",)))
        except FileNotFoundError:
            return False


@contextmanager
def running_engine() -> Iterator[Engine]:
    """Yield the engine that this user has, or one that is started in `.tools/engine` and stopped afterwards.

    Raises:
        EngineUnavailable: there is none, and none can be started.
    """
    engine = Engine(os.environ)
    if engine.answers():
        yield engine
        return
    if not (TOOLS / "usr/sbin/dockerd").exists():
        raise EngineUnavailable("No Docker daemon answers. `make containers` brings one for root.")
    if os.geteuid() != 0:
        raise EngineUnavailable("No Docker daemon answers, and only root can start one.")
    # Not in the checkout: the path of a Unix socket has 107 characters at most.
    with (
        tempfile.TemporaryDirectory(prefix="pe-engine-") as directory,
        _firewall_kept(),
        _bridge() as bridge,
        _own_engine(Path(directory), bridge) as engine,
    ):
        yield engine


@contextmanager
def _own_engine(directory: Path, bridge: str) -> Iterator[Engine]:
    plugins = directory / "client/cli-plugins"
    shutil.copytree(TOOLS / "usr/libexec/docker/cli-plugins", plugins, copy_function=os.symlink)
    path = os.pathsep.join([str(TOOLS / "usr/sbin"), str(TOOLS / "usr/bin"), os.environ["PATH"], "/usr/sbin", "/sbin"])
    socket = f"unix://{directory}/docker.sock"
    without = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    engine = Engine({**without, "PATH": path, "DOCKER_HOST": socket, "DOCKER_CONFIG": str(plugins.parent)})
    # Images stay in the checkout for the next run.
    command = ["dockerd", f"--host={socket}", f"--data-root={TOOLS / 'data'}", f"--bridge={bridge}"]
    command += [f"--exec-root={directory / 'exec'}", f"--pidfile={directory / 'pid'}"]
    log = directory / "dockerd.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [sys.executable, end_with_parent.__file__, str(os.getpid()), *command],
            env=engine.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + _START_S
        while not engine.answers():
            if daemon.poll() is not None or time.monotonic() > end:
                raise EngineUnavailable(f"dockerd does not start here:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.2)
        yield engine
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)


@contextmanager
def _bridge() -> Iterator[str]:
    """A bridge for this engine alone: docker0 may be that of another one, and `--bridge=none` would remove it."""
    name = f"pe-{os.getpid()}"
    added = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True, text=True, check=False)
    if added.returncode:
        raise EngineUnavailable(f"No Docker daemon answers, and this user may not make networks: {added.stderr}")
    try:
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


@contextmanager
def _firewall_kept() -> Iterator[None]:
    """Undo what stays after dockerd: it lets the machine forward packets, and drops those that it does not know."""
    forwarding = _FORWARDING.read_text()
    chain: Sequence[str] = ("iptables", "--wait", "--policy", "FORWARD")
    listed = subprocess.run(["iptables", "--list-rules", "FORWARD"], capture_output=True, text=True, check=False).stdout
    try:
        yield
    finally:
        _FORWARDING.write_text(forwarding)
        if "-P FORWARD ACCEPT" in listed:
            subprocess.run([*chain, "ACCEPT"], check=True)
