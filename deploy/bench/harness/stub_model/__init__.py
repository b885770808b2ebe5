"""A variant that stands in for a real one: the contract's two models, which take a fixed time and do as they are told.

What a request costs is then known beforehand, and on a machine of two cores there is room left for those who ask.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIANT: Final = "Hold"
BATCH: Final = 8
SECONDS: Final = 0.08  # a batch, of whatever size: 100 items a second at most
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
class StandIn:
    repository: Path
    behaviour: Path

    def behave(self, seconds: float = SECONDS, answer: str = "right") -> None:
        """From the next batch on. ``answer``: right, nan, shape, short, or error."""
        new = self.behaviour.with_suffix(".new")
        new.write_text(json.dumps({"seconds": seconds, "answer": answer}))
        new.replace(self.behaviour)


def lay(directory: Path, image_size: int = 32, context_length: int = 16, embed_dim: int = 8) -> StandIn:
    """A model repository below ``directory``, which only its own machine can serve."""
    made = StandIn(directory / "models", directory / "behaviour.json")
    made.repository.mkdir(parents=True)
    made.behave()
    pixels = f"{image_size}, {image_size}, 3"
    for tower, name, kind, dims in (("vision", "image", "UINT8", pixels), ("text", "tokens", "INT32", context_length)):
        model = made.repository / f"{VARIANT}-{tower}"
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
                behaviour=made.behaviour,
            )
        )
    return made
