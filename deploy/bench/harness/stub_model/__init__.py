"""A stub variant: the two models of the contract, which take a fixed time per batch and can answer wrongly on demand.

The cost of a request is known beforehand, and on a machine of two cores there is CPU left for the clients.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from export.repository.config_pbtxt import DataType, ModelConfig, to_text

VARIANT: Final = "Stub"
BATCH: Final = 8
SECONDS: Final = 0.08  # per batch of any size, so 100 items per second at most
_MODEL: Final = Path(__file__).with_name("python_backend.py")


@dataclass(frozen=True)
class StubModel:
    """A model repository of the stub variant, and the file that controls it."""

    repository: Path
    behaviour: Path

    def behave(self, seconds: float = SECONDS, answer: str = "right") -> None:
        """Set the time per batch and the kind of answer, from the next batch on.

        Args:
            seconds: per batch.
            answer: right, nan, shape, short, or error.
        """
        new = self.behaviour.with_suffix(".new")
        new.write_text(json.dumps({"seconds": seconds, "answer": answer}))
        new.replace(self.behaviour)


def write(directory: Path, image_size: int = 32, context_length: int = 16, embed_dim: int = 8) -> StubModel:
    """Write the model repository below `directory`. It holds absolute paths, so only this machine can serve it."""
    stub = StubModel(directory / "models", directory / "behaviour.json")
    stub.repository.mkdir(parents=True)
    stub.behave()
    inputs = {
        "vision": ("image", "TYPE_UINT8", (image_size, image_size, 3)),
        "text": ("tokens", "TYPE_INT32", (context_length,)),
    }
    for tower, (name, dtype, dims) in inputs.items():
        model = stub.repository / f"{VARIANT}-{tower}"
        (model / "1").mkdir(parents=True)
        (model / "1/model.py").write_bytes(_MODEL.read_bytes())
        config = ModelConfig(name=model.name, backend="python", max_batch_size=BATCH)
        config.input.add(name=name, data_type=DataType.Value(dtype), dims=dims)
        config.output.add(name="embedding", data_type=DataType.TYPE_FP32, dims=(embed_dim,))
        config.instance_group.add(count=1)
        config.dynamic_batching.SetInParent()
        config.parameters["behaviour"].string_value = str(stub.behaviour)
        (model / "config.pbtxt").write_text(to_text(config), encoding="utf-8")
    return stub
