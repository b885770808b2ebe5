"""Compile the towers with TensorRT for RTX: TensorRT's own parser, builder and Python API, without a GPU."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export.engines.tensorrt_compiler import ShapeRange, compile_graph, write_warnings
from export.engines.tensorrt_kernels import CompilerMessages, detailed, read_graph, report
from export.errors import GraphError
from export.graph.spec import Precision
from export.inspection import describe, export_random, inspect_graph, profile
from export.variants import TOWERS, Tower, find_variant
from tests.export.bf16_graph import write_as_bf16
from tests.export.engines.small_graph import small_graph

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ROOT = Path(__file__).parents[3]
# The exporter writes these with the operators of onnxruntime.
FUSED = ROOT / "model_repository/PE-Demo-T8-64-vision/1/model.onnx"
DEMO = find_variant("PE-Demo-T8-64")
USUAL = {"x": ShapeRange((1, 64), (4, 64), (8, 64))}
trt: Any = importlib.import_module("tensorrt_rtx_bindings")


class Watched(SimpleNamespace):
    """The module `tensorrt_rtx_bindings`, whose builder keeps what it makes."""

    def __init__(self) -> None:
        super().__init__(**vars(trt))
        made = self

        class Builder(trt.Builder):  # type: ignore[misc]
            def create_network(self, flags: int) -> Any:
                made.network = super().create_network(flags)
                return made.network

            def create_optimization_profile(self) -> Any:
                made.profile = super().create_optimization_profile()
                return made.profile

            def create_builder_config(self) -> Any:
                made.config = super().create_builder_config()
                return made.config

        self.Builder = Builder


# Of each tower: kernels that move data, and their bytes for the largest batch (`export/engines/README.md`).
KERNELS_THAT_MOVE = {
    ("PE-Core-T16-384", "vision"): 17,
    ("PE-Core-T16-384", "text"): 17,
    ("PE-Core-B16-224", "vision"): 17,
    ("PE-Core-B16-224", "text"): 29,
}
BYTES_MOVED = {
    ("PE-Core-T16-384", "vision"): 1_166_645_912,
    ("PE-Core-T16-384", "text"): 151_463_184,
    ("PE-Core-B16-224", "vision"): 1_502_837_400,
    ("PE-Core-B16-224", "text"): 604_906_912,
}

GraphOf = Callable[[Precision], Path]


@pytest.fixture(
    scope="module",
    params=[(name, tower) for name in ("PE-Core-T16-384", "PE-Core-B16-224") for tower in TOWERS],
    ids=lambda param: "-".join(param),
)
def tower_graphs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Tower, dict[Precision, Path]]]:
    name, tower = request.param
    directory = tmp_path_factory.mktemp("graph")
    graph = export_random(find_variant(name), tower, "fp16", directory)
    bf16 = write_as_bf16(graph.path, directory / "bf16.onnx")
    yield name, tower, {"fp16": graph.path, "bf16": bf16}
    for file in directory.iterdir():  # Up to 1.4 GB.
        file.unlink()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_tower_compiles_as_a_strongly_typed_network_with_our_profile(
    tower_graphs: tuple[str, Tower, dict[Precision, Path]], precision: Precision
) -> None:
    name, tower, graphs = tower_graphs
    variant = find_variant(name)
    watched, told, messages = Watched(), list[float](), CompilerMessages()
    inputs = profile(variant, tower)
    plan = compile_graph(
        watched,
        graphs[precision],
        inputs,
        advance=told.append,
        configure=lambda config: detailed(trt, config),
        listen=messages.hear,
    )

    weights = 2 * variant.parameters[tower]
    assert 0.9 * weights < memoryview(plan).nbytes < 1.5 * weights + 2**26
    assert watched.network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert types_of_products(watched.network) == {{"fp16": trt.float16, "bf16": trt.bfloat16}[precision]}
    [(input_name, wanted)] = inputs.items()
    assert watched.profile.get_shape(input_name) == [wanted.smallest, wanted.usual, wanted.largest]
    assert wanted.largest[0] == variant.max_batch_size
    assert watched.config.num_optimization_profiles == 1
    assert len(told) > 100
    assert told == sorted(set(told))
    assert 0 < told[0] < 0.1
    assert told[-1] == 1

    found = report(messages, read_graph(graphs[precision]))
    assert found is not None
    assert found.half
    assert not found.problems()
    assert (
        found.attentions
        == found.fused_attentions
        == 12 * (2 if "B16" in name and tower == "text" else 1) + (tower == "vision")
    )
    assert found.kernels_per_block <= 8
    assert found.moving <= KERNELS_THAT_MOVE[name, tower]
    assert 2**20 < (found.scratch_bytes or 0) < 2**29


def test_the_kernels_that_move_data_take_no_more_bytes_than_recorded(
    tower_graphs: tuple[str, Tower, dict[Precision, Path]],
) -> None:
    name, tower, graphs = tower_graphs
    inspection = inspect_graph(trt, graphs["fp16"], find_variant(name), tower)
    assert inspection.kernels is not None
    assert inspection.work is not None
    moved = sum(part.bytes for part in inspection.work if part.role == "moving")
    assert 0 < moved <= BYTES_MOVED[name, tower]
    described = describe(inspection)
    assert "unknown" not in described
    assert "warning" not in described


def types_of_products(network: Any) -> set[Any]:
    """Return the types of the inputs of all matrix products of a network."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    products = [layer for layer in layers if layer.type == trt.LayerType.MATRIX_MULTIPLY]
    assert len(products) > 12 * 6  # query, key, value, scores, sums, output; and the MLP
    return {layer.get_input(index).dtype for layer in products for index in range(2)}


