"""What is put to the test: the real pe-serve around the stand-in, and more gateways before the same Triton."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.bench.harness import client as asking
from deploy.bench.harness import stack
from deploy.bench.harness import stub_model as stand_in
from deploy.bench.harness.stack import Stack, StackFailed
from deploy.bench.harness.stub_model import StandIn
from deploy.bench.harness.worker import Helper
from deploy.embedded import ports

LIMIT: Final = 64  # requests in flight: the gateway's own default
_START_S: Final = 60.0


@dataclass(frozen=True)
class Effort:
    """How long it may take, in seconds and numbers."""

    window: float  # without a refusal, for a capacity
    guess: float  # to find where that may be
    soak: float
    load: float  # around a fault
    kills: int
    inputs: int  # of the fuzzer
    examples: int  # of each operation in /openapi.json
    connections: int


FULL: Final = Effort(window=30, guess=4, soak=600, load=10, kills=3, inputs=20_000, examples=100, connections=2000)
QUICK: Final = Effort(window=2, guess=0.6, soak=6, load=2, kills=1, inputs=320, examples=3, connections=200)


@dataclass(frozen=True)
class Bed:
    """One run's tools."""

    stack: Stack
    stand_in: StandIn
    load: Helper
    directory: Path  # for what is needed meanwhile
    output: Path  # for what is to be kept
    effort: Effort
    repository: Path | None  # of a real variant, to find the capacity of, too
    say: Callable[[str], None]

    @property
    def url(self) -> str:
        return self.stack.url

    def pids(self) -> dict[str, list[int]]:
        """Process ids by role, as they are now: a Triton that was killed has another one."""
        at = self.stack
        return stack.attach(at.url, at.triton_grpc, at.triton_http, at.variant, at.launcher).pids


@contextmanager
def serving(directory: Path, name: str, made: StandIn, **environment: str) -> Iterator[Stack]:
    """A pe-serve of the stand-in. Its gateway has other settings than the defaults only where they are given."""
    place = directory / name
    place.mkdir()
    with stack.start(made.repository, place, stand_in.VARIANT, environment=environment) as started:
        yield started


@dataclass
class Gateway:
    """A gateway alone."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid


@contextmanager
def gateway(directory: Path, tritons: Sequence[Stack], *, ready: bool = True, **environment: str) -> Iterator[Gateway]:
    """One more gateway before these Tritons: once it is ready, or else once it lives.

    Raises:
        StackFailed
    """
    (port,) = ports.free(1)
    log = directory / f"gateway-{port}.txt"
    settings = {
        "HOST": ports.LOOPBACK,
        "PORT": str(port),
        "PE_TRITON_URL": ",".join(triton.triton_grpc for triton in tritons),
        **environment,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gateway"],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    started = Gateway(process, f"http://{ports.LOOPBACK}:{port}", log)
    try:
        end = time.monotonic() + _START_S
        while asking.get(started.url, "/readiness" if ready else "/healthz").status != 200:
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace").splitlines()[-8:]
                raise StackFailed("\n".join(["the gateway did not start:", *said]))
            time.sleep(0.05)
        yield started
    finally:
        process.kill()
        process.wait()
