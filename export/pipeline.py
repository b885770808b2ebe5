"""Take each tower from checkpoint to repository: load, export, build, prove, publish. Nothing unproven is published."""

import gc
from dataclasses import dataclass, field
from pathlib import Path

import torch

from export import parity, resident_memory
from export.engines import ENGINES
from export.engines.engine import BuildRequest, Engine, Runtime
from export.errors import CheckpointError, ParityError, RepositoryError
from export.files import readable_size, sha256_of
from export.graph import onnx_graph
from export.graph.forms import FORMS
from export.graph.spec import Precision
from export.graph.typed_towers import release, typed
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
from export.weights.checkpoint import load_tower, open_checkpoint, read_logit_scale


@dataclass(frozen=True)
class Order:
    """What is to be exported, and where to."""

    variant: Variant
    checkpoint: Path
    checkpoint_source: str
    """Where the weights are from, in words that may be published: no directory of this machine."""
    checkpoint_sha256: str
    """What the file's digest must be; empty if the source states none."""
    repository: Path
    command: str
    """The command line, which the certificate records."""
    max_batch_size: int
    engine: Engine = field(default_factory=lambda: ENGINES["onnx"])
    precision: Precision = "fp32"
    unverified: bool = False
    """Publish even what nothing on this machine can run."""
    towers: tuple[Tower, ...] = TOWERS
    force: bool = False
    """Export again even if nothing has changed."""


def run(order: Order, progress: Progress) -> None:
    """Export every tower of the order, one at a time.

    Raises:
        ExportError: one tower failed. Towers that were published before it stay published.
    """
    repository = Repository(order.repository)
    repository.require_writable()
    target = order.engine.target(order.max_batch_size)
    runtime = order.engine.runtime(order.precision)
    if runtime is None and not order.unverified:
        raise ParityError(
            f"nothing here can prove {order.engine.name} in {order.precision}; "
            f"{order.engine.missing_runtime(order.precision)}"
        )
    space = EmbeddingSpace(order.variant.name, _checked_digest(order, progress))
    for tower in order.towers:
        inputs = Inputs(
            space=space,
            tower=tower,
            engine=order.engine.name,
            precision=order.precision,
            form=order.engine.form,
            opset=onnx_graph.OPSET,
            code_sha256=code_digest(order.engine.name),
            libraries=graph_library_versions(),
            target=target,
        )
        if not order.force and _is_current(order, tower, repository, inputs, progress):
            continue
        with repository.staging() as staging:
            staged = staging / "version"
            staged.mkdir()
            certificate = _make(order, tower, staged, inputs, runtime, progress)
            size = readable_size(sum(path.stat().st_size for path in staged.iterdir()))
            model = order.variant.model_name(tower)
            version = repository.publish(model, staged, _config(order, tower, certificate))
        progress.say(f"{model}/{version}  {size}, {_summary(certificate)}")


def _checked_digest(order: Order, progress: Progress) -> str:
    """Hash the checkpoint, and compare the digest with the one that its source states."""
    size = readable_size(order.checkpoint.stat().st_size)
    with progress.step("weights", "hash", f"{order.checkpoint.name}, {size}"):
        digest = sha256_of(order.checkpoint)
    if order.checkpoint_sha256 not in ("", digest):
        file = order.checkpoint.resolve()  # the file in the hub's cache: deleting the link to it would not help
        raise CheckpointError(f"{file} is not what was published: its sha256 is {digest}; delete it and try again")
    return digest


