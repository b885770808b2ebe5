"""Everything that can keep pe-serve from serving, as one closed tree. cli.py alone words them for a person.

LaunchError
├── InstallationError          the Triton environment cannot be used
│   ├── InstallationMissing      there is none
│   ├── InstallationBroken       it lacks a file it should have
│   ├── EngineMissing            it lacks the engine of a model
│   └── LibpythonMissing         no shared libpython fits its Python
├── AddressError               the gateway cannot listen where it was asked to
│   ├── PortTaken
│   └── AddressUnusable
├── RepositoryError            the model repository cannot be served; Triton was not started
│   ├── RepositoryMissing
│   ├── RepositoryEmpty
│   ├── ModelIncomplete
│   ├── ConfigUnreadable
│   ├── VariantIncomplete
│   └── EngineUnsupported
└── ProcessError               a process did not do its part
    ├── ModelsNotLoaded          Triton runs but refused models
    ├── ProcessDied
    ├── DiedTooOften             it was started again, in vain
    └── ProcessNotReady
"""

from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.engines import Engine


class LaunchError(Exception):
    """The root. Never raised itself."""


class InstallationError(LaunchError):
    """Never raised itself."""


@dataclass(eq=False)
class InstallationMissing(InstallationError):
    """No Triton environment in any of the places looked at."""

    looked_at: tuple[Path, ...]
    requirements: Path


@dataclass(eq=False)
class InstallationBroken(InstallationError):
    """The Triton environment is there, but something it should contain is not."""

    environment: Path
    missing: str


@dataclass(eq=False)
class EngineMissing(InstallationError):
    """A model needs an engine that is installed on request only, and the environment lacks it."""

    environment: Path
    model: str
    engine: Engine


@dataclass(eq=False)
class LibpythonMissing(InstallationError):
    """The environment's Python has no shared library that Triton's Python stub could load."""

    python: Path
    library: str


class AddressError(LaunchError):
    """Never raised itself."""


@dataclass(eq=False)
class PortTaken(AddressError):
    host: str
    port: int


@dataclass(eq=False)
class AddressUnusable(AddressError):
    host: str
    port: int
    reason: str


class RepositoryError(LaunchError):
    """Never raised itself."""


@dataclass(eq=False)
class RepositoryMissing(RepositoryError):
    repository: Path


@dataclass(eq=False)
class RepositoryEmpty(RepositoryError):
    repository: Path


@dataclass(eq=False)
class ModelIncomplete(RepositoryError):
    """A model directory that was copied, exported or deleted only in part."""

    model: Path
    lacks: str


@dataclass(eq=False)
class ConfigUnreadable(RepositoryError):
    """A config.pbtxt that is no Triton configuration. `reason` names the line."""

    model: Path
    reason: str


@dataclass(eq=False)
class VariantIncomplete(RepositoryError):
    """Models, but no variant of which both towers are there."""

    repository: Path
    missing: str


@dataclass(eq=False)
class EngineUnsupported(RepositoryError):
    """A model for a backend that the embedded server does not have, such as a TensorRT plan."""

    model: Path
    engine: str
    built_for: str = ""  # what a plan was built for, as its certificate says


class ProcessError(LaunchError):
    """Never raised itself."""


@dataclass(eq=False)
class ModelsNotLoaded(ProcessError):
    """Triton's own reason by model name."""

    reasons: dict[str, str]
    log: Path | None


@dataclass(eq=False)
class ProcessDied(ProcessError):
    """`status` as in subprocess: negative for a signal. `tail` is empty when its output went to the terminal."""

    process: str
    status: int
    tail: str
    log: Path | None


@dataclass(eq=False)
class DiedTooOften(ProcessError):
    """As ProcessDied, after `deaths` within `seconds`, or as many starts in vain."""

    process: str
    deaths: int
    seconds: float
    status: int
    tail: str
    log: Path | None


@dataclass(eq=False)
class ProcessNotReady(ProcessError):
    """Still running, but not answering as it should after `seconds`."""

    process: str
    seconds: float
    tail: str
    log: Path | None
