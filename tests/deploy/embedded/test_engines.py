"""The table of engines, and what must agree with it."""

import ast
from pathlib import Path

import pytest

from deploy.embedded.engines import ENGINES, SUBSTITUTIONS, find_engine, installable_names
from deploy.embedded.layout import BACKEND
from export.parity import MIN_COSINE


def classes_of_the_backend() -> dict[str, str]:
    """The table of `backend/model.py`, which cannot be imported outside Triton."""
    for node in ast.parse((BACKEND / "model.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_ENGINES":
            assert isinstance(node.value, ast.Dict)
            return {
                ast.literal_eval(key): ast.unparse(value)
                for key, value in zip(filter(None, node.value.keys), node.value.values, strict=True)
            }
    raise AssertionError("backend/model.py has no _ENGINES")


def test_the_backend_has_the_class_of_every_row() -> None:
    rows = {engine.backend: engine.backend_class for engine in ENGINES if engine.backend_class}
    assert classes_of_the_backend() == rows


def test_the_backend_loads_the_file_of_every_row() -> None:
    files = {
        node.name: ast.literal_eval(assignment.value)
        for node in ast.parse((BACKEND / "model.py").read_text()).body
        if isinstance(node, ast.ClassDef)
        for assignment in node.body
        if isinstance(assignment, ast.Assign) and ast.unparse(assignment.targets[0]) == "default_file"
    }
    assert files == {engine.backend_class: engine.file for engine in ENGINES if engine.backend_class}


def test_an_optional_engine_has_requirements_that_name_its_package() -> None:
    optional = [engine for engine in ENGINES if engine.requirements]
    assert optional
    for engine in optional:
        assert isinstance(engine.requirements, Path)
        assert engine.package
        assert f"\n{engine.package}>=" in engine.requirements.read_text()


@pytest.mark.parametrize(
    ("backend", "found"),
    [("onnxruntime", "onnxruntime"), ("onnxruntime_onnx", "onnxruntime"), ("openvino", "openvino"), ("tensorrt", None)],
)
def test_finds_an_engine_by_backend_or_platform(backend: str, found: str | None) -> None:
    engine = find_engine(backend)
    assert (engine.backend if engine else None) == found


def test_messages_name_the_engines_for_exported_models() -> None:
    assert installable_names() == "onnxruntime and OpenVINO"


def test_every_substitution_runs_with_an_engine_of_the_table() -> None:
    assert all(row.engine in ENGINES and row.engine.backend_class for row in SUBSTITUTIONS.values())


def test_a_substitution_must_meet_the_exporters_own_limit() -> None:
    assert {row.precision: row.min_cosine for row in SUBSTITUTIONS.values()} == {
        precision: MIN_COSINE[precision] for precision in ("fp32", "bf16")
    }
