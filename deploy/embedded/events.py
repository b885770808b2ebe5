"""What happens while pe-serve serves that a person may want to know. The words are in cli.py alone."""

from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.errors import LaunchError


@dataclass(frozen=True)
class TritonDied:
    """It is started again after a pause."""

    status: int  # as in subprocess: negative for a signal
    pause: float  # seconds until it is started again
    log: Path | None


@dataclass(frozen=True)
class TritonBack:
    """It serves again."""

    seconds: float  # since it died


@dataclass(frozen=True)
class ModelLoaded:
    """One that was added or changed while Triton ran."""

    model: str
    version: int


@dataclass(frozen=True)
class ModelRefused:
    """Triton could not load it; what it loaded before, it serves on."""

    model: str
    version: int
    reason: str


@dataclass(frozen=True)
class ModelGone:
    """It was removed from the repository."""

    model: str


@dataclass(frozen=True)
class ModelPassedOver:
    """What was added or changed cannot be served, and is not shown to Triton until it has changed."""

    error: LaunchError


Event = TritonDied | TritonBack | ModelLoaded | ModelRefused | ModelGone | ModelPassedOver
