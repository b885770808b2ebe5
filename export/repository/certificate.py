"""`parity.json`: what an artifact was made from, by what code, and how well it agrees with torch.

The file lies beside the artifact. Two identities are kept apart:

    EmbeddingSpace   variant and weights: embeddings of equal spaces can be compared with each other
    Inputs           all that decides the artifact's contents: with equal inputs there is nothing to export again
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from export.engines import ENGINES
from export.errors import RepositoryError
from export.files import sha256_of
from export.graph.spec import GraphForm, Precision
from export.parity import Parity
from export.source_digest import digest_of_modules

FILE_NAME: Final = "parity.json"
_DISTRIBUTION: Final = "perception-encoder-server"
# The code between a weights file and an ONNX graph. An engine adds its own (`Engine.sources`).
_GRAPH_CODE: Final = ("export.graph", "export.weights.checkpoint")
# What decides how torch traces a tower and what the graph looks like afterwards.
_GRAPH_LIBRARIES: Final = ("torch", "timm", "open_clip_torch", "onnx", "onnx_ir", "onnxscript")
_OTHER_LIBRARIES: Final = ("onnxruntime", "numpy")


@dataclass(frozen=True)
class EmbeddingSpace:
    """The identity of the vectors: which network, with which weights. Precision and engine do not change it."""

    variant: str
    checkpoint_sha256: str


@dataclass(frozen=True)
class Inputs:
    """What decides an artifact's contents."""

    space: EmbeddingSpace
    tower: str
    engine: str
    precision: Precision
    form: GraphForm
    opset: int
    architecture_sha256: str
    """Digest of open_clip's configuration of the variant."""
    code_sha256: str
    """Digest of the syntax trees of the code that makes the artifact; rewording a comment does not change it."""
    libraries: Mapping[str, str]
    """Versions of the libraries that shape the graph."""
    target: str = ""
    """What else the artifact is tied to: a plan's TensorRT, GPU and largest batch."""

    def differences(self, other: "Inputs") -> list[str]:
        """Name what differs from `other`, for a person."""
        names = [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]
        return [_IN_WORDS.get(name, name) for name in names]


_IN_WORDS: Final = {
    "space": "weights",
    "architecture_sha256": "architecture",
    "code_sha256": "exporter's code",
    "libraries": "library versions",
}


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
    """The provenance and the proof of one artifact."""

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
    """Every library that had a part in the artifact or its proof, and this package as `perception-encoder-server`."""
    measured: Measured

    def write(self, directory: Path) -> None:
        """Write the certificate beside the files that it names."""
        (directory / FILE_NAME).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Certificate":
        """Read the certificate of a version directory.

        Raises:
            RepositoryError: there is none, it is damaged, or another version of pe-export wrote it.
        """
        path = directory / FILE_NAME
        try:
            values: dict[str, Any] = json.loads(path.read_text("utf-8"))
            inputs = values["inputs"]
            values["inputs"] = Inputs(**{**inputs, "space": EmbeddingSpace(**inputs["space"])})
            values["parity"] = Parity(**values["parity"]) if values["parity"] else None
            values["measured"] = Measured(**values["measured"])
            certificate = cls(**values)
        except FileNotFoundError:
            raise RepositoryError(f"{directory} has no {FILE_NAME}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise RepositoryError(
                f"{path} was not written by this version of pe-export: export the model again"
            ) from error
        if certificate.inputs.engine not in ENGINES:
            raise RepositoryError(f"{path} is for {certificate.inputs.engine!r}, which this version does not know")
        return certificate

    @property
    def artifact(self) -> str:
        """The name of the file that Triton loads, which is the first of `files`."""
        return next(iter(self.files))

    def damaged_files(self, directory: Path) -> list[str]:
        """List the files that the certificate names and that are missing or changed."""
        return [
            name
            for name, digest in self.files.items()
            if not (directory / name).is_file() or sha256_of(directory / name) != digest
        ]

    def parameters(self) -> dict[str, str]:
        """Return the `parameters` of `config.pbtxt`, which the gateway shows at `/info`."""
        known = {
            "variant": self.inputs.space.variant,
            "tower": self.inputs.tower,
            "checkpoint_source": self.checkpoint_source,
            "checkpoint_sha256": self.inputs.space.checkpoint_sha256,
            "precision": self.inputs.precision,
            "engine": self.inputs.engine,
            "logit_scale": f"{self.logit_scale:.6g}",
            "parity_min_cosine": f"{self.parity.min_cosine:.9f}" if self.parity else "unverified",
            "parity_max_abs_error": f"{self.parity.max_abs_error:.2e}" if self.parity else "unverified",
            "exporter_version": self.versions[_DISTRIBUTION],
        }
        return {**known, "notice": self.notice} if self.notice else known


def code_digest(engine: str) -> str:
    """Hash the code that makes an engine's artifacts. Imports neither torch nor the code."""
    return digest_of_modules((*_GRAPH_CODE, *ENGINES[engine].sources))


def graph_library_versions() -> dict[str, str]:
    """List the installed versions of the libraries that shape a graph."""
    return {name: _version(name) for name in _GRAPH_LIBRARIES}


def all_versions() -> dict[str, str]:
    """List the installed versions of this package and of every library that has a part in an export."""
    versions = {name: _version(name) for name in (*_GRAPH_LIBRARIES, *_OTHER_LIBRARIES)}
    return {_DISTRIBUTION: _own_version(), **versions}


def _version(name: str) -> str:
    # "2.14.1+cpu" is the same source as "2.14.1", and exports the same graph.
    return metadata.version(name).partition("+")[0]


def _own_version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
