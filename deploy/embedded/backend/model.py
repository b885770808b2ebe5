"""Triton's `onnxruntime` and `openvino` backends as one Python-based backend, with a class for each engine.

A stock Triton container serves the same model repository with its C++ backends of those names. This backend covers what
this project's models need: one file in the version directory, weights beside it, and a batch axis that Triton's dynamic
batcher fills. Requests of different shapes may come together (`allow_ragged_batch`). Those of equal shape run as one
batch.

Each model instance runs it in a process of its own, Triton's Python stub. It can import numpy and the engine, but
nothing of this project. `deploy/embedded/engines.py` names the classes.
https://github.com/triton-inference-server/python_backend documents the calls.
"""

import json
import os
from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np
import triton_python_backend_utils as pb_utils

_SAMPLES: Final = "parity.npz"  # the exporter stores it beside each model
# The number of samples to compare at each length. There are 200 texts, and each takes a few seconds in a large tower.
_COMPARED: Final = 8

# The activations of a large batch of large images outgrow a CPU's caches. With B16-224, 32 images in one call took
# 618 ms of CPU each, 16 took 600, 8 took 584, and 4 took 565.
_MAX_IMAGES: Final = 8
_LARGE_BYTES: Final = 100_000  # of one image; a model for smaller images gains more by fewer calls

_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"

Arrays = dict[str, "np.ndarray[Any, Any]"]
Parameters = dict[str, str]


class Engine(Protocol):
    """An engine with an open model file. Names are in the file's order; arrays are as `config.pbtxt` declares them."""

    default_file: str
    inputs: list[str]
    outputs: list[str]

    def __init__(self, path: str, parameters: Parameters, instances: int) -> None:
        """Open a file. `instances` processes do so at the same time."""

    def run(self, names: list[str], feed: Arrays) -> list[Any]:
        """Return the outputs of these names. The next run does not overwrite them."""


