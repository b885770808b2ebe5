"""Triton's `onnxruntime` backend, on the CPU, as a Python-based backend: one file for every model that names it.

A stock Triton container serves the same model repository with its C++ backend of that name. This one covers what our
models need: `model.onnx` in the version directory, with weights beside it, and a batch axis filled by the batcher.

It runs inside Triton's Python stub, one process a model instance, so it can import numpy and onnxruntime but nothing
of this project. https://github.com/triton-inference-server/python_backend documents the calls.
"""

import json
import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

Arrays = dict[str, "np.ndarray[Any, Any]"]


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        """Raises TritonModelException; Triton then reports the model as unavailable, with the message."""
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.batched = config["max_batch_size"] > 0
        # Resolved, because onnxruntime looks for external weights beside the real file.
        path = os.path.realpath(os.path.join(args["model_repository"], args["model_version"], "model.onnx"))
        self.session = _open(path, config["parameters"])
        _check_names("input", self.inputs, [tensor.name for tensor in self.session.get_inputs()])
        _check_names("output", self.outputs, [tensor.name for tensor in self.session.get_outputs()])

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
        return dict(zip(self.outputs, self.session.run(self.outputs, feed), strict=True))


def _response(arrays: Arrays) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in arrays.items()])


def _open(path: str, parameters: dict[str, dict[str, str]]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; an optimizer's remarks are not for the log of a server
    options.intra_op_num_threads = _threads(parameters)
    # Threads that spin while they wait take the cores from the other tower, Triton and the gateway: 2 cores busy with
    # both towers answered half as much.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise pb_utils.TritonModelException(f"onnxruntime cannot open {path} (is the file whole?): {error}") from error


def _threads(parameters: dict[str, dict[str, str]]) -> int:
    """The config's `intra_op_thread_count`, which the C++ backend reads too, else PE_ONNXRUNTIME_THREADS, else the CPUs
    that this process may use: its affinity, and the quota of its container (cgroup v2)."""
    configured = parameters.get("intra_op_thread_count", {}).get("string_value") or os.getenv("PE_ONNXRUNTIME_THREADS")
    if configured:
        return int(configured)
    cpus = len(os.sched_getaffinity(0))
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except OSError:
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))


def _check_names(kind: str, configured: list[str], found: list[str]) -> None:
    if missing := sorted(set(configured) - set(found)):
        raise pb_utils.TritonModelException(f"config.pbtxt names {kind} {missing}, but model.onnx has {found}")
