"""The table of variants. No other module repeats these facts.

The sizes are Meta's (perception_models, core/vision_encoder/config.py). A test checks that they equal open_clip's model
configurations. The export writes the sizes as tensor shapes to `config.pbtxt`, from which the gateway reads them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, get_args

from export.errors import UnknownVariant

# Token lengths, besides a variant's context length, at which its text tower is proved and served. The gateway pads a
# text to the next one. Only texts of equal length share a batch, so more lengths also mean smaller batches.
# deploy/bench/README.md compares a few choices.
_TOKEN_LENGTHS: Final = (8, 16, 24, 32, 48)

Tower = Literal["vision", "text"]
TOWERS: Final[tuple[Tower, ...]] = get_args(Tower)

DEFAULT_VARIANT: Final = "PE-Core-L14-336"


@dataclass(frozen=True)
class Variant:
    """One row of the table: the architecture of a checkpoint, and the source of its weights."""

    name: str
    """Name of the variant in Meta's spelling. The names of the Triton models begin with it."""
    architecture: str
    """Name of the architecture in open_clip."""
    image_size: int
    """Height and width of `image`, in pixels."""
    context_length: int
    """The largest length of `tokens`."""
    embed_dim: int
    """Length D of `embedding`."""
    parameters: Mapping[Tower, int]
    """Number of weights of each tower. A weight has 4 bytes in FP32."""
    max_batch_size: int
    """Default of `--max-batch-size`, the largest batch that Triton forms. The memory of activations limits it."""
    hub_repository: str = ""
    """Repository of the published weights on the hub, from open_clip's own table; empty if there is none."""
    bundled_checkpoint: Path | None = None
    """Checkpoint file in this package; None if the package has none."""
    notice: str = ""
    """A warning for users of the embeddings. `config.pbtxt` passes it on to the gateway's `/info`."""

    @property
    def meta_file(self) -> tuple[str, str]:
        """Repository and file name of Meta's own checkpoint on the hub; empty if there is none.

        By the rule of Meta's loader (perception_models, core/vision_encoder/config.py, `fetch_pe_checkpoint`).
        """
        return (f"facebook/{self.name}", f"{self.name}.pt") if self.hub_repository else ("", "")

    def model_name(self, tower: Tower) -> str:
        """Return the name of the Triton model, and of its directory, for a tower."""
        return f"{self.name}-{tower}"

    @property
    def token_lengths(self) -> tuple[int, ...]:
        """The lengths of `tokens` that are proved and served, ascending. The last one is the context length."""
        return (*(length for length in _TOKEN_LENGTHS if length < self.context_length), self.context_length)

    def input_shapes(self, tower: Tower) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of a tower's input without the batch axis, from the smallest to the largest.

        Returns:
            For images (uint8) the only shape, [H, W, 3]. For tokens (int32) one shape [L] for each length.
        """
        if tower == "vision":
            return ((self.image_size, self.image_size, 3),)
        return tuple((length,) for length in self.token_lengths)


_ROWS: Final = (
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

VARIANTS: Final[Mapping[str, Variant]] = MappingProxyType({row.name: row for row in _ROWS})


def find_variant(name: str) -> Variant:
    """Find a variant by its name, in any letter case.

    Raises:
        UnknownVariant: there is no variant of this name. The message lists the known names and suggests one.
    """
    for known, row in VARIANTS.items():
        if known.casefold() == name.casefold():
            return row
    nearest = _nearest(name)
    suggestion = f"; did you mean {nearest}?" if nearest else ""
    raise UnknownVariant(f"unknown variant {name!r}: choose from {', '.join(VARIANTS)}{suggestion}")


def _nearest(name: str) -> str:
    """Return the known name that is most similar, hyphens apart; empty if none is."""
    plain = {_plain(known): known for known in VARIANTS}
    wanted = _plain(name)
    contained = [known for short, known in plain.items() if len(wanted) >= len("b16") and wanted in short]
    similar = difflib.get_close_matches(wanted, plain, n=1)
    return next(iter([*contained, *(plain[short] for short in similar)]), "")


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