class TritonPythonModel:
    """A model instance, in the interface that Triton requires."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model. On TritonModelException Triton reports the model as unavailable, with the message."""
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.batched = config["max_batch_size"] > 0
        self.engine = _open(os.path.join(args["model_repository"], args["model_version"]), config)
        _check_names("input", self.inputs, self.engine.inputs)
        _check_names("output", self.outputs, self.engine.outputs)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response per request. Triton has checked names, dtypes and shapes against the config."""
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            for request in requests
        ]
        groups: dict[Any, list[int]] = {}
        for index, feed in enumerate(feeds):
            shapes = tuple(feed[name].shape[1:] for name in self.inputs) if self.batched else index
            groups.setdefault(shapes, []).append(index)
        responses: dict[int, Any] = {}
        for indices in groups.values():
            responses |= zip(indices, self._execute_group([feeds[index] for index in indices]), strict=True)
        return [responses[index] for index in range(len(feeds))]

    def _execute_group(self, feeds: list[Arrays]) -> list[Any]:
        """Return one response per request. Apart from the batch axis the requests have equal shapes."""
        if len(feeds) > 1:
            try:
                return [_response(arrays) for arrays in self._run_batch(feeds)]
            except Exception as error:
                pb_utils.Logger.log_warn(f"a batch of {len(feeds)} requests failed, running each alone: {error}")
        return [self._run_alone(feed) for feed in feeds]

    def _run_batch(self, feeds: list[Arrays]) -> list[Arrays]:
        sizes = [len(feed[self.inputs[0]]) for feed in feeds]
        ends = np.cumsum(sizes)[:-1]
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in self.inputs}
        parts = [np.split(array, ends) for array in self._run(batch).values()]
        return [dict(zip(self.outputs, arrays, strict=True)) for arrays in zip(*parts, strict=True)]

    def _run_alone(self, feed: Arrays) -> Any:
        # A bad value, such as a token beyond the embedding table, must fail its own request only.
        try:
            return _response(self._run(feed))
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _run(self, feed: Arrays) -> Arrays:
        return dict(zip(self.outputs, self.engine.run(self.outputs, feed), strict=True))


def _response(arrays: Arrays) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in arrays.items()])


class OnnxRuntime:
    """onnxruntime, on an NVIDIA GPU if onnxruntime-gpu is installed and finds one, otherwise on the CPU.

    Triton's C++ backend reads the parameters `intra_op_thread_count`, `gpu_mem_limit` and `arena_extend_strategy`, too.
    """

    default_file = "model.onnx"

    def __init__(self, path: str, parameters: Parameters, instances: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only; the optimizer's warnings would fill the server's log
        threads = parameters.get("intra_op_thread_count") or os.getenv("PE_ONNXRUNTIME_THREADS")
        options.intra_op_num_threads = int(threads or _cpus())
        # Threads that spin while they wait take the cores from the other tower, Triton and the gateway. With two busy
        # towers on 2 cores, spinning halved the throughput.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = os.getenv("PE_ONNXRUNTIME_PROVIDER", "")
        providers: list[Any] = [_CPU]
        if _CUDA in onnxruntime.get_available_providers() and wanted != "cpu":
            onnxruntime.preload_dlls()  # CUDA and cuDNN, if they are installed as wheels
            providers.insert(0, (_CUDA, _cuda_options(parameters)))
        self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        # If onnxruntime can use no GPU, it silently uses the CPU instead, except for a line on stderr.
        provider = self.session.get_providers()[0]
        if wanted == "cuda" and provider != _CUDA:
            raise RuntimeError(f"it would run by {provider}, but PE_ONNXRUNTIME_PROVIDER is cuda")
        self.on_cpu = provider == _CPU
        self.inputs = [tensor.name for tensor in self.session.get_inputs()]
        self.outputs = [tensor.name for tensor in self.session.get_outputs()]

    def run(self, names: list[str], feed: Arrays) -> list[Any]:
        batch = next(iter(feed.values()))
        if not (self.on_cpu and len(batch) > _MAX_IMAGES and batch.nbytes > len(batch) * _LARGE_BYTES):
            results: list[Any] = self.session.run(names, feed)
            return results
        starts = range(0, len(batch), _MAX_IMAGES)
        parts = [self.session.run(names, {n: a[i : i + _MAX_IMAGES] for n, a in feed.items()}) for i in starts]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _cuda_options(parameters: Parameters) -> dict[str, str]:
    """Return the CUDA provider's options in onnxruntime's words. Triton's backend numbers the strategies."""
    strategies = {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"}
    options = {}
    if limit := parameters.get("gpu_mem_limit"):
        options["gpu_mem_limit"] = limit
    if strategy := parameters.get("arena_extend_strategy"):
        options["arena_extend_strategy"] = strategies.get(strategy, strategy)  # onnxruntime names the values it knows
    return options


class OpenVino:
    """OpenVINO on the CPU, with the parameters of Triton's C++ backend.

    See https://github.com/triton-inference-server/openvino_backend.
    """

    default_file = "model.xml"

    def __init__(self, path: str, parameters: Parameters, instances: int) -> None:
        import openvino

        options = {
            "PERFORMANCE_HINT": parameters.get("PERFORMANCE_HINT", "LATENCY"),
            "INFERENCE_PRECISION_HINT": "bf16" if parameters.get("HINT_BF16") == "YES" else "f32",
            # Each instance is a process that runs one batch at a time, so a second stream would be idle.
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": int(parameters.get("INFERENCE_NUM_THREADS") or max(1, _cpus() // instances)),
            # With pinning, all processes would pin their threads to the same first CPUs.
            "ENABLE_CPU_PINNING": False,
        }
        model = openvino.Core().compile_model(path, "CPU", options)
        self.inputs = [tensor.any_name for tensor in model.inputs]
        self.outputs = [tensor.any_name for tensor in model.outputs]
        self.request = model.create_infer_request()

    def run(self, names: list[str], feed: Arrays) -> list[Any]:
        results = self.request.infer(feed, share_outputs=False)  # the next run reuses the request's own memory
        return [results[name] for name in names]


_ENGINES: Final[dict[str, type[Engine]]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}


def _open(version: str, config: dict[str, Any]) -> Engine:
    """Open a model's file in the engine that its configuration names. A substitute engine is proved first."""
    file = config["default_model_filename"] or _ENGINES[config["backend"]].default_file
    # The path is resolved, because onnxruntime looks for external weights beside the real file. It is resolved as
    # bytes, because the stub's Python takes every path for ASCII, in every locale. Engines take UTF-8.
    real = os.path.realpath(os.path.join(version, file).encode())
    try:
        path = real.decode()
    except UnicodeDecodeError as error:
        raise pb_utils.TritonModelException(
            f"the path {real.decode(errors='backslashreplace')} is not UTF-8. Rename that folder."
        ) from error
    parameters = {key: parameter["string_value"] for key, parameter in config["parameters"].items()}
    name = parameters.get("substitute_engine") or config["backend"]
    try:
        engine = _ENGINES[name](path, parameters, sum(group["count"] for group in config["instance_group"]))
    except Exception as error:
        raise pb_utils.TritonModelException(
            f"{name} cannot open {path} (is the file whole?): {str(error).strip()}"
        ) from error
    if name != config["backend"]:
        samples = os.path.join(os.path.dirname(real), _SAMPLES.encode())
        _require_parity(engine, samples, float(parameters["parity_min_cosine"]), name)
    return engine


def _require_parity(engine: Engine, samples: bytes, min_cosine: float, name: str) -> None:
    """Check that a substitute engine reproduces the exporter's embeddings of the exporter's samples."""
    if not os.path.exists(samples):
        raise pb_utils.TritonModelException(
            f"{name} could not be proved to give the same embeddings: no {samples.decode()}"
        )
    with open(samples, "rb") as file, np.load(file) as stored:
        inputs, expected = stored["inputs"], stored["expected"]
        lengths = stored["token_lengths"].tolist() if "token_lengths" in stored else []
    cosines = []
    for part, answers in _parts(inputs, expected, lengths):
        (result,) = engine.run(engine.outputs[:1], {engine.inputs[0]: part})
        cosines.append((result * answers).sum(axis=1).min())
    cosine = float(np.min(cosines))
    if not cosine >= min_cosine:  # also true for NaN
        raise pb_utils.TritonModelException(
            f"{name} gives other embeddings than the exporter: a cosine of {cosine:.5f}, where {min_cosine} is needed"
        )
    pb_utils.Logger.log_info(
        f"{name} gives the exporter's embeddings of {samples.decode()}: minimum cosine {cosine:.7f}"
    )


def _parts(inputs: Any, expected: Any, token_lengths: list[int]) -> Iterator[tuple[Any, Any]]:
    """Yield a few of the samples as they are, and at each shorter token length the longest texts that it holds."""
    yield inputs[:_COMPARED], expected[:_COMPARED]
    for length in token_lengths[:-1]:
        used = (inputs != 0).cumsum(axis=1).argmax(axis=1) + 1  # tokens without padding
        fitting = np.flatnonzero(used <= length)
        longest = fitting[np.argsort(used[fitting])][-_COMPARED:]
        if longest.size:
            yield np.ascontiguousarray(inputs[longest, :length]), expected[longest]


def _cpus() -> int:
    """Return the number of CPUs to use: what `pe-serve` counted by its quota, otherwise those of this process."""
    return int(os.getenv("PE_CPUS") or len(os.sched_getaffinity(0)))


def _check_names(kind: str, configured: list[str], found: list[str]) -> None:
    if missing := sorted(set(configured) - set(found)):
        raise pb_utils.TritonModelException(f"config.pbtxt names {kind} {missing}, but the model has {found}")
