"""A stub variant: the two models of the contract, which take a fixed time per batch and can answer wrongly on demand.

The cost of a request is known beforehand, and on a machine of two cores there is CPU left for the clients.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIANT: Final = "Stub"
BATCH: Final = 8
SECONDS: Final = 0.08  # per batch of any size, so 100 items per second at most
_MODEL: Final = Path(__file__).with_name("python_backend.py")
_CONFIG: Final = """name: "{name}"
backend: "python"
max_batch_size: {batch}
input [ {{ name: "{input}" data_type: {type} dims: [ {dims} ] }} ]
output [ {{ name: "embedding" data_type: TYPE_FP32 dims: [ {embed_dim} ] }} ]
instance_group [ {{ count: 1 }} ]
dynamic_batching {{ }}
parameters {{ key: "behaviour" value {{ string_value: "{behaviour}" }} }}
"""


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
    pixels = f"{image_size}, {image_size}, 3"
    for tower, name, kind, dims in (("vision", "image", "UINT8", pixels), ("text", "tokens", "INT32", context_length)):
        model = stub.repository / f"{VARIANT}-{tower}"
        (model / "1").mkdir(parents=True)
        (model / "1/model.py").write_bytes(_MODEL.read_bytes())
        (model / "config.pbtxt").write_text(
            _CONFIG.format(
                name=model.name,
                batch=BATCH,
                input=name,
                type=f"TYPE_{kind}",
                dims=dims,
                embed_dim=embed_dim,
                behaviour=stub.behaviour,
            )
        )
    return stub
