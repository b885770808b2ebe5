"""What is fixed about each variant, in one table: nothing here is written a second time.

The sizes are Meta's (perception_models, core/vision_encoder/config.py) and equal open_clip's model configurations,
which a test checks. They travel on as tensor shapes in `config.pbtxt`, where the gateway reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from export.errors import UnknownVariant

Tower = Literal["vision", "text"]
TOWERS: tuple[Tower, ...] = get_args(Tower)

DEFAULT_VARIANT = "PE-Core-L14-336"


@dataclass(frozen=True)
class Variant:
    """One row: a checkpoint's architecture and where its weights come from."""

    name: str
    """Meta's spelling, which names the Triton models."""
    architecture: str
    """open_clip's name of the same architecture."""
    image_size: int
    """Height and width of `image`, in pixels."""
    context_length: int
    """Length of `tokens`."""
    embed_dim: int
    """Length of `embedding`."""
    max_batch_size: int
    """Largest batch Triton forms, unless `--max-batch-size` says otherwise: bounded by activations, not by weights."""
    bundled_checkpoint: Path | None = None
    """Weights that this package carries itself."""
    notice: str = ""
    """What a user must know before trusting the embeddings; `config.pbtxt` carries it to the gateway's `/info`."""

    def model_name(self, tower: Tower) -> str:
        """The Triton model, and so the directory, that serves a tower."""
        return f"{self.name}-{tower}"

    def input_shape(self, tower: Tower) -> tuple[int, ...]:
        """The tower's input without the batch axis: [H, W, 3] uint8, or [L] int32."""
        return (self.image_size, self.image_size, 3) if tower == "vision" else (self.context_length,)


_ROWS = (
    Variant("PE-Core-T16-384", "PE-Core-T-16-384", 384, 32, 512, max_batch_size=64),
    Variant("PE-Core-S16-384", "PE-Core-S-16-384", 384, 32, 512, max_batch_size=64),
    Variant("PE-Core-B16-224", "PE-Core-B-16", 224, 32, 1024, max_batch_size=64),
    Variant("PE-Core-L14-336", "PE-Core-L-14-336", 336, 32, 1024, max_batch_size=32),
    Variant("PE-Core-G14-448", "PE-Core-bigG-14-448", 448, 72, 1280, max_batch_size=16),
    Variant(
        "PE-Demo-T8-64",
        "PE-Demo-T8-64",
        64,
        32,
        64,
        max_batch_size=64,
        bundled_checkpoint=Path(__file__).parent / "demo" / "PE-Demo-T8-64.safetensors",
        notice="A demonstration model trained on drawn shapes; it is not Meta's and knows nothing of real pictures.",
    ),
)

VARIANTS: Mapping[str, Variant] = MappingProxyType({row.name: row for row in _ROWS})


def find_variant(name: str) -> Variant:
    """The row of that name, in any letter case, or UnknownVariant that lists what there is."""
    by_folded_name = {known.casefold(): row for known, row in VARIANTS.items()}
    try:
        return by_folded_name[name.casefold()]
    except KeyError:
        raise UnknownVariant(f"unknown variant {name!r}; there are {', '.join(VARIANTS)}") from None
