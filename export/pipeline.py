"""Export each tower from its checkpoint to the repository: load, export, build, compare with torch, publish.

An artifact is published only after the comparison, except with `--unverified`.
"""

import gc
import math
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from export import parity, prerequisites, resident_memory
from export.engines import DEFAULT_ENGINE, ENGINES
from export.engines.engine import BuildRequest, Engine, Runtime
from export.errors import CheckpointError, RepositoryError
from export.files import readable_size, sha256_of
from export.graph import onnx_graph
from export.graph.forms import FORMS
from export.graph.spec import Precision
from export.graph.typed_towers import release_weights, typed_tower
from export.progress import Progress
from export.repository import triton_config
from export.repository.certificate import (
    Certificate,
    EmbeddingSpace,
    Inputs,
    Measured,
    all_versions,
    code_digest,
    graph_library_versions,
)
from export.repository.config_pbtxt import to_text
from export.repository.store import Repository
from export.samples import samples
from export.variants import TOWERS, Tower, Variant
from export.weights.checkpoint import Checkpoint, architecture_digest, load_tower, read_logit_scale
from export.weights.dense import open_dense


@dataclass(frozen=True)
class ExportRequest:
    """The options of an export."""

    variant: Variant
    checkpoint: Path
    checkpoint_source: str
    """Origin of the weights, for the certificate: a file name without directories, or `repository@commit/file`."""
    checkpoint_sha256: str
    """Expected SHA-256 of the file; empty if the source publishes none."""
    repository: Path
    command: str
    """The command line, which the certificate records."""
    max_batch_size: int
    """The largest batch that Triton may form."""
    engine: Engine = field(default_factory=lambda: ENGINES[DEFAULT_ENGINE])
    precision: Precision = "fp32"
    unverified: bool = False
    """Publish an artifact even if no runtime on this machine can run it."""
    towers: tuple[Tower, ...] = TOWERS
    force: bool = False
    """Export again even if no input has changed."""


def run(request: ExportRequest, progress: Progress) -> None:
    """Export every tower of the request, one at a time.

    Raises:
        ExportError: one tower failed. Towers that this run has already published stay published.
    """
    target, runtime = prerequisites.require(
        request.repository, request.engine, request.precision, request.max_batch_size, request.unverified
    )
    repository = Repository(request.repository)
    space = EmbeddingSpace(request.variant.name, _checked_digest(request, progress))
    for tower in request.towers:
        inputs = Inputs(
            space=space,
            tower=tower,
            engine=request.engine.name,
            precision=request.precision,
            form=request.engine.form,
            opset=onnx_graph.OPSET,
            architecture_sha256=architecture_digest(request.variant),
            code_sha256=code_digest(request.engine.name),
            libraries=graph_library_versions(),
            token_lengths=request.variant.token_lengths if tower == "text" else (),
            target=target,
        )
        if not request.force and _is_current(request, tower, repository, inputs, progress):
            continue
        with repository.staging() as staging:
            staged = staging / "version"
            staged.mkdir()
            certificate = _make(request, tower, staged, inputs, runtime, progress)
            size = readable_size(sum(path.stat().st_size for path in staged.iterdir()))
            model = request.variant.model_name(tower)
            version = repository.publish(model, staged, _config(request, tower, certificate))
        progress.say(f"{model}/{version}  {size}, {_summary(certificate)}")


def _checked_digest(request: ExportRequest, progress: Progress) -> str:
    """Hash the checkpoint, and compare the SHA-256 with the one that its source publishes.

    Raises:
        CheckpointError: the two differ.
    """
    size = readable_size(request.checkpoint.stat().st_size)
    with progress.step("weights", "hash", f"{request.checkpoint.name}, {size}"):
        digest = sha256_of(request.checkpoint)
    if request.checkpoint_sha256 not in ("", digest):
        # The hub's cache holds a link. Deleting only the link would keep the damaged file.
        file = request.checkpoint.resolve()
        raise CheckpointError(f"{file} is not what was published: its sha256 is {digest}; delete it and try again")
    return digest


def _is_current(
    request: ExportRequest, tower: Tower, repository: Repository, inputs: Inputs, progress: Progress
) -> bool:
    """Check if the newest version has equal inputs and undamaged files. If so, update its `config.pbtxt`."""
    model = request.variant.model_name(tower)
    version = repository.latest_version(model)
    directory = repository.version_directory(model, version)
    try:
        certificate = Certificate.read(directory)
    except RepositoryError as error:
        if version:
            progress.say(f"{model}/{version}  exporting again: {error}")
        return False
    if changed := inputs.differences(certificate.inputs):
        progress.say(f"{model}/{version}  exporting again, changed: {', '.join(changed)}")
        if inputs.space != certificate.inputs.space:
            progress.say(
                f"{model}  warning: a Triton of this folder serves the new embeddings when it starts again. They "
                "cannot be compared with those from before. Export changed weights to another folder (--repository)"
            )
        return False
    if damaged := certificate.damaged_files(directory):
        progress.say(f"{model}/{version}  exporting again, damaged: {', '.join(damaged)}")
        return False
    config = _config(request, tower, certificate)
    if repository.read_config(model) != config:
        repository.write_config(model, config)
        progress.say(f"{model}/{version}  configuration rewritten")
    else:
        progress.say(f"{model}/{version}  up to date")
    return True


