"""Triton's `onnxruntime` and `openvino` backends as a Python-based backend: one file for all models.

A stock Triton container serves the same model repository with its C++ backends of those names. This one covers what our
models need: one file in the version directory, with weights beside it, and a batch axis filled by the batcher.

It runs inside Triton's Python stub, one process a model instance, so it can import numpy and the engine but nothing
of this project. https://github.com/triton-inference-server/python_backend documents the calls.
"""

import json
import os
from typing import Any, Protocol

import numpy as np
import triton_python_backend_utils as pb_utils

_SAMPLES = "parity.npz"  # which the exporter leaves beside each model
_PROOF = 8  # of its samples: the texts are 200, and a few seconds each for a large tower

# What a large image leaves between layers outgrows a CPU's caches: 32 images of a B16-224 together took 618 ms of CPU
# each, 16 took 600, 8 took 584, 4 took 565.
_AT_ONCE = 8
_LARGE_BYTES = 100_000  # of one image; a small model gains more by fewer calls

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

Arrays = dict[str, "np.ndarray[Any, Any]"]
Parameters = dict[str, str]


class Engine(Protocol):
    """What runs a model file: names in order of the file, arrays as the config declares them."""

    inputs: list[str]
    outputs: list[str]

    def __init__(self, path: str, parameters: Parameters, instances: int) -> None:
        """Opens the file; `instances` of these run at once, each in a process of its own."""

    def run(self, names: list[str], feed: Arrays) -> list[Any]:
        """The outputs of those names, in memory of their own."""


