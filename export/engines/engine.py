"""The interface of an engine. The pipeline builds, compares and configures artifacts only through this interface."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from export.gpu_memory import GpuMemory
from export.graph.spec import GraphForm, Precision
from export.parity import Embed
from export.progress import Progress


@dataclass(frozen=True)
class Runtime:
    """A way to run an artifact on this machine."""

    description: str
    """Library, version and device, for the certificate."""
    load: Callable[[Path], AbstractContextManager[Embed]]
    """Open an artifact. Raises ParityError if the library rejects the artifact or an input."""


@dataclass(frozen=True)
class BuildRequest:
    """The inputs of `Engine.build`."""

    tower: str
    """The label of progress lines: vision or text."""
    graph: Path
    """The ONNX graph."""
    files: tuple[Path, ...]
    """The graph, then its weights file if there is one. All files are in one scratch directory."""
    output: Path
    """The version directory to fill."""
    input_name: str
    """Name of the graph's input."""
    input_shapes: tuple[tuple[int, ...], ...]
    """Shapes of one input without the batch axis, from the smallest to the largest."""
    max_batch_size: int
    """The largest batch that Triton may form."""
    target: str
    """The result of `Engine.target`."""


class Engine(ABC):
    """One way to serve a graph. Instances hold no state. Importing an engine's module does not import its library."""

    name: ClassVar[str]
    """The value of `--engine`."""
    backend: ClassVar[str]
    """The name of Triton's backend."""
    precisions: ClassVar[tuple[Precision, ...]]
    """The supported precisions. The first one is the default."""
    form: ClassVar[GraphForm]
    """The form of the graph's operators that the engine needs."""
    warms_up_full_batch: ClassVar[bool] = False
    """Whether warmup also infers the largest batch. Warmup always infers a batch of one."""
    sources: ClassVar[tuple[str, ...]] = ()
    """Modules whose code decides the contents of the artifact, besides `export.graph` and the checkpoint loader."""

    def graph_precision(self, precision: Precision) -> Precision:
        """Return the precision of the graph from which an artifact of `precision` is built."""
        return precision

    def target(self, max_batch_size: int) -> str:
        """Name the library, device and largest batch to which an artifact built here is tied. Empty if there are none.

        Raises:
            TargetError: this machine lacks the library or the device that the build needs.
        """
        return ""

    def build(self, request: BuildRequest, progress: Progress) -> tuple[Path, ...]:
        """Put the artifact into `request.output`. The default moves the graph there and does not compile it.

        Returns:
            The artifact's files. Triton loads the first one.

        Raises:
            GraphError: the engine's compiler rejects the graph.
        """
        return tuple(file.rename(request.output / file.name) for file in request.files)

    @abstractmethod
    def runtime(self, precision: Precision) -> Runtime | None:
        """Find a runtime on this machine that can run an artifact of `precision`. None if there is none."""

    @abstractmethod
    def missing_runtime(self, precision: Precision) -> str:
        """Explain why `runtime` returned None, and what the user can do. The text becomes part of an error message."""

    @abstractmethod
    def configure(
        self,
        config: Any,
        precision: Precision,
        file: str,
        input_shapes: tuple[tuple[int, ...], ...],
        memory: GpuMemory,
    ) -> None:
        """Set the engine's own fields of an `inference.ModelConfig`: instances, device, file and parameters.

        Args:
            config: has its input, output and largest batch already.
            input_shapes: as in `BuildRequest`.
            memory: what one instance needs on a GPU.
        """


def set_instances(config: Any, count: int, kind: str) -> None:
    """Set the only instance group.

    Args:
        config: the `inference.ModelConfig` to change.
        count: number of instances on each device.
        kind: Triton's name of the device kind. `KIND_AUTO` means a GPU if there is one, else the CPU.
    """
    group = config.instance_group.add(count=count)
    group.kind = group.Kind.Value(kind)


def set_parameters(config: Any, **parameters: str) -> None:
    """Set parameters of an `inference.ModelConfig` that the backend reads."""
    for key, value in parameters.items():
        config.parameters[key].string_value = value
