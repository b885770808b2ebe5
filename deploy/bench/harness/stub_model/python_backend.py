"""The stand-in's two towers, for Triton's own Python backend. Runs in its stub: numpy, and nothing of this project."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.input = config["input"][0]["name"]
        (self.embed_dim,) = map(int, config["output"][0]["dims"])
        self.behaviour = Path(config["parameters"]["behaviour"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        told = json.loads(self.behaviour.read_text())
        time.sleep(told["seconds"])
        return [self._answer(request, told["answer"]) for request in requests]

    def _answer(self, request: Any, how: str) -> Any:
        if how == "error":
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("as it was told to"))
        items = pb_utils.get_input_tensor_by_name(request, self.input).as_numpy()
        # An angle between 0 and 90 degrees that tells what was asked for: an image by its brightness.
        means = items.reshape(len(items), -1).mean(axis=1)
        angles = means / 255 * np.pi / 2 if self.input == "image" else means % 1 * np.pi / 2
        embeddings: np.ndarray[Any, Any] = np.zeros((len(items), self.embed_dim), np.float32)
        embeddings[:, 0], embeddings[:, 1] = np.cos(angles), np.sin(angles)
        if how == "nan":
            embeddings[:, 3] = np.nan
        elif how == "short":
            embeddings *= 0.5
        elif how == "shape":
            embeddings = embeddings[:, :5]
        return pb_utils.InferenceResponse([pb_utils.Tensor("embedding", np.ascontiguousarray(embeddings))])
