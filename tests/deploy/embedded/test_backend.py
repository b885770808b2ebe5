"""The backend with fakes of Triton and of the engines: how it runs a batch, and which models it refuses."""

import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from deploy.embedded.layout import BACKEND


class ModelRefused(Exception):
    pass


class Response:
    def __init__(self, tensors: list[Any] | None = None, error: Any = None) -> None:
        self.tensors = {tensor.name: tensor.array for tensor in tensors or []}
        self.error = error


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> Any:
        return self.array


class Options(types.SimpleNamespace):
    def add_session_config_entry(self, key: str, value: str) -> None:
        setattr(self, key, value)


class Session:
    """Doubles its input; refuses any 13 in it, as a real graph refuses a token beyond its table."""

    opened: list["Session"]
    built_for: ClassVar = ["CPUExecutionProvider"]
    gpu = False  # whether one is there

    def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
        self.provider_options = {p[0]: p[1] for p in providers if isinstance(p, tuple)}
        providers = [p[0] if isinstance(p, tuple) else p for p in providers]
        assert set(providers) <= set(Session.built_for)
        if path.endswith("broken/1/model.onnx"):
            raise ValueError("Protobuf parsing failed.")
        self.path, self.options, self.batches = path, options, list[int]()
        self.providers = [p for p in providers if p != "CUDAExecutionProvider" or Session.gpu]
        Session.opened.append(self)

    def get_providers(self) -> list[str]:
        return self.providers

    def get_inputs(self) -> list[Any]:
        return [types.SimpleNamespace(name="tokens")]

    def get_outputs(self) -> list[Any]:
        return [types.SimpleNamespace(name="embedding")]

    def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        self.batches.append(len(feed["tokens"]))
        if (feed["tokens"] == 13).any():
            raise ValueError("13 is out of range")
        return [feed["tokens"] * 2.0 for _ in names]


class Compiled:
    """What OpenVINO makes of a model: doubles its input, always in the same memory."""

    opened: list["Compiled"]

    def __init__(self, path: str, device: str, options: dict[str, Any]) -> None:
        if path.endswith("broken/1/model.xml"):
            raise RuntimeError("Exception from core.cpp:132:\nModel can't be parsed\n\n\n")
        self.path, self.device, self.options = path, device, options
        self.inputs = [types.SimpleNamespace(any_name="tokens")]
        self.outputs = [types.SimpleNamespace(any_name="embedding")]
        self.memory: Any = None
        Compiled.opened.append(self)

    def create_infer_request(self) -> "Compiled":
        return self

    def infer(self, feed: dict[str, Any], share_outputs: bool) -> dict[str, Any]:
        doubled = feed["tokens"] * 2.0
        if self.memory is None or self.memory.shape != doubled.shape:
            self.memory = doubled
        self.memory[:] = doubled
        return {"embedding": self.memory if share_outputs else self.memory.copy()}


