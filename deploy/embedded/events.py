"""The events while `pe-serve` serves that a person may want to know. `wording.py` has their messages."""

from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.errors import LaunchError


@dataclass(frozen=True)
class TritonDied:
    """Triton ended by itself, and is restarted after a pause."""

    status: int  # as in `subprocess`: negative for a signal
    pause: float  # seconds until the restart
    log: Path | None


@dataclass(frozen=True)
class TritonRestarted:
    """Triton serves again."""

    seconds: float  # since it died


@dataclass(frozen=True)
class ModelLoaded:
    """Triton loaded a model or version that was added or changed."""

    model: str
    version: int


@dataclass(frozen=True)
class EngineReplaced:
    """A model failed to load with the engine that was chosen automatically, so onnxruntime runs it."""

    model: str
    reason: str


@dataclass(frozen=True)
class ModelRefused:
    """Triton could not load a model or version. Versions that it had loaded before stay in service."""

    model: str
    version: int
    reason: str


@dataclass(frozen=True)
class ModelRemoved:
    """A model was removed from the repository."""

    model: str


@dataclass(frozen=True)
class ModelSkipped:
    """A model in the repository cannot be served, and is not published to Triton until it changes."""

    error: LaunchError


Event = TritonDied | TritonRestarted | ModelLoaded | EngineReplaced | ModelRefused | ModelRemoved | ModelSkipped