class TritonPythonModel:
    """Triton's interface: github.com/triton-inference-server/python_backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Raises TritonModelException; Triton then reports the model as unavailable, with the message."""
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.batched = config["max_batch_size"] > 0
        self.engine = _open(os.path.join(args["model_repository"], args["model_version"]), config)
        _check_names("input", self.inputs, self.engine.inputs)
        _check_names("output", self.outputs, self.engine.outputs)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request. Triton has checked names, dtypes and shapes against the config."""
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            for request in requests
        ]
        if self.batched and len(feeds) > 1:
            try:
                return [_response(arrays) for arrays in self._run_together(feeds)]
            except Exception as error:
                pb_utils.Logger.log_warn(f"a batch of {len(feeds)} requests failed, running each alone: {error}")
        return [self._run_alone(feed) for feed in feeds]

    def _run_together(self, feeds: list[Arrays]) -> list[Arrays]:
        sizes = [len(feed[self.inputs[0]]) for feed in feeds]
        ends = np.cumsum(sizes)[:-1]
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in self.inputs}
        parts = [np.split(array, ends) for array in self._run(batch).values()]
        return [dict(zip(self.outputs, arrays, strict=True)) for arrays in zip(*parts, strict=True)]

    def _run_alone(self, feed: Arrays) -> Any:
        # What a request's values break (a token beyond the table) is that request's error and no other's.
        try:
            return _response(self._run(feed))
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _run(self, feed: Arrays) -> Arrays:
        return dict(zip(self.outputs, self.engine.run(self.outputs, feed), strict=True))


def _response(arrays: Arrays) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in arrays.items()])


class OnnxRuntime:
    """On an NVIDIA GPU where onnxruntime-gpu is installed and finds one, else on the CPU.

    `intra_op_thread_count` is a parameter that the C++ backend reads, too.
    """

    def __init__(self, path: str, parameters: Parameters, instances: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only; an optimizer's remarks are not for the log of a server
        threads = parameters.get("intra_op_thread_count") or os.getenv("PE_ONNXRUNTIME_THREADS")
        options.intra_op_num_threads = int(threads or _cpus())
        # Threads that spin while they wait take the cores from the other tower, Triton and the gateway: 2 cores busy
        # with both towers answered half as much.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = os.getenv("PE_ONNXRUNTIME_PROVIDER", "")
        providers = [_CUDA, _CPU] if _CUDA in onnxruntime.get_available_providers() and wanted != "cpu" else [_CPU]
        if providers[0] == _CUDA:
            onnxruntime.preload_dlls()  # CUDA and cuDNN, where they came as wheels
        self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        # Without a GPU that it can use, onnxruntime goes on with the CPU and no more than a line on stderr.
        runs_by = self.session.get_providers()[0]
        if wanted == "cuda" and runs_by != _CUDA:
            raise RuntimeError(f"it would run by {runs_by}, but PE_ONNXRUNTIME_PROVIDER is cuda")
        self.on_cpu = runs_by == _CPU
        self.inputs = [tensor.name for tensor in self.session.get_inputs()]
        self.outputs = [tensor.name for tensor in self.session.get_outputs()]

    def run(self, names: list[str], feed: Arrays) -> list[Any]:
        batch = next(iter(feed.values()))
        if not (self.on_cpu and len(batch) > _AT_ONCE and batch.nbytes > len(batch) * _LARGE_BYTES):
            results: list[Any] = self.session.run(names, feed)
            return results
        starts = range(0, len(batch), _AT_ONCE)
        parts = [self.session.run(names, {n: a[i : i + _AT_ONCE] for n, a in feed.items()}) for i in starts]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


class OpenVino:
    """The parameters are those of the C++ backend: github.com/triton-inference-server/openvino_backend."""

    def __init__(self, path: str, parameters: Parameters, instances: int) -> None:
        import openvino

        options = {
            "PERFORMANCE_HINT": parameters.get("PERFORMANCE_HINT", "LATENCY"),
            "INFERENCE_PRECISION_HINT": "bf16" if parameters.get("HINT_BF16") == "YES" else "f32",
            # The instances are processes, and each runs one batch at a time: a second stream in it would be idle.
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": int(parameters.get("INFERENCE_NUM_THREADS") or max(1, _cpus() // instances)),
            # Each process would pin its threads to the same first CPUs.
            "ENABLE_CPU_PINNING": False,
        }
        model = openvino.Core().compile_model(path, "CPU", options)
        self.inputs = [tensor.any_name for tensor in model.inputs]
        self.outputs = [tensor.any_name for tensor in model.outputs]
        self.request = model.create_infer_request()

    def run(self, names: list[str], feed: Arrays) -> list[Any]:
        results = self.request.infer(feed, share_outputs=False)  # the next run reuses the request's own memory
        return [results[name] for name in names]


_ENGINES: dict[str, type[Engine]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}


def _open(version: str, config: dict[str, Any]) -> Engine:
    file = config["default_model_filename"]  # which the launcher fills in where a model's configuration names none
    # Resolved, because onnxruntime looks for external weights beside the real file.
    path = os.path.realpath(os.path.join(version, file))
    parameters = {name: parameter["string_value"] for name, parameter in config["parameters"].items()}
    runs_by = parameters.get("run_by") or config["backend"]
    try:
        engine = _ENGINES[runs_by](path, parameters, sum(group["count"] for group in config["instance_group"]))
    except Exception as error:
        raise pb_utils.TritonModelException(
            f"{runs_by} cannot open {path} (is the file whole?): {str(error).strip()}"
        ) from error
    if runs_by != config["backend"]:
        _prove(engine, os.path.join(os.path.dirname(path), _SAMPLES), float(parameters["parity_min_cosine"]), runs_by)
    return engine


def _prove(engine: Engine, samples: str, least_cosine: float, name: str) -> None:
    """Another engine than the model's own gives the exporter's embeddings for the exporter's samples, or is refused."""
    if not os.path.exists(samples):
        raise pb_utils.TritonModelException(f"{name} could not be proved to give the same embeddings: no {samples}")
    with np.load(samples) as kept:
        inputs, expected = kept["inputs"][:_PROOF], kept["expected"][:_PROOF]
    (result,) = engine.run(engine.outputs[:1], {engine.inputs[0]: inputs})
    cosine = float((result * expected).sum(axis=1).min())
    if not cosine >= least_cosine:  # NaN is refused, too
        raise pb_utils.TritonModelException(
            f"{name} gives other embeddings than the exporter: a cosine of {cosine:.5f}, where {least_cosine} is needed"
        )
    pb_utils.Logger.log_info(f"{name} gives the exporter's embeddings of {samples}: minimum cosine {cosine:.7f}")


def _cpus() -> int:
    """Those that this process may use: its affinity, and the quota of its container (cgroup v2)."""
    cpus = len(os.sched_getaffinity(0))
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except OSError:
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))


def _check_names(kind: str, configured: list[str], found: list[str]) -> None:
    if missing := sorted(set(configured) - set(found)):
        raise pb_utils.TritonModelException(f"config.pbtxt names {kind} {missing}, but the model has {found}")
