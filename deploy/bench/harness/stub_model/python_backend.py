"""The two towers of the stub variant, for Triton's Python backend.

Triton's stub process has numpy, but not this project.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One tower. The class name and its methods are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the model configuration."""
        config = json.loads(args["model_config"])
        self.input = config["input"][0]["name"]
        (self.embed_dim,) = map(int, config["output"][0]["dims"])
        self.behaviour = Path(config["parameters"]["behaviour"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer one batch after the time that is set."""
        behaviour = json.loads(self.behaviour.read_text())
        time.sleep(behaviour["seconds"])
        return [self._answer(request, behaviour["answer"]) for request in requests]

    def _answer(self, request: Any, kind: str) -> Any:
        if kind == "error":
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("the stub model was set to fail"))
        items = pb_utils.get_input_tensor_by_name(request, self.input).as_numpy()
        # The embedding is an angle between 0 and 90 degrees that identifies the input: an image by its brightness.
        means = items.reshape(len(items), -1).mean(axis=1)
        angles = means / 255 * np.pi / 2 if self.input == "image" else means % 1 * np.pi / 2
        embeddings: np.ndarray[Any, Any] = np.zeros((len(items), self.embed_dim), np.float32)
        embeddings[:, 0], embeddings[:, 1] = np.cos(angles), np.sin(angles)
        if kind == "nan":
            embeddings[:, 3] = np.nan
        elif kind == "short":
            embeddings *= 0.5
        elif kind == "shape":
            embeddings = embeddings[:, :5]
        return pb_utils.InferenceResponse([pb_utils.Tensor("embedding", np.ascontiguousarray(embeddings))])