Load = Callable[..., Any]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """load(...) -> an initialized TritonPythonModel."""
    utils = types.ModuleType("triton_python_backend_utils")
    utils.__dict__.update(
        TritonModelException=ModelRefused,
        TritonError=str,
        Tensor=Tensor,
        InferenceResponse=Response,
        Logger=types.SimpleNamespace(log_warn=lambda text: None, log_info=lambda text: None),
        get_input_tensor_by_name=lambda request, name: Tensor(name, request[name]),
    )
    runtime = types.ModuleType("onnxruntime")
    runtime.__dict__.update(
        SessionOptions=Options,
        InferenceSession=Session,
        get_available_providers=lambda: Session.built_for,
        preload_dlls=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    openvino = types.ModuleType("openvino")
    openvino.__dict__.update(Core=lambda: types.SimpleNamespace(compile_model=Compiled))
    monkeypatch.setitem(sys.modules, "openvino", openvino)
    monkeypatch.setattr(Session, "opened", [], raising=False)
    monkeypatch.setattr(Compiled, "opened", [], raising=False)
    spec = importlib.util.spec_from_file_location("backend_model", BACKEND / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def initialized(repository: Path | str = "/models/text", **config: Any) -> Any:
        described = {
            "backend": "onnxruntime",
            "default_model_filename": "",
            "instance_group": [{"count": 1}],
            "input": [{"name": "tokens", "data_type": "TYPE_INT32"}],
            "output": [{"name": "embedding", "data_type": "TYPE_FP32"}],
            "max_batch_size": 8,
            "parameters": {},
            **config,
        }
        model = module.TritonPythonModel()
        arguments = {"model_config": json.dumps(described), "model_repository": str(repository), "model_version": "1"}
        model.initialize(arguments)
        return model

    return initialized


def requests(*rows: list[int]) -> list[dict[str, Any]]:
    return [{"tokens": np.array(values, np.int32).reshape(len(values), 1)} for values in rows]


def test_requests_run_together_and_are_answered_apart(load: Load) -> None:
    model = load()
    responses = model.execute(requests([1, 2], [3], [4, 5, 6]))
    assert model.engine.session.batches == [6]
    assert [response.tensors["embedding"].ravel().tolist() for response in responses] == [[2, 4], [6], [8, 10, 12]]


def test_one_bad_request_fails_alone(load: Load) -> None:
    responses = load().execute(requests([1], [13], [2, 3]))
    assert [response.error for response in responses] == [None, "13 is out of range", None]
    assert responses[2].tensors["embedding"].ravel().tolist() == [4, 6]


@pytest.mark.parametrize(
    ("width", "gpu", "batches"), [(40_000, False, [8, 8, 4]), (4, False, [20]), (40_000, True, [20])]
)
def test_large_images_go_through_a_cpu_a_few_at_a_time(
    load: Load, monkeypatch: pytest.MonkeyPatch, width: int, gpu: bool, batches: list[int]
) -> None:
    if gpu:
        monkeypatch.setattr(Session, "built_for", ["CUDAExecutionProvider", "CPUExecutionProvider"])
        monkeypatch.setattr(Session, "gpu", True)
    model = load(max_batch_size=64)
    rows = np.arange(20, dtype=np.int32)[:, None].repeat(width, axis=1) + 20  # 13 would be refused
    (response,) = model.execute([{"tokens": rows}])
    assert model.engine.session.batches == batches
    assert response.tensors["embedding"][:, 0].tolist() == [2.0 * (i + 20) for i in range(20)]


def of_length(length: int, *values: int) -> dict[str, Any]:
    return {"tokens": np.repeat(np.array(values, np.int32)[:, None], length, axis=1)}


def test_requests_of_equal_shape_run_together_and_all_keep_their_places(load: Load) -> None:
    model = load()
    responses = model.execute([of_length(3, 1), of_length(2, 4), of_length(3, 7, 8), of_length(2, 5), of_length(4, 6)])
    assert model.engine.session.batches == [3, 2, 1]
    results = [response.tensors["embedding"] for response in responses]
    assert [result.shape for result in results] == [(1, 3), (1, 2), (2, 3), (1, 2), (1, 4)]
    assert [result[:, 0].tolist() for result in results] == [[2], [8], [14, 16], [10], [12]]


def test_a_bad_request_of_one_shape_fails_alone(load: Load) -> None:
    responses = load().execute([of_length(3, 1), of_length(2, 13), of_length(2, 4), of_length(3, 2)])
    assert [response.error for response in responses] == [None, "13 is out of range", None, None]


def test_a_lone_request_is_run_once(load: Load) -> None:
    model = load()
    (response,) = model.execute(requests([13]))
    assert response.error == "13 is out of range"
    assert model.engine.session.batches == [1]


def test_models_without_a_batch_axis_are_run_one_by_one(load: Load) -> None:
    model = load(max_batch_size=0)
    assert len(model.execute(requests([1], [2]))) == 2
    assert model.engine.session.batches == [1, 1]


def test_weights_are_looked_for_beside_the_real_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "real/1").mkdir(parents=True)
    (tmp_path / "linked").symlink_to("real")
    assert load(tmp_path / "linked").engine.session.path == str(tmp_path / "real/1/model.onnx")


def test_threads_by_config_then_environment_then_cpus(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PE_ONNXRUNTIME_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2})
    assert 1 <= load().engine.session.options.intra_op_num_threads <= 3
    monkeypatch.setenv("PE_ONNXRUNTIME_THREADS", "5")
    assert load().engine.session.options.intra_op_num_threads == 5
    parameters = {"intra_op_thread_count": {"string_value": "7"}}
    assert load(parameters=parameters).engine.session.options.intra_op_num_threads == 7


