"""Find the variant that a model repository holds whole, without torch and without reading the models.

`make serve VARIANT=...` asks this to start at once. `pe-export check` is the thorough check: it hashes and runs models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export.errors import RepositoryError
from export.repository.certificate import Certificate, EmbeddingSpace, code_digest
from export.repository.store import CONFIG, Repository
from export.variants import TOWERS, VARIANTS, Tower, Variant


@dataclass(frozen=True)
class Holding:
    """Both towers of a variant, with the same weights."""

    variant: Variant
    certificates: Mapping[Tower, Certificate]

    @property
    def space(self) -> EmbeddingSpace:
        """The variant's name and the SHA-256 of its weights."""
        return self.certificates["vision"].inputs.space

    @property
    def checkpoint_source(self) -> str:
        """Origin of the weights: a file name, or `repository@commit/file` on the hub."""
        return self.certificates["vision"].checkpoint_source

    @property
    def summary(self) -> str:
        """Engine, precision and smallest cosine to torch of each tower, in one line."""
        return ", ".join(f"{tower} {_summary(certificate)}" for tower, certificate in self.certificates.items())

    @property
    def of_older_code(self) -> bool:
        """Whether this version of the exporter would make the models anew. They stay as valid as their proofs."""
        inputs = [certificate.inputs for certificate in self.certificates.values()]
        return any(code_digest(each.engine) != each.code_sha256 for each in inputs)


def find(path: Path, only: Variant | None = None) -> Holding | None:
    """Return the first variant of which the newest versions of both towers are complete and of the same weights.

    A tower is complete if it has a configuration, a certificate that this version reads, and every file that the
    certificate lists.

    Args:
        path: the repository, which need not exist.
        only: the variant to look for; None for any.
    """
    repository = Repository(path)
    for variant in (only,) if only else VARIANTS.values():
        certificates = {tower: _certificate(repository, variant.model_name(tower)) for tower in TOWERS}
        complete = {tower: certificate for tower, certificate in certificates.items() if certificate is not None}
        spaces = {certificate.inputs.space for certificate in complete.values()}
        if len(complete) == len(TOWERS) and len(spaces) == 1:
            return Holding(variant, complete)
    return None


def _certificate(repository: Repository, model: str) -> Certificate | None:
    """Return the certificate of a model's newest version; None if the model is not complete."""
    directory = repository.version_directory(model, repository.latest_version(model))
    try:
        certificate = Certificate.read(directory)
    except RepositoryError:
        return None
    files = [repository.path / model / CONFIG, *(directory / name for name in certificate.files)]
    return certificate if all(file.is_file() for file in files) else None


def _summary(certificate: Certificate) -> str:
    inputs, figures = certificate.inputs, certificate.parity
    proof = f"minimum cosine {figures.min_cosine:.7f}" if figures else "unverified"
    return f"{inputs.engine} {inputs.precision} ({proof})"
