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
    parameters: Mapping[Tower, int]
    """How many weights each tower has; 4 bytes each in FP32."""
    max_batch_size: int
    """Largest batch Triton forms, unless `--max-batch-size` says otherwise: bounded by activations, not by weights."""
    hub_repository: str = ""
    """Where the published weights lie on the hub, in open_clip's layout, as open_clip's own table has it."""
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
    Variant(
        name="PE-Core-T16-384",
        architecture="PE-Core-T-16-384",
        hub_repository="timm/PE-Core-T-16-384",
        image_size=384,
        context_length=32,
        embed_dim=512,
        parameters={"vision": 6_141_056, "text": 63_405_056},
        max_batch_size=64,
    ),
    Variant(
        name="PE-Core-S16-384",
        architecture="PE-Core-S-16-384",
        hub_repository="timm/PE-Core-S-16-384",
        image_size=384,
        context_length=32,
        embed_dim=512,
        parameters={"vision": 23_783_168, "text": 63_405_056},
        max_batch_size=64,
    ),
    Variant(
        name="PE-Core-B16-224",
        architecture="PE-Core-B-16",
        hub_repository="timm/PE-Core-B-16",
        image_size=224,
        context_length=32,
        embed_dim=1024,
        parameters={"vision": 93_673_984, "text": 353_986_560},
        max_batch_size=64,
    ),
    Variant(
        name="PE-Core-L14-336",
        architecture="PE-Core-L-14-336",
        hub_repository="timm/PE-Core-L-14-336",
        image_size=336,
        context_length=32,
        embed_dim=1024,
        parameters={"vision": 317_152_256, "text": 353_986_560},
        max_batch_size=32,
    ),
    Variant(
        name="PE-Core-G14-448",
        architecture="PE-Core-bigG-14-448",
        hub_repository="timm/PE-Core-bigG-14-448",
        image_size=448,
        context_length=72,
        embed_dim=1280,
        parameters={"vision": 1_882_033_920, "text": 537_233_920},
        max_batch_size=16,
    ),
    Variant(
        name="PE-Demo-T8-64",
        architecture="PE-Demo-T8-64",
        image_size=64,
        context_length=32,
        embed_dim=64,
        parameters={"vision": 270_784, "text": 2_461_104},
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
