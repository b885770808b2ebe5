"""What an engine is: the one interface through which the pipeline builds, proves and configures artifacts."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from export.graph.spec import GraphForm, Precision
from export.parity import Embed
from export.progress import Progress


@dataclass(frozen=True)
class Runtime:
    """A way to run an artifact on this machine."""

    description: str
    """Library, version and device, for the certificate."""
    load: Callable[[Path], AbstractContextManager[Embed]]
    """Open an artifact. Raises ParityError if the library refuses the artifact or an input."""


@dataclass(frozen=True)
class BuildRequest:
    """What an engine builds its artifact from."""

    tower: str
    """The label of progress lines: vision or text."""
    graph: Path
    """The ONNX graph."""
    files: tuple[Path, ...]
    """The graph and the weights beside it, all in one scratch directory."""
    output: Path
    """The version directory to fill."""
    input_shape: tuple[int, ...]
    """Shape of one input, without the batch axis."""
    max_batch_size: int
    target: str
    """What `Engine.target` returned."""


class Engine(ABC):
    """One way to serve a graph. Instances hold no state, and importing an engine's module imports no library of it."""

    name: ClassVar[str]
    """What `--engine` calls it."""
    backend: ClassVar[str]
    """The name of Triton's backend."""
    precisions: ClassVar[tuple[Precision, ...]]
    """What it can be exported in; the first one is the default."""
    form: ClassVar[GraphForm]
    """The operators that it needs in the graph."""
    warms_up_full_batch: ClassVar[bool] = False
    """Whether Triton also infers the largest batch before the model is ready. Triton always infers one input."""
    sources: ClassVar[tuple[str, ...]] = ()
    """Modules outside `export.graph` whose code decides the contents of the artifact."""

    def graph_precision(self, precision: Precision) -> Precision:
        """Return the precision of the graph from which an artifact of `precision` is built."""
        return precision

    def target(self, max_batch_size: int) -> str:
        """Name what an artifact built here is tied to, besides its graph: library, device, batch. Empty if nothing.

        Raises:
            TargetError: this machine lacks the library or the device that the build needs.
        """
        return ""

    def build(self, request: BuildRequest, progress: Progress) -> tuple[Path, ...]:
        """Put the artifact into `request.output`; the graph itself unless the engine compiles it.

        Returns:
            The artifact's files. The first one is what Triton loads.

        Raises:
            GraphError: the engine's compiler refuses the graph.
        """
        return tuple(file.rename(request.output / file.name) for file in request.files)

    @abstractmethod
    def runtime(self, precision: Precision) -> Runtime | None:
        """Find what can run an artifact of `precision` on this machine, for the parity gate; None if nothing can."""

    @abstractmethod
    def missing_runtime(self, precision: Precision) -> str:
        """Say why `runtime` found nothing, and what to do about it."""

    @abstractmethod
    def configure(self, config: Any, precision: Precision, file: str) -> None:
        """Set the engine's own fields of an `inference.ModelConfig`: instances, device, file and parameters."""


def set_instances(config: Any, count: int, kind: str) -> None:
    """Set the only instance group.

    Args:
        config: the `inference.ModelConfig` to change.
        count: how many instances run at once on each device.
        kind: Triton's name of the device kind; `KIND_AUTO` is a GPU where there is one, else the CPU.
    """
    group = config.instance_group.add(count=count)
    group.kind = group.Kind.Value(kind)


def set_parameters(config: Any, **parameters: str) -> None:
    """Set parameters that the backend itself reads."""
    for key, value in parameters.items():
        config.parameters[key].string_value = value
