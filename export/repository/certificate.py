"""`parity.json`: what an artifact was made from, by what, and how well it agrees with torch. It lies beside the
artifact.

`inputs` is everything that decides the artifact's contents: equal inputs mean that there is nothing to export anew.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from export.engines.table import ENGINES, Precision
from export.errors import RepositoryError
from export.files import sha256_of
from export.parity import Parity

FILE_NAME = "parity.json"
_DISTRIBUTION = "perception-encoder-server"
_LIBRARIES = ("torch", "timm", "open_clip_torch", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Inputs:
    """What decides an artifact's contents."""

    variant: str
    tower: str
    engine: str
    precision: Precision
    opset: int
    checkpoint_sha256: str
    exporter_version: str
    target: str = ""
    """What else it is tied to: a plan's TensorRT, GPU and largest batch."""


@dataclass(frozen=True)
class Measured:
    """What the export cost on the machine that ran it."""

    seconds: Mapping[str, float]
    """Wall-clock time of each step."""
    peak_memory_bytes: Mapping[str, int]
    """The process's largest resident set during each step, imports included."""
    imports_memory_bytes: int
    """Its resident set before any weights were loaded."""


@dataclass(frozen=True)
class Certificate:
    """One artifact's provenance and proof."""

    inputs: Inputs
    checkpoint_source: str
    logit_scale: float
    notice: str
    parity: Parity | None
    """None if nothing here could run the artifact, and it was published with `--unverified`."""
    min_cosine_required: float
    runtime: str
    """What ran the artifact for `parity`."""
    command: str
    files: Mapping[str, str]
    """File name in the version directory -> sha256."""
    versions: Mapping[str, str]
    measured: Measured

    def write(self, directory: Path) -> None:
        """Put the certificate beside the files that it names."""
        (directory / FILE_NAME).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Certificate":
        """The certificate of a version directory; RepositoryError if there is none, or it is not ours."""
        path = directory / FILE_NAME
        try:
            fields: dict[str, Any] = json.loads(path.read_text("utf-8"))
            fields["inputs"] = Inputs(**fields["inputs"])
            fields["parity"] = Parity(**fields["parity"]) if fields["parity"] else None
            fields["measured"] = Measured(**fields["measured"])
            certificate = cls(**fields)
        except FileNotFoundError:
            raise RepositoryError(f"{directory} has no {FILE_NAME}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise RepositoryError(f"{path} is not a certificate that this version wrote: {error}") from error
        if certificate.inputs.engine not in ENGINES:
            raise RepositoryError(f"{path} is for {certificate.inputs.engine!r}, which this version does not know")
        return certificate

    @property
    def artifact(self) -> str:
        """The file that the engine loads, first of `files`."""
        return next(iter(self.files))

    def damaged_files(self, directory: Path) -> list[str]:
        """Which of the files that the certificate names are gone or changed."""
        return [
            name
            for name, digest in self.files.items()
            if not (directory / name).is_file() or sha256_of(directory / name) != digest
        ]

    def parameters(self) -> dict[str, str]:
        """What `config.pbtxt` carries of it to the gateway's `/info`."""
        known = {
            "variant": self.inputs.variant,
            "tower": self.inputs.tower,
            "checkpoint_source": self.checkpoint_source,
            "checkpoint_sha256": self.inputs.checkpoint_sha256,
            "precision": self.inputs.precision,
            "engine": self.inputs.engine,
            "logit_scale": f"{self.logit_scale:.6g}",
            "parity_min_cosine": f"{self.parity.min_cosine:.9f}" if self.parity else "unverified",
            "parity_max_abs_error": f"{self.parity.max_abs_error:.2e}" if self.parity else "unverified",
            "exporter_version": self.inputs.exporter_version,
        }
        return {**known, "notice": self.notice} if self.notice else known


def exporter_version() -> str:
    """This package's version, or "unknown" when it runs without being installed."""
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def library_versions() -> dict[str, str]:
    """The libraries that shape an artifact, as installed."""
    return {name: metadata.version(name) for name in _LIBRARIES}
