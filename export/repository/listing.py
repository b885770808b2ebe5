"""Format tables for a terminal: the variants that can be exported, and the models of a repository."""

from collections.abc import Iterator, Sequence

from export.errors import RepositoryError
from export.files import readable_size
from export.repository.certificate import FILE_NAME, Certificate
from export.repository.store import Repository
from export.variants import TOWERS, VARIANTS


def variants_table() -> str:
    """Format one line for each variant."""
    rows = [
        (
            variant.name,
            f"{variant.image_size}x{variant.image_size}",
            str(variant.context_length),
            str(variant.embed_dim),
            *(readable_size(4 * variant.parameters[tower]) for tower in TOWERS),
            variant.hub_repository or "included",
        )
        for variant in VARIANTS.values()
    ]
    return _table(("VARIANT", "IMAGE", "TOKENS", "EMBEDDING", "VISION FP32", "TEXT FP32", "WEIGHTS"), rows)


def repository_table(repository: Repository) -> str:
    """Format one line for the newest version of each model, from its certificate.

    Raises:
        RepositoryError: there is no repository.
    """
    rows = list(_repository_rows(repository))
    if not rows:
        return f"{repository.path} holds no models"
    return _table(("MODEL", "ENGINE", "PRECISION", "MIN COSINE", "SIZE", "WEIGHTS"), rows)


def _repository_rows(repository: Repository) -> Iterator[Sequence[str]]:
    for model in repository.models():
        version = repository.latest_version(model)
        directory = repository.version_directory(model, version)
        name = f"{model}/{version}" if version else model
        if not (directory / FILE_NAME).is_file():
            yield (name, "-", "-", "no certificate", "-", "-")
            continue
        try:
            certificate = Certificate.read(directory)
        except RepositoryError:
            yield (name, "-", "-", "unreadable: export again", "-", "-")
            continue
        inputs, figures = certificate.inputs, certificate.parity
        yield (
            name,
            inputs.engine,
            inputs.precision,
            f"{figures.min_cosine:.8f}" if figures else "unverified",
            readable_size(sum(path.stat().st_size for path in directory.iterdir())),
            f"{certificate.checkpoint_source} {inputs.space.checkpoint_sha256[:12]}",
        )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
