"""What the resilience measurements run against: `pe-serve` around the stub model, and more gateways beside it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.bench.harness import stack, stub_model
from deploy.bench.harness.stack import Gateway, Stack
from deploy.bench.harness.stub_model import StubModel
from deploy.bench.harness.worker import Worker

LIMIT: Final = 64  # requests in flight: the gateway's default


@dataclass(frozen=True)
class Effort:
    """How long the measurements take, in seconds and numbers."""

    window: float  # without a refusal, for a rate to be the capacity
    guess: float  # of one step of the search for the capacity
    soak: float
    load: float  # around a fault
    kills: int  # of a Triton process
    inputs: int  # damaged ones
    examples: int  # requests per operation of /openapi.json
    connections: int  # idle ones


FULL: Final = Effort(window=30, guess=4, soak=600, load=10, kills=3, inputs=20_000, examples=100, connections=2000)
QUICK: Final = Effort(window=1, guess=0.4, soak=4, load=1, kills=1, inputs=160, examples=2, connections=200)


@dataclass(frozen=True)
class Testbed:
    """The processes and settings of one run."""

    stack: Stack  # `pe-serve` around the stub model
    stub: StubModel
    load: Worker  # the load generator
    directory: Path  # for files that the run needs
    output: Path  # for files to keep
    effort: Effort
    repository: Path | None  # of a real variant whose capacity is measured too
    say: Callable[[str], None]

    @property
    def url(self) -> str:
        """The gateway's URL."""
        return self.stack.url

    def pids(self) -> dict[str, list[int]]:
        """Return the current process ids by role. A Triton that was killed has a new one."""
        at = self.stack
        return stack.attach(at.url, at.triton_grpc, at.triton_http, at.variant, at.launcher).pids

    def gateway(self, *tritons: str, ready: bool = True, **environment: str) -> AbstractContextManager[Gateway]:
        """Start one more gateway: for these Tritons (gRPC addresses), or for the Triton of the testbed."""
        return stack.gateway(self.directory, ",".join(tritons or [self.stack.triton_grpc]), ready=ready, **environment)


@contextmanager
def serve_stub(directory: Path, name: str, stub: StubModel) -> Iterator[Stack]:
    """Start a `pe-serve` of the stub model with default settings; `name` is the folder for its log."""
    folder = directory / name
    folder.mkdir()
    with stack.start(stub.repository, folder, stub_model.VARIANT) as started:
        yield started
