"""Re-verification of a model repository, without torch and without the weights: is every model what its certificate
says?
"""

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export import parity
from export.engines import runtimes
from export.engines.table import ENGINES
from export.errors import ExportError, ParityError, RepositoryError
from export.repository import triton_config
from export.repository.certificate import FILE_NAME, Certificate
from export.repository.store import Repository
from export.variants import TOWERS, find_variant

# A fresh run may differ from torch by this much more than was recorded: another machine rounds otherwise.
_SPREAD = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 1e-2}


@dataclass(frozen=True)
class Finding:
    """What a check found out about one model."""

    model: str
    problem: str
    """Empty if all is well."""
    detail: str = ""


def check(repository: Repository) -> Iterator[Finding]:
    """One finding for the newest version of each model, as they are checked."""
    for model in repository.models():
        version = repository.latest_version(model)
        name = f"{model}/{version}"
        directory = repository.version_directory(model, version)
        if not (directory / FILE_NAME).is_file():
            yield Finding(model, f"no certificate: pe-export did not make version {version}")
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
    damaged = certificate.damaged_files(repository.version_directory(model, repository.latest_version(model)))
    if damaged:
        raise RepositoryError(f"{', '.join(damaged)}: missing, or not as exported")
    variant = find_variant(certificate.inputs.variant)
    tower = next(tower for tower in TOWERS if tower == certificate.inputs.tower)
    if model != variant.model_name(tower):
        raise RepositoryError(f"the directory holds {variant.model_name(tower)}")
    text = repository.read_config(model)
    try:
        actual = text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise RepositoryError(f"config.pbtxt is not a Triton configuration: {error}") from error
    expected = triton_config.describe(
        variant,
        tower,
        ENGINES[certificate.inputs.engine],
        certificate.inputs.precision,
        file=certificate.artifact,
        max_batch_size=actual.max_batch_size,
        parameters=certificate.parameters(),
    ).to_protobuf()
    # People tune these; what the gateway and the artifact rely on must be as exported.
    for field in ("name", "backend", "input", "output", "parameters"):
        if getattr(actual, field) != getattr(expected, field):
            raise RepositoryError(f"config.pbtxt: {field} is not what was exported")
    if actual.max_batch_size < 1:
        raise RepositoryError("config.pbtxt: max_batch_size must be at least 1")


def _run_again(repository: Repository, model: str, certificate: Certificate) -> parity.Parity | None:
    """Figures of a fresh run, or None where the certificate says that nothing has run the artifact yet."""
    if certificate.parity is None:
        return None
    directory = repository.version_directory(model, repository.latest_version(model))
    answers = parity.Answers.read(directory)
    engine = ENGINES[certificate.inputs.engine]
    runtime = runtimes.find(engine.name, certificate.inputs.precision)
    if runtime is None:
        raise ParityError(f"nothing here can run {engine.name} in {certificate.inputs.precision}")
    with runtime.load(directory / certificate.artifact) as embed:
        figures = parity.compare(answers.expected, parity.embed_all(embed, answers.inputs))
    parity.require(figures, certificate.inputs.precision)
    recorded = certificate.parity
    if (
        figures.samples != recorded.samples
        or figures.max_abs_error > recorded.max_abs_error + _SPREAD[certificate.inputs.precision]
    ):
        raise ParityError(
            f"largest error to torch FP32 is {figures.max_abs_error:.1e} over {figures.samples} samples; "
            f"recorded are {recorded.max_abs_error:.1e} over {recorded.samples}"
        )
    return figures


def _describe(certificate: Certificate, figures: parity.Parity | None) -> str:
    inputs = certificate.inputs
    proof = f"minimum cosine {figures.min_cosine:.8f}" if figures else "unverified"
    return f"{inputs.engine} {inputs.precision}, {proof}, weights {inputs.checkpoint_sha256[:12]}"
