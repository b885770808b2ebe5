"""Parse an ONNX graph and compile it with TensorRT. Neither needs a GPU in TensorRT for RTX; TensorRT itself needs one.

The caller passes the library: `tensorrt`, or `tensorrt_rtx_bindings`, which has the same Python API
(https://docs.nvidia.com/deeplearning/tensorrt, "Python API"). Every name used here exists in the bindings of TensorRT
10.13.3.9 and 11.4.0.106, and of TensorRT for RTX 1.7.1.116.

The network is strongly typed: the graph decides the precision of every product. Release 10 needs a flag for strong
typing. Release 11 ignores the flag, because there every network is strongly typed.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from export.errors import GraphError

Shape = tuple[int, ...]
Advance = Callable[[float], None]
Listen = Callable[[Any, str], None]
"""Receives each message of TensorRT: its `Logger.Severity` and its text. TensorRT calls it on any thread."""


@dataclass(frozen=True)
class ShapeRange:
    """The shapes that an optimization profile accepts for one input, with the batch axis."""

    smallest: Shape
    usual: Shape
    """The shape for which TensorRT chooses its kernels."""
    largest: Shape


def profile_shapes(input_shapes: Sequence[Shape], max_batch_size: int) -> ShapeRange:
    """Return the shapes that a plan accepts: all batches to the largest, of all input shapes.

    Kernels are chosen for half of the largest batch, and for the largest input shape, which takes the longest.

    Args:
        input_shapes: shapes of one input without the batch axis, from the smallest to the largest.
        max_batch_size: the largest batch.
    """
    smallest, largest = input_shapes[0], input_shapes[-1]
    return ShapeRange((1, *smallest), (max(1, max_batch_size // 2), *largest), (max_batch_size, *largest))


def compile_graph(
    trt: Any,
    graph: Path,
    inputs: Mapping[str, ShapeRange],
    *,
    configure: Callable[[Any], None] = lambda config: None,
    listen: Listen | None = None,
    advance: Advance = lambda fraction: None,
) -> Any:
    """Compile `graph` as a strongly typed network with one optimization profile.

    Only one thread of a process may call this at a time. An exception that a callback raises ends the build at
    TensorRT's next step, and is raised again here. TensorRT itself discards such exceptions.

    Args:
        trt: TensorRT's Python module.
        graph: the ONNX file. External weights lie beside it.
        inputs: for each input by name, the shapes that the plan accepts.
        configure: changes the `IBuilderConfig` before the build.
        listen: receives every message. By default warnings are written to standard error.
        advance: receives the finished fraction of the build, from 0 to 1, on any thread. It never decreases.

    Returns:
        The plan, an `IHostMemory` with the buffer protocol.

    Raises:
        GraphError: TensorRT cannot read or compile the graph. The message has TensorRT's words, with operator and node.
    """
    callbacks = _Callbacks(listen or write_warnings, advance)
    logger = _logger(trt.ILogger)
    logger.callbacks = callbacks
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse_from_file(str(graph))
    callbacks.raise_failure()
    if not parsed:
        # `desc()` has only the reason, such as "Plugin not found". `str()` has the operator and the node.
        errors = [_one_line(str(parser.get_error(index))) for index in range(parser.num_errors)]
        more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
        raise GraphError(f"TensorRT cannot read the graph: {errors[0] if errors else 'it gives no reason'}{more}")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    names = {network.get_input(index).name for index in range(network.num_inputs)}
    if names != inputs.keys():
        raise GraphError(f"the graph has the inputs {sorted(names)}, and shapes are given for {sorted(inputs)}")
    for name, shapes in inputs.items():
        profile.set_shape(name, shapes.smallest, shapes.usual, shapes.largest)
    if config.add_optimization_profile(profile) < 0:
        raise GraphError(f"TensorRT rejects the shapes of the inputs: {callbacks.errors()}")
    configure(config)
    monitor = _monitor(trt, callbacks)  # The configuration keeps no reference to it.
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    callbacks.raise_failure()
    if plan is None:
        raise GraphError(f"TensorRT cannot compile the graph: {callbacks.errors()}")
    advance(1.0)
    return plan


class _Callbacks:
    """What TensorRT's callbacks do, without TensorRT's types."""

    def __init__(self, listen: Listen, advance: Advance) -> None:
        self._listen, self._advance = listen, advance
        self._failure: BaseException | None = None
        self._errors: list[str] = []
        self._phases: dict[str, _Phase] = {}
        self._told = 0.0

    def message(self, severity: Any, text: str, is_error: bool) -> None:
        if is_error:
            self._errors.append(_one_line(text))
        self._call(self._listen, severity, text)

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        self._phases[name] = _Phase(self._phases.get(parent or ""), steps)

    def step_complete(self, name: str, step: int) -> bool:
        """Report the progress. False ends the build."""
        if phase := self._phases.get(name):
            phase.done = step + 1
            fraction = phase.whole_fraction()
            if fraction > self._told:
                self._told = fraction
                self._call(self._advance, fraction)
        return self._failure is None

    def phase_finish(self, name: str) -> None:
        self._phases.pop(name, None)

    def errors(self) -> str:
        """Return the text of all errors so far, on one line."""
        return "; ".join(dict.fromkeys(self._errors)) or "it gives no reason"

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except BaseException as failure:
            self._failure = self._failure or failure


class _Phase:
    """A phase of a build. A phase within a phase is a part of the outer phase's current step."""

    def __init__(self, parent: "_Phase | None", steps: int) -> None:
        self.parent, self.steps, self.done = parent, max(1, steps), 0
        self._begin = parent.done if parent else 0

    def whole_fraction(self) -> float:
        """Return the finished fraction of the outermost phase."""
        within = min(1.0, self.done / self.steps)
        phase = self
        while phase.parent is not None:
            within = min(1.0, (phase._begin + within) / phase.parent.steps)
            phase = phase.parent
        return within


@cache
def _logger(base: Any) -> Any:
    """Return the only logger of this process. TensorRT ignores a second one as long as any builder is alive."""

    class Logger(base):  # type: ignore[misc]
        callbacks: _Callbacks

        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            self.callbacks.message(severity, message, severity <= base.Severity.ERROR)

    return Logger()


def _monitor(trt: Any, callbacks: _Callbacks) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            callbacks.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return callbacks.step_complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            callbacks.phase_finish(phase_name)

    return Monitor()


def write_warnings(severity: Any, message: str) -> None:
    """Write a warning of TensorRT to standard error."""
    if severity == type(severity).WARNING:  # An error becomes a GraphError.
        sys.stderr.write(f"TensorRT: {message}\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())
