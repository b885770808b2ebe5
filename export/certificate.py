"""`parity.json`: what an artifact was made from, by what, and how well it agrees with torch. It lies beside the
artifact.

`inputs` is everything that decides the artifact's contents: equal inputs mean that there is nothing to export anew.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from export.checkpoint import sha256_of
from export.errors import RepositoryError
from export.parity import Parity

FILE_NAME = "parity.json"
_DISTRIBUTION = "perception-encoder-server"


@dataclass(frozen=True)
class Inputs:
    """What decides an artifact's contents."""

    variant: str
    tower: str
    engine: str
    precision: str
    opset: int
    checkpoint_sha256: str
    exporter_version: str


@dataclass(frozen=True)
class Certificate:
    """One artifact's provenance and proof."""

    inputs: Inputs
    checkpoint_source: str
    logit_scale: float
    parity: Parity
    min_cosine_required: float
    runtime: str
    command: str
    files: Mapping[str, str]
    """File name in the version directory -> sha256."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """Put the certificate beside the files that it names."""
        (directory / FILE_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "Certificate":
        """The certificate of a version directory; RepositoryError if there is none, or it is not ours."""
        path = directory / FILE_NAME
        try:
            fields: dict[str, Any] = json.loads(path.read_text())
            return cls(**{**fields, "inputs": Inputs(**fields["inputs"]), "parity": Parity(**fields["parity"])})
        except FileNotFoundError:
            raise RepositoryError(f"{directory} has no {FILE_NAME}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise RepositoryError(f"{path} is not a certificate that this version wrote: {error}") from error

    def matches_files(self, directory: Path) -> bool:
        """Whether every file that the certificate names lies there, unchanged."""
        return all(
            (directory / name).is_file() and sha256_of(directory / name) == digest
            for name, digest in self.files.items()
        )

    def parameters(self, notice: str) -> dict[str, str]:
        """What `config.pbtxt` carries of it to the gateway's `/info`."""
        known = {
            "variant": self.inputs.variant,
            "tower": self.inputs.tower,
            "checkpoint_source": self.checkpoint_source,
            "checkpoint_sha256": self.inputs.checkpoint_sha256,
            "precision": self.inputs.precision,
            "engine": self.inputs.engine,
            "logit_scale": f"{self.logit_scale:.6g}",
            "parity_min_cosine": f"{self.parity.min_cosine:.9f}",
            "parity_max_abs_error": f"{self.parity.max_abs_error:.2e}",
            "exporter_version": self.inputs.exporter_version,
        }
        return {**known, "notice": notice} if notice else known


def exporter_version() -> str:
    """This package's version, or "unknown" when it runs without being installed."""
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def library_versions() -> dict[str, str]:
    """The libraries that shape an artifact, as installed."""
    return {
        name: metadata.version(name)
        for name in ("torch", "timm", "open_clip_torch", "onnx", "onnxscript", "onnxruntime")
    }