def _make(
    request: ExportRequest, tower: Tower, staged: Path, inputs: Inputs, runtime: Runtime | None, progress: Progress
) -> Certificate:
    """Write the artifact, torch's embeddings and the certificate into `staged`."""
    progress.seconds.clear()
    progress.peak_memory_bytes.clear()
    _free_memory()
    before = resident_memory.resident_bytes()
    traced = _trace(request, tower, staged.with_name("graph"), progress)
    _free_memory()  # The runtime opens its own copy of the weights next.
    build_request = BuildRequest(
        tower=tower,
        graph=traced.graph.path,
        files=traced.graph.files,
        output=staged,
        input_name=triton_config.INPUTS[tower][0],
        input_shapes=request.variant.input_shapes(tower),
        max_batch_size=request.max_batch_size,
        target=inputs.target,
    )
    files = request.engine.build(build_request, progress)
    answers = parity.Answers(traced.samples, traced.embeddings, inputs.token_lengths)
    figures = None
    if runtime is not None:
        with (
            progress.step(tower, "run", f"{len(traced.samples)} samples, {runtime.description}") as advance,
            runtime.load(files[0]) as embed,
        ):
            figures = parity.measure(answers, embed, advance)
        parity.require(figures, inputs.precision)
    certificate = Certificate(
        inputs=inputs,
        checkpoint_source=request.checkpoint_source,
        logit_scale=traced.logit_scale,
        notice=request.variant.notice or traced.notice,
        parity=figures,
        min_cosine_required=parity.MIN_COSINE[inputs.precision],
        runtime=runtime.description if runtime else "",
        command=request.command,
        files={file.name: sha256_of(file) for file in (*files, answers.write(staged))},
        versions=all_versions(),
        measured=Measured(
            seconds={name: round(seconds, 1) for name, seconds in progress.seconds.items()},
            peak_memory_bytes=dict(progress.peak_memory_bytes),
            imports_memory_bytes=before,
        ),
    )
    certificate.write(staged)
    return certificate


@dataclass(frozen=True)
class _Traced:
    """What an export needs of torch's network, without its weights."""

    graph: onnx_graph.OnnxGraph
    samples: parity.Array
    """Inputs of the tower."""
    embeddings: parity.Embeddings
    """Torch's embeddings of the samples."""
    logit_scale: float
    notice: str
    """As in `Checkpoint`."""


def _trace(request: ExportRequest, tower: Tower, scratch: Path, progress: Progress) -> _Traced:
    """Load a tower, embed the samples with torch, and export the graph into the new directory `scratch`."""
    weights = readable_size(4 * request.variant.parameters[tower])
    with progress.step(tower, "load", f"{weights} in FP32") as advance:
        checkpoint = open_dense(request.checkpoint)
        network = load_tower(request.variant, tower, checkpoint, advance)
        logit_scale, notice = _logit_scale(checkpoint), checkpoint.notice
        del checkpoint
    inputs = samples(request.variant, tower)
    with progress.step(tower, "torch", f"{len(inputs)} samples") as advance:
        embeddings = parity.embed_all(parity.torch_reference(network), inputs, advance)
    parity.require_unit_length(embeddings, "torch's embeddings with this checkpoint")
    with progress.step(tower, "export", request.precision):
        typed_network = typed_tower(
            network, request.engine.graph_precision(request.precision), FORMS[request.engine.form]
        )
        del network  # `typed_network` holds the weights or casts of them.
        scratch.mkdir()
        input_name, _ = triton_config.INPUTS[tower]
        example = torch.from_numpy(inputs[:2])
        graph = onnx_graph.export_graph(typed_network, input_name, example, scratch / "model.onnx")
    release_weights(typed_network)
    return _Traced(graph, inputs, embeddings, logit_scale, notice)


def _logit_scale(checkpoint: Checkpoint) -> float:
    """Read the logit scale.

    Raises:
        CheckpointError: it is not finite.
    """
    with suppress(OverflowError):
        scale = read_logit_scale(checkpoint)
        if math.isfinite(scale):
            return scale
    raise CheckpointError(f"{checkpoint.path.name}: the exponential of logit_scale is not finite")


def _free_memory() -> None:
    gc.collect()
    resident_memory.trim()


def _config(request: ExportRequest, tower: Tower, certificate: Certificate) -> str:
    """Return the text of the model's `config.pbtxt`."""
    config = triton_config.describe(
        request.variant,
        tower,
        request.engine,
        request.precision,
        file=certificate.artifact,
        max_batch_size=request.max_batch_size,
        parameters=certificate.parameters(),
    )
    return to_text(config)


def _summary(certificate: Certificate) -> str:
    figures = certificate.parity
    if figures is None:
        return "unverified"
    return (
        f"minimum cosine {figures.min_cosine:.8f}, largest error {figures.max_abs_error:.1e} "
        f"over {figures.samples} samples"
    )
