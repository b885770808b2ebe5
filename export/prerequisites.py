"""Check, before any weights are downloaded or hashed, that this machine can make what is asked for."""

from pathlib import Path

from export.engines.engine import Engine, Runtime
from export.errors import ParityError
from export.graph.spec import Precision
from export.repository.store import Repository


def require(
    repository: Path, engine: Engine, precision: Precision, max_batch_size: int, unverified: bool
) -> tuple[str, Runtime | None]:
    """Check that this machine can build and run the artifacts, and that the repository can be written.

    Args:
        unverified: whether an artifact may be published that this machine cannot run.

    Returns:
        The engine's target, and the runtime that will prove the artifacts; None if there is none.

    Raises:
        RepositoryError: the repository cannot be created or written.
        TargetError: this machine lacks what the engine builds with.
        ParityError: no runtime on this machine can run the artifacts.
    """
    target = engine.target(max_batch_size)
    runtime = engine.runtime(precision)
    if runtime is None and not unverified:
        raise ParityError(
            f"no runtime on this machine can check {engine.name} in {precision}: {engine.missing_runtime(precision)}"
        )
    Repository(repository).require_writable()  # Last, because this makes the directory.
    return target, runtime
