"""Check that every model of a repository matches its certificate. This needs neither torch nor the weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from export import parity
from export.engines import ENGINES
from export.errors import ExportError, ParityError, RepositoryError
from export.repository import config_pbtxt, triton_config
from export.repository.certificate import FILE_NAME, Certificate
from export.repository.store import Repository
from export.variants import TOWERS, find_variant

# By how much the largest error of a new run may exceed the recorded one. Another machine rounds differently.
_SPREAD: Final = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 1e-2}


@dataclass(frozen=True)
class Finding:
    """The result of checking one model."""

    model: str
    """Name of the model, with its version if it has a certificate: `PE-Demo-T8-64-text/1`."""
    problem: str
    """The first problem found; empty if there is none."""
    detail: str = ""
    """Engine, precision, parity and weights, if there is no problem."""


def check(repository: Repository) -> Iterator[Finding]:
    """Check the newest version of each model. Yield each finding as soon as the model is checked.

    Raises:
        RepositoryError: there is no repository.
    """
    for model in repository.models():
        version = repository.latest_version(model)
        name = f"{model}/{version}"
        directory = repository.version_directory(model, version)
        if not (directory / FILE_NAME).is_file():
            made = f"pe-export did not make version {version}" if version else "it has no version"
            yield Finding(model, f"no certificate: {made}")
            continue
        try:
            certificate = Certificate.read(directory)
            _check_files(repository, model, certificate)
            figures = _run_again(repository, model, certificate)
        except ExportError as error:
            yield Finding(name, str(error))
        else:
            yield Finding(name, "", _describe(certificate, figures))


def _check_files(repository: Repository, model: str, certificate: Certificate) -> None:
    """Check that a model's files and configuration are what its export made. Raises RepositoryError if not."""
    damaged = certificate.damaged_files(repository.version_directory(model, repository.latest_version(model)))
    if damaged:
        raise RepositoryError(f"{', '.join(damaged)}: missing, or changed since the export")
    variant = find_variant(certificate.inputs.space.variant)
    tower = next(tower for tower in TOWERS if tower == certificate.inputs.tower)
    if model != variant.model_name(tower):
        raise RepositoryError(f"the directory contains another model, {variant.model_name(tower)}")
    text = repository.read_config(model)
    if not text:
        raise RepositoryError("config.pbtxt is missing or empty: the command of the export writes it again")
    actual = config_pbtxt.parse(text)
    expected = triton_config.describe(
        variant,
        tower,
        ENGINES[certificate.inputs.engine],
        certificate.inputs.precision,
        file=certificate.artifact,
        max_batch_size=actual.max_batch_size,
        parameters=certificate.parameters(),
    )
    # Operators may tune other fields. The gateway and the artifact rely on these.
    for field in ("name", "backend", "input", "output", "parameters"):
        if getattr(actual, field) != getattr(expected, field):
            raise RepositoryError(f"config.pbtxt: the field {field} differs from the export")
    if actual.max_batch_size < 1:
        raise RepositoryError("config.pbtxt: max_batch_size must be at least 1")


def _run_again(repository: Repository, model: str, certificate: Certificate) -> parity.Parity | None:
    """Run the model on the recorded inputs, and compare its parity with the recorded parity.

    Returns:
        The parity of the new run; None if the model was published unverified.

    Raises:
        ParityError: no runtime can run the model, or its error is larger than the tolerance allows.
        RepositoryError: the recorded inputs cannot be read.
    """
    if certificate.parity is None:
        return None
    directory = repository.version_directory(model, repository.latest_version(model))
    answers = parity.Answers.read(directory)
    engine = ENGINES[certificate.inputs.engine]
    runtime = engine.runtime(certificate.inputs.precision)
    if runtime is None:
        raise ParityError(f"no runtime on this machine can run {engine.name} in {certificate.inputs.precision}")
    with runtime.load(directory / certificate.artifact) as embed:
        figures = parity.measure(answers, embed)
    parity.require(figures, certificate.inputs.precision)
    recorded = certificate.parity
    if (
        figures.samples != recorded.samples
        or figures.max_abs_error > recorded.max_abs_error + _SPREAD[certificate.inputs.precision]
    ):
        raise ParityError(
            f"largest error to torch FP32 is {figures.max_abs_error:.1e} over {figures.samples} samples; "
            f"the export recorded {recorded.max_abs_error:.1e} over {recorded.samples}"
        )
    return figures


def _describe(certificate: Certificate, figures: parity.Parity | None) -> str:
    inputs = certificate.inputs
    proof = f"minimum cosine {figures.min_cosine:.8f}" if figures else "unverified"
    return f"{inputs.engine} {inputs.precision}, {proof}, weights {inputs.space.checkpoint_sha256[:12]}"
