"""One tower's way from checkpoint to repository: load, export, prove, publish. Nothing unproven is published."""

import gc
from dataclasses import dataclass
from pathlib import Path

import torch

from export import memory, parity
from export.engines import runtimes, tensorrt_plan
from export.engines.runtimes import Runtime
from export.engines.table import ENGINES, Engine, Precision
from export.errors import CheckpointError, ParityError, RepositoryError
from export.files import readable_size, sha256_of
from export.graph import onnx_graph
from export.graph.forms import FORMS
from export.graph.typed_towers import release, typed
from export.progress import Progress
from export.repository import triton_config
from export.repository.certificate import Certificate, Inputs, Measured, exporter_version, library_versions
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
    """What the file's digest must be; empty if nobody has said."""
    repository: Path
    command: str
    max_batch_size: int
    engine: Engine = ENGINES["onnx"]
    precision: Precision = "fp32"
    unverified: bool = False
    """Publish what nothing here can run."""
    towers: tuple[Tower, ...] = TOWERS
    force: bool = False


def run(order: Order, progress: Progress) -> None:
    """Export every tower of the order, one at a time; raises an ExportError, and leaves published towers in place."""
    repository = Repository(order.repository)
    repository.require_writable()
    target = ""
    if order.engine.builds_plan:
        target = f"{tensorrt_plan.this_machine()} batch {order.max_batch_size}"
    runtime = runtimes.find(order.engine.name, order.precision)
    if runtime is None and not order.unverified:
        way_out = runtimes.way_out(order.engine.name, order.precision)
        raise ParityError(f"nothing here can prove {order.engine.name} in {order.precision}; {way_out}")
    size = readable_size(order.checkpoint.stat().st_size)
    with progress.step("weights", "hash", f"{order.checkpoint.name}, {size}"):
        digest = sha256_of(order.checkpoint)
    if order.checkpoint_sha256 not in ("", digest):
        file = order.checkpoint.resolve()  # not the hub's link to it, which would be made anew
        raise CheckpointError(f"{file} is not what was published: its sha256 is {digest}; delete it and try again")
    for tower in order.towers:
        model = order.variant.model_name(tower)
        inputs = Inputs(
            variant=order.variant.name,
            tower=tower,
            engine=order.engine.name,
            precision=order.precision,
            opset=onnx_graph.OPSET,
            checkpoint_sha256=digest,
            exporter_version=exporter_version(),
            target=target,
        )
        if not order.force and _is_current(order, tower, repository, inputs, progress):
            continue
        with repository.staging() as staging:
            staged = staging / "version"
            staged.mkdir()
            certificate = _make(order, tower, staged, inputs, runtime, progress)
            size = readable_size(sum(path.stat().st_size for path in staged.iterdir()))
            version = repository.publish(model, staged, _config(order, tower, certificate))
        progress.say(f"{model}/{version}  {size}, {_summary(certificate)}")


def _is_current(order: Order, tower: Tower, repository: Repository, inputs: Inputs, progress: Progress) -> bool:
    """Whether the newest version was made from the same inputs and is whole; its configuration is then renewed."""
    model = order.variant.model_name(tower)
    version = repository.latest_version(model)
    directory = repository.version_directory(model, version)
    try:
        certificate = Certificate.read(directory)
    except RepositoryError:  # none there, or another release's: a new version is due
        return False
    if certificate.inputs != inputs or certificate.damaged_files(directory):
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
    _tidy_memory()
    before = memory.resident_bytes()
    weights = readable_size(4 * order.variant.parameters[tower])
    with progress.step(tower, "load", f"{weights} in FP32") as advance:
        checkpoint = open_checkpoint(order.checkpoint)
        network = load_tower(order.variant, tower, checkpoint, advance)
        logit_scale, notice = read_logit_scale(checkpoint), checkpoint.notice
        del checkpoint
    test_inputs = samples(order.variant, tower)
    with progress.step(tower, "torch", f"{len(test_inputs)} samples") as advance:
        expected = parity.embed_all(runtimes.torch_on_cpu(network), test_inputs, advance)
    with progress.step(tower, "export", order.precision):
        graph_precision = order.engine.precision_of_graph(order.precision)
        typed_network = typed(network, graph_precision, FORMS[order.engine.form])
        del network  # its weights are the typed tower's now, or of no use
        input_name, _ = triton_config.INPUTS[tower]
        example = torch.from_numpy(test_inputs[:2])
        graph_directory = staged
        if order.engine.builds_plan:
            graph_directory = staged.with_name("graph")
            graph_directory.mkdir()
        graph = onnx_graph.export_graph(typed_network, input_name, example, graph_directory / "model.onnx")
    release(typed_network)  # the runtime opens its own copy of the weights next: never hold two
    _tidy_memory()
    files = graph.files
    if order.engine.builds_plan:
        with progress.step(tower, "build", inputs.target) as advance:
            plan = staged / f"{inputs.target.replace(' ', '-')}-{sha256_of(graph.files[-1])[:12]}.plan"
            tensorrt_plan.build(graph.path, plan, order.variant.input_shape(tower), order.max_batch_size, advance)
            files = (plan,)
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
        versions=library_versions(),
        measured=Measured(
            seconds={name: round(seconds, 1) for name, seconds in progress.seconds.items()},
            peak_memory_bytes=dict(progress.peak_memory_bytes),
            imports_memory_bytes=before,
        ),
    )
    certificate.write(staged)
    return certificate


def _tidy_memory() -> None:
    gc.collect()
    memory.give_back()


def _config(order: Order, tower: Tower, certificate: Certificate) -> str:
    return triton_config.describe(
        order.variant,
        tower,
        order.engine,
        order.precision,
        file=certificate.artifact,
        max_batch_size=order.max_batch_size,
        parameters=certificate.parameters(),
    ).to_text()


def _summary(certificate: Certificate) -> str:
    figures = certificate.parity
    if figures is None:
        return "unverified"
    return (
        f"minimum cosine {figures.min_cosine:.8f}, largest error {figures.max_abs_error:.1e} "
        f"over {figures.samples} samples"
    )