def _is_current(order: Order, tower: Tower, repository: Repository, inputs: Inputs, progress: Progress) -> bool:
    """Check whether the newest version was made from the same inputs and is whole; then renew its configuration."""
    model = order.variant.model_name(tower)
    version = repository.latest_version(model)
    directory = repository.version_directory(model, version)
    try:
        certificate = Certificate.read(directory)
    except RepositoryError:  # there is no version yet, or another release made it
        return False
    if changed := inputs.differences(certificate.inputs):
        progress.say(f"{model}/{version}  exporting again, changed: {', '.join(changed)}")
        return False
    if damaged := certificate.damaged_files(directory):
        progress.say(f"{model}/{version}  exporting again, damaged: {', '.join(damaged)}")
        return False
    config = _config(order, tower, certificate)
    if repository.read_config(model) != config:
        repository.write_config(model, config)
        progress.say(f"{model}/{version}  configuration rewritten")
    else:
        progress.say(f"{model}/{version}  up to date")
    return True


def _make(
    order: Order, tower: Tower, staged: Path, inputs: Inputs, runtime: Runtime | None, progress: Progress
) -> Certificate:
    """Fill `staged` with the artifact, its answers and its certificate, or raise."""
    progress.seconds.clear()
    progress.peak_memory_bytes.clear()
    _free_memory()
    before = resident_memory.resident_bytes()
    weights = readable_size(4 * order.variant.parameters[tower])
    with progress.step(tower, "load", f"{weights} in FP32") as advance:
        checkpoint = open_checkpoint(order.checkpoint)
        network = load_tower(order.variant, tower, checkpoint, advance)
        logit_scale, notice = read_logit_scale(checkpoint), checkpoint.notice
        del checkpoint
    test_inputs = samples(order.variant, tower)
    with progress.step(tower, "torch", f"{len(test_inputs)} samples") as advance:
        expected = parity.embed_all(parity.torch_reference(network), test_inputs, advance)
    with progress.step(tower, "export", order.precision):
        typed_network = typed(network, order.engine.graph_precision(order.precision), FORMS[order.engine.form])
        del network  # the typed tower holds its weights now, or casts of them
        input_name, _ = triton_config.INPUTS[tower]
        scratch = staged.with_name("graph")
        scratch.mkdir()
        graph = onnx_graph.export_graph(
            typed_network, input_name, torch.from_numpy(test_inputs[:2]), scratch / "model.onnx"
        )
    release(typed_network)  # the runtime opens its own copy of the weights next: never hold two
    _free_memory()
    request = BuildRequest(
        tower=tower,
        graph=graph.path,
        files=graph.files,
        output=staged,
        input_shape=order.variant.input_shape(tower),
        max_batch_size=order.max_batch_size,
        target=inputs.target,
    )
    files = order.engine.build(request, progress)
    figures = None
    if runtime is not None:
        with (
            progress.step(tower, "run", f"{len(test_inputs)} samples, {runtime.description}") as advance,
            runtime.load(files[0]) as embed,
        ):
            figures = parity.compare(expected, parity.embed_all(embed, test_inputs, advance))
        parity.require(figures, inputs.precision)
    answers = parity.Answers(test_inputs, expected).write(staged)
    certificate = Certificate(
        inputs=inputs,
        checkpoint_source=order.checkpoint_source,
        logit_scale=logit_scale,
        notice=order.variant.notice or notice,
        parity=figures,
        min_cosine_required=parity.MIN_COSINE[inputs.precision],
        runtime=runtime.description if runtime else "",
        command=order.command,
        files={file.name: sha256_of(file) for file in (*files, answers)},
        versions=all_versions(),
        measured=Measured(
            seconds={name: round(seconds, 1) for name, seconds in progress.seconds.items()},
            peak_memory_bytes=dict(progress.peak_memory_bytes),
            imports_memory_bytes=before,
        ),
    )
    certificate.write(staged)
    return certificate


def _free_memory() -> None:
    gc.collect()
    resident_memory.trim()


def _config(order: Order, tower: Tower, certificate: Certificate) -> str:
    """Write the model's `config.pbtxt`."""
    config = triton_config.describe(
        order.variant,
        tower,
        order.engine,
        order.precision,
        file=certificate.artifact,
        max_batch_size=order.max_batch_size,
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
