"""`parity.json`, the certificate of an artifact: its inputs, the code that made it, and its parity with torch.

The file is in the version directory, beside the artifact. It holds two identities:

    EmbeddingSpace   Variant and weights. Embeddings of equal spaces can be compared with each other.
    Inputs           Everything that decides the artifact's contents. With equal inputs no new export is needed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, Final, get_args

from export.engines import ENGINES
from export.errors import RepositoryError
from export.files import sha256_of
from export.graph.spec import GraphForm, Precision
from export.parity import Parity
from export.source_digest import digest_of_modules
from export.variants import TOWERS

FILE_NAME: Final = "parity.json"
_DISTRIBUTION: Final = "perception-encoder-server"
# The code that makes an ONNX graph from a checkpoint. An engine adds its own modules (`Engine.sources`).
_GRAPH_CODE: Final = ("export.graph", "export.weights.checkpoint")
# The libraries that decide how torch traces a tower and what the graph contains.
_GRAPH_LIBRARIES: Final = ("torch", "timm", "open_clip_torch", "onnx", "onnx_ir", "onnxscript")
_OTHER_LIBRARIES: Final = ("onnxruntime", "numpy")


@dataclass(frozen=True)
class EmbeddingSpace:
    """The identity of the embeddings: the network and its weights. Precision and engine do not change it."""

    variant: str
    checkpoint_sha256: str


@dataclass(frozen=True)
class Inputs:
    """Everything that decides an artifact's contents."""

    space: EmbeddingSpace
    tower: str
    engine: str
    precision: Precision
    form: GraphForm
    opset: int
    architecture_sha256: str
    """SHA-256 of open_clip's configuration of the variant."""
    code_sha256: str
    """SHA-256 of the syntax trees of the code that makes the artifact. Comments and docstrings do not count."""
    libraries: Mapping[str, str]
    """Versions of the libraries that shape the graph."""
    token_lengths: tuple[int, ...] = ()
    """The lengths of `tokens` that the parity covers, ascending. The last is the context length. Empty for images."""
    target: str = ""
    """The result of `Engine.target`: for a plan, the TensorRT version, GPU and largest batch; else empty."""

    def differences(self, other: "Inputs") -> list[str]:
        """List the fields that differ from `other`, in the words of the command line's output."""
        names = [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]
        return [_IN_WORDS.get(name, name) for name in names]


_IN_WORDS: Final = {
    "space": "weights",
    "architecture_sha256": "architecture",
    "code_sha256": "exporter's code",
    "libraries": "library versions",
    "token_lengths": "token lengths",
}


@dataclass(frozen=True)
class Measured:
    """Time and memory of an export."""

    seconds: Mapping[str, float]
    """Wall-clock time of each step, in seconds."""
    peak_memory_bytes: Mapping[str, int]
    """The process's largest resident memory during each step, in bytes, including imported libraries."""
    imports_memory_bytes: int
    """The process's resident memory before any weights were loaded, in bytes."""


@dataclass(frozen=True)
class Certificate:
    """The provenance of one artifact and its parity with torch."""

    inputs: Inputs
    checkpoint_source: str
    """Origin of the weights: a file name, or `repository@commit/file` on the hub."""
    logit_scale: float
    """The factor of similarities in logits, already the exponential of the stored value."""
    notice: str
    """A warning for users of the embeddings; empty if there is none."""
    parity: Parity | None
    """None if the artifact was published with `--unverified`, because no runtime on the machine could run it."""
    min_cosine_required: float
    """The smallest cosine to torch's embeddings that the export accepted."""
    runtime: str
    """The library, version and device that ran the artifact for `parity`; empty if there was none."""
    command: str
    """The command line of the export."""
    files: Mapping[str, str]
    """SHA-256 of each file in the version directory, by file name. The first file is the artifact."""
    versions: Mapping[str, str]
    """Versions of the libraries that made or ran the artifact, and of this package, `perception-encoder-server`."""
    measured: Measured

    def write(self, directory: Path) -> None:
        """Write the certificate into the version directory."""
        (directory / FILE_NAME).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Certificate":
        """Read the certificate of a version directory.

        Raises:
            RepositoryError: the file is missing, unreadable or damaged, or another version of pe-export wrote it.
        """
        path = directory / FILE_NAME
        try:
            values: dict[str, Any] = json.loads(path.read_text("utf-8"))
            inputs = values["inputs"]
            inputs |= {"space": EmbeddingSpace(**inputs["space"]), "token_lengths": tuple(inputs["token_lengths"])}
            values["inputs"] = Inputs(**inputs)
            values["parity"] = Parity(**values["parity"]) if values["parity"] else None
            values["measured"] = Measured(**values["measured"])
            certificate = cls(**values)
            certificate._require_values()
        except FileNotFoundError:
            raise RepositoryError(f"{directory} has no {FILE_NAME}") from None
        except OSError as error:
            raise RepositoryError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RepositoryError(
                f"{path} was not written by this version of pe-export: export the model again"
            ) from error
        if certificate.inputs.engine not in ENGINES:
            raise RepositoryError(f"{path} is for {certificate.inputs.engine!r}, which this version does not know")
        return certificate

    def _require_values(self) -> None:
        """Refuse values that no export writes.

        Raises:
            Exception: a value is of another type, or outside its range.
        """
        inputs = self.inputs
        known = inputs.tower in TOWERS and inputs.precision in get_args(Precision) and self.files.keys()
        if not (known and all(isinstance(each, str) for each in (*self.files.values(), *self.parameters().values()))):
            raise ValueError("a value that no export writes")

    @property
    def artifact(self) -> str:
        """The name of the file that Triton loads."""
        return next(iter(self.files))

    def damaged_files(self, directory: Path) -> list[str]:
        """List the names of `files` that are missing or changed."""
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
        if lengths := self.inputs.token_lengths:
            known |= {"context_length": str(lengths[-1]), "token_lengths": " ".join(map(str, lengths))}
        return {**known, "notice": self.notice} if self.notice else known


def code_digest(engine: str) -> str:
    """Hash the code that makes an engine's artifacts, without importing torch or that code.

    Returns:
        A SHA-256 in hexadecimal digits.
    """
    return digest_of_modules((*_GRAPH_CODE, *ENGINES[engine].sources))


def graph_library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that decide a graph's contents, by distribution name."""
    return {name: _version(name) for name in _GRAPH_LIBRARIES}


def all_versions() -> dict[str, str]:
    """Return the installed versions of this package and of the libraries of an export, by distribution name."""
    versions = {name: _version(name) for name in (*_GRAPH_LIBRARIES, *_OTHER_LIBRARIES)}
    return {_DISTRIBUTION: _own_version(), **versions}


def _version(name: str) -> str:
    # "2.14.1+cpu" is built from the same source as "2.14.1" and exports the same graph.
    return metadata.version(name).partition("+")[0]


def _own_version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:  # The package runs from a source tree and is not installed.
        return "unknown"