def test_threads_by_what_pe_serve_counted(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PE_ONNXRUNTIME_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    for counted, threads in (("", 8), ("2", 2)):
        monkeypatch.setenv("PE_CPUS", counted)
        assert load().engine.session.options.intra_op_num_threads == threads
        assert openvino(load).engine is not None
        assert Compiled.opened[-1].options["INFERENCE_NUM_THREADS"] == threads


@pytest.mark.parametrize(
    ("built_for_gpu", "gpu", "wanted", "runs_by"),
    [
        (False, False, "", "CPU"),
        (False, False, "cuda", None),
        (True, False, "", "CPU"),
        (True, False, "cuda", None),
        (True, True, "", "CUDA"),
        (True, True, "cuda", "CUDA"),
        (True, True, "cpu", "CPU"),
    ],
)
def test_the_gpu_where_there_is_one(
    load: Load, monkeypatch: pytest.MonkeyPatch, built_for_gpu: bool, gpu: bool, wanted: str, runs_by: str | None
) -> None:
    built_for = ["CUDAExecutionProvider", "CPUExecutionProvider"][0 if built_for_gpu else 1 :]
    monkeypatch.setattr(Session, "built_for", built_for)
    monkeypatch.setattr(Session, "gpu", gpu)
    monkeypatch.setenv("PE_ONNXRUNTIME_PROVIDER", wanted)
    if runs_by is None:
        with pytest.raises(ModelRefused, match="it would run by CPUExecutionProvider"):
            load()
    else:
        assert load().engine.session.get_providers()[0] == f"{runs_by}ExecutionProvider"


def test_the_gpu_gets_the_models_limit_and_strategy(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "built_for", ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(Session, "gpu", True)
    written = {"gpu_mem_limit": "5368709120", "arena_extend_strategy": "1", "precision": "fp16"}
    parameters = {key: {"string_value": value} for key, value in written.items()}
    session = load(parameters=parameters).engine.session
    expected = {"gpu_mem_limit": "5368709120", "arena_extend_strategy": "kSameAsRequested"}
    assert session.provider_options == {"CUDAExecutionProvider": expected}
    assert load().engine.session.provider_options == {"CUDAExecutionProvider": {}}
    monkeypatch.setenv("PE_ONNXRUNTIME_PROVIDER", "cpu")
    assert load(parameters=parameters).engine.session.provider_options == {}


def test_a_broken_file_is_refused_by_name(load: Load) -> None:
    with pytest.raises(ModelRefused, match=r"cannot open /models/broken/1/model\.onnx .*Protobuf parsing failed"):
        load("/models/broken")


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_config_for_another_graph_is_refused(load: Load, kind: str) -> None:
    with pytest.raises(ModelRefused, match=rf"config\.pbtxt names {kind} \['other'\], but the model has"):
        load(**{kind: [{"name": "other", "data_type": "TYPE_INT32"}]})


def test_a_file_by_another_name(load: Load) -> None:
    assert load(default_model_filename="other.onnx").engine.session.path == "/models/text/1/other.onnx"


def openvino(load: Load, instances: int = 1, **parameters: str) -> Any:
    config = {"backend": "openvino", "instance_group": [{"count": instances}]}
    return load(**config, parameters={name: {"string_value": value} for name, value in parameters.items()})


def test_a_file_broken_for_openvino_is_refused_by_name(load: Load) -> None:
    with pytest.raises(ModelRefused, match=r"openvino cannot open /models/broken/1/model\.xml .*\n.*parsed$"):
        load("/models/broken", backend="openvino")


def test_openvino_runs_requests_together_too(load: Load) -> None:
    model = openvino(load)
    assert Compiled.opened[0].path == "/models/text/1/model.xml"
    assert Compiled.opened[0].device == "CPU"
    responses = model.execute(requests([1, 2], [3]))
    assert [response.tensors["embedding"].ravel().tolist() for response in responses] == [[2, 4], [6]]


def test_openvinos_answers_outlive_the_next_run(load: Load) -> None:
    model = openvino(load)
    (first,) = model.execute(requests([1]))
    model.execute(requests([2]))
    assert first.tensors["embedding"].tolist() == [[2]]


def test_openvinos_precision_and_hint_by_the_config(load: Load) -> None:
    openvino(load)
    openvino(load, HINT_BF16="YES", PERFORMANCE_HINT="THROUGHPUT")
    options = [model.options for model in Compiled.opened]
    assert [told["INFERENCE_PRECISION_HINT"] for told in options] == ["f32", "bf16"]
    assert [told["PERFORMANCE_HINT"] for told in options] == ["LATENCY", "THROUGHPUT"]


def test_openvinos_instances_share_the_cpus(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(5)))
    for instances, told in ((1, {}), (2, {}), (8, {}), (2, {"INFERENCE_NUM_THREADS": "3"})):
        openvino(load, instances, **told)
    assert [model.options["INFERENCE_NUM_THREADS"] for model in Compiled.opened] == [5, 2, 1, 3]


def substituted_by_openvino(load: Load, version: Path, least: float) -> Any:
    parameters = {"substitute_engine": "openvino", "parity_min_cosine": str(least)}
    (version / "model.onnx").write_bytes(b"")
    return load(version.parent, parameters={name: {"string_value": value} for name, value in parameters.items()})


def test_openvino_runs_an_onnx_file_that_it_reproduces(load: Load, tmp_path: Path) -> None:
    version = tmp_path / "1"
    version.mkdir()
    np.savez(version / "parity.npz", inputs=np.full((20, 1), 0.5, np.float32), expected=np.ones((20, 1), np.float32))
    model = substituted_by_openvino(load, version, 0.99999)
    assert Compiled.opened[0].path == str(version / "model.onnx")
    (response,) = model.execute(requests([1]))
    assert response.tensors["embedding"].tolist() == [[2]]


@pytest.mark.parametrize("wrong_at", [None, 2, 3, 4])
def test_openvino_must_reproduce_texts_of_each_length(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_at: int | None
) -> None:
    seen = []

    def infer(compiled: Compiled, feed: dict[str, Any], share_outputs: bool) -> dict[str, Any]:
        tokens = feed["tokens"]
        seen.append(tokens)
        assert tokens.flags.c_contiguous
        return {"embedding": np.full((len(tokens), 1), 0.9 if tokens.shape[1] == wrong_at else 1, np.float32)}

    monkeypatch.setattr(Compiled, "infer", infer)
    version = tmp_path / "1"
    version.mkdir()
    inputs = np.array([[7, 5, 0, 0], [7, 7, 7, 5], [7, 0, 5, 0], [5, 0, 0, 0]], np.int32)
    lengths = np.array([2, 3, 4], np.int32)
    np.savez(version / "parity.npz", inputs=inputs, expected=np.ones((4, 1), np.float32), token_lengths=lengths)
    if wrong_at is None:
        substituted_by_openvino(load, version, 0.99999)
    else:
        with pytest.raises(ModelRefused, match="openvino gives other embeddings"):
            substituted_by_openvino(load, version, 0.99999)
    full, two, three = (tokens.tolist() for tokens in seen)
    assert full == inputs.tolist()
    assert two == [[5, 0], [7, 5]]
    assert sorted(three) == sorted([[5, 0, 0], [7, 5, 0], [7, 0, 5]])


@pytest.mark.parametrize("expected", [0.99, float("nan")])
def test_openvino_is_refused_an_onnx_file_that_it_embeds_otherwise(load: Load, tmp_path: Path, expected: float) -> None:
    version = tmp_path / "1"
    version.mkdir()
    kept = np.array([[1.0], [expected]], np.float32)
    np.savez(version / "parity.npz", inputs=np.full((2, 1), 0.5, np.float32), expected=kept)
    with pytest.raises(ModelRefused, match=r"openvino gives other embeddings .* where 0\.999 is needed"):
        substituted_by_openvino(load, version, 0.999)


def test_without_samples_nothing_is_proved(load: Load, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with pytest.raises(ModelRefused, match="could not be proved"):
        substituted_by_openvino(load, tmp_path / "1", 0.999)