def test_an_operator_that_the_parser_does_not_know_is_named_with_its_node() -> None:
    said: list[str] = []
    with pytest.raises(GraphError) as caught:
        compile_graph(trt, FUSED, profile(DEMO, "vision"), listen=lambda severity, text: said.append(text))
    error = str(caught.value)
    assert error.startswith("TensorRT cannot read the graph: In node ")
    assert "operator: SkipLayerNormalization" in error
    assert "name: node__symbolic_multi_out__" in error
    assert "Plugin not found" in error
    assert error.endswith(" more errors)")
    assert "\n" not in error
    assert any("SkipLayerNormalization" in text for text in said)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", r"the graph has the inputs \[\]"),  # The parser reads it as a graph without nodes.
        (b"no graph", "^TensorRT cannot read the graph: .*Failed to parse the ONNX model"),
        (FUSED.read_bytes()[:5000], "^TensorRT cannot read the graph: .*Failed to parse the ONNX model"),
    ],
    ids=["empty", "text", "cut"],
)
def test_a_damaged_graph_is_an_error(tmp_path: Path, content: bytes, error: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(GraphError, match=error):
        compile_graph(trt, tmp_path / "model.onnx", USUAL)


def test_a_graph_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="Input file cannot be found"):
        compile_graph(trt, tmp_path / "model.onnx", {})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_graph(tmp_path_factory.mktemp("small") / "model.onnx")


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ({}, r"the graph has the inputs \['x'\], and shapes are given for \[\]"),
        ({"y": USUAL["x"]}, r"the graph has the inputs \['x'\], and shapes are given for \['y'\]"),
        ({"x": ShapeRange((4, 64), (1, 64), (8, 64))}, "rejects the shapes of the inputs: .*MIN<=OPT<=MAX"),
        ({"x": ShapeRange((1, 32), (4, 32), (8, 32))}, "cannot compile the graph: .*Dimension mismatch for tensor x"),
    ],
)
def test_shapes_that_do_not_fit_the_graph_are_an_error(small: Path, inputs: dict[str, ShapeRange], error: str) -> None:
    with pytest.raises(GraphError, match=error):
        compile_graph(trt, small, inputs)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), BrokenPipeError(), ValueError("no")])
def test_what_a_callback_raises_ends_the_build_and_is_raised_again(small: Path, failure: BaseException) -> None:
    calls: list[float] = []

    def advance(fraction: float) -> None:
        calls.append(fraction)
        raise failure

    with pytest.raises(type(failure)) as caught:
        compile_graph(trt, small, USUAL, advance=advance)
    assert caught.value is failure
    assert calls[-1] < 0.5

    def listen(severity: Any, text: str) -> None:
        raise failure

    with pytest.raises(type(failure)):
        compile_graph(trt, small, USUAL, listen=listen)


def test_a_build_after_a_failed_one_is_heard_by_its_own_caller(small: Path) -> None:
    """TensorRT keeps the first logger while a builder lives, and the error's traceback keeps the first builder."""
    with pytest.raises(GraphError) as first:
        compile_graph(trt, small, {"x": ShapeRange((1, 32), (4, 32), (8, 32))})
    with pytest.raises(GraphError, match="MIN<=OPT<=MAX"):
        compile_graph(trt, small, {"x": ShapeRange((4, 64), (1, 64), (8, 64))})
    assert "Dimension mismatch" in str(first.value)


def test_the_caller_configures_the_build_and_hears_every_message(small: Path) -> None:
    heard: list[tuple[Any, str]] = []

    def configure(config: Any) -> None:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED

    compile_graph(trt, small, USUAL, configure=configure, listen=lambda *message: heard.append(message))
    severities = {severity for severity, _ in heard}
    assert trt.ILogger.Severity.VERBOSE in severities
    assert trt.ILogger.Severity.ERROR not in severities


def test_a_warning_is_written_to_standard_error(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    severity = trt.ILogger.Severity
    for each in (severity.ERROR, severity.WARNING, severity.INFO, severity.VERBOSE):
        write_warnings(each, each.name)
    assert capfd.readouterr() == ("", "TensorRT: WARNING\n")
