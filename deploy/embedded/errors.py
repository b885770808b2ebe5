"""Every error that keeps `pe-serve` from serving, as one closed tree. `wording.py` has their messages.

LaunchError
├── InstallationError          the Triton environment cannot be used
│   ├── InstallationMissing      it does not exist
│   ├── InstallationBroken       it lacks a required file
│   ├── EngineMissing            it lacks the engine that a model needs
│   └── LibpythonMissing         no shared libpython fits its Python
├── RunDirectoryUnusable       no directory for the files of this run
├── AddressError               the gateway or Triton cannot listen where it should
│   ├── PortTaken
│   ├── AddressUnusable
│   └── SocketDirectoryImpossible
├── RepositoryError            the model repository cannot be served; Triton was not started
│   ├── RepositoryMissing
│   ├── RepositoryEmpty
│   ├── RepositoryIsModel
│   ├── ModelIncomplete
│   ├── ConfigInvalid
│   ├── VariantIncomplete
│   └── EngineUnsupported
└── ProcessError               a child process failed
    ├── ModelsNotLoaded          Triton runs, but could not load models
    ├── ProcessDied
    ├── DiedTooOften             restarts did not help
    └── ProcessNotReady
"""

from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.engines import Engine


class LaunchError(Exception):
    """The root of the tree; only subclasses are raised."""


class InstallationError(LaunchError):
    """A branch of the tree; only subclasses are raised."""


@dataclass(eq=False)
class InstallationMissing(InstallationError):
    """None of the candidate directories holds a Triton environment."""

    candidates: tuple[Path, ...]
    requirements: Path


@dataclass(eq=False)
class InstallationBroken(InstallationError):
    """The Triton environment exists, but lacks a required file."""

    environment: Path
    missing: str


@dataclass(eq=False)
class EngineMissing(InstallationError):
    """A model needs an optional engine that is not installed."""

    environment: Path
    model: str
    engine: Engine


@dataclass(eq=False)
class LibpythonMissing(InstallationError):
    """The environment's Python has no shared library for Triton's Python stub to load."""

    python: Path
    library: str


@dataclass(eq=False)
class RunDirectoryUnusable(LaunchError):
    """The files of this run could not be written; `reasons` maps each directory that was tried to the reason."""

    reasons: dict[Path, str]


class AddressError(LaunchError):
    """A branch of the tree; only subclasses are raised."""


@dataclass(eq=False)
class PortTaken(AddressError):
    """Another program listens on the port, which `option` of the command line names."""

    host: str
    port: int
    option: str = "--port"


@dataclass(eq=False)
class AddressUnusable(AddressError):
    """The operating system refuses to listen on the address."""

    host: str
    port: int
    reason: str


@dataclass(eq=False)
class SocketDirectoryImpossible(AddressError):
    """No directory can hold Triton's socket; `reasons` says why for each that was tried."""

    reasons: dict[Path, str]


class RepositoryError(LaunchError):
    """A branch of the tree; only subclasses are raised."""


@dataclass(eq=False)
class RepositoryMissing(RepositoryError):
    """The model repository is not a directory."""

    repository: Path


@dataclass(eq=False)
class RepositoryEmpty(RepositoryError):
    """The model repository holds no model. `inside` are repositories within it."""

    repository: Path
    inside: tuple[Path, ...] = ()


@dataclass(eq=False)
class RepositoryIsModel(RepositoryError):
    """The directory is one model, or one version of a model, of the repository `parent`."""

    repository: Path
    parent: Path


@dataclass(eq=False)
class ModelIncomplete(RepositoryError):
    """A model directory lacks a file or a version, for example after an interrupted copy."""

    model: Path
    lacks: str


@dataclass(eq=False)
class ConfigInvalid(RepositoryError):
    """A model's `config.pbtxt` cannot be parsed; `reason` names the line and the column."""

    model: Path
    reason: str


@dataclass(eq=False)
class VariantIncomplete(RepositoryError):
    """The repository holds models, but no variant with both towers."""

    repository: Path
    missing: str


@dataclass(eq=False)
class EngineUnsupported(RepositoryError):
    """A model needs a backend that the embedded server does not have, such as TensorRT."""

    model: Path
    backend: str
    built_for: str = ""  # the target of a TensorRT plan, from its certificate


class ProcessError(LaunchError):
    """A branch of the tree; only subclasses are raised."""


@dataclass(eq=False)
class ModelsNotLoaded(ProcessError):
    """Triton could not load models; `reasons` maps a model's name to Triton's reason."""

    reasons: dict[str, str]
    log: Path | None


@dataclass(eq=False)
class ProcessDied(ProcessError):
    """A child process ended by itself.

    `status` is as in `subprocess`: negative for a signal. `tail` is empty if the output went to the terminal.
    """

    process: str
    status: int
    tail: str
    log: Path | None


@dataclass(eq=False)
class DiedTooOften(ProcessError):
    """A child process ended `deaths` times within `seconds`, or as often in a row before it was ready."""

    process: str
    deaths: int
    seconds: float
    status: int
    tail: str
    log: Path | None


@dataclass(eq=False)
class ProcessNotReady(ProcessError):
    """A child process runs, but is not ready after `seconds`."""

    process: str
    seconds: float
    tail: str
    log: Path | None
