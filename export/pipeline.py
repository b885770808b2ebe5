"""One tower's way from checkpoint to repository: load, export, prove, publish. Nothing unproven is published."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import torch

from export import onnx_graph, parity, triton_config
from export.certificate import Certificate, Inputs, exporter_version, library_versions
from export.checkpoint import Checkpoint, load_tower, open_checkpoint, read_logit_scale, sha256_of
from export.repository import Repository
from export.variants import TOWERS, Tower, Variant

Report = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What is to be exported, and where to."""

    variant: Variant
    checkpoint: Path
    checkpoint_source: str
    """Where the weights are from, in words that may be published: no directory of this machine."""
    repository: Path
    command: str
    max_batch_size: int
    towers: tuple[Tower, ...] = TOWERS
    force: bool = False


def run(order: Order, report: Report) -> None:
    """Export every tower of the order, one at a time; raises an ExportError, and leaves published towers in place."""
    repository = Repository(order.repository)
    repository.require_writable()
    with open_checkpoint(order.checkpoint) as checkpoint:
        with _timed(report, f"checkpoint  {order.checkpoint.name}, {_size(order.checkpoint)}"):
            digest = sha256_of(order.checkpoint)
        for tower in order.towers:
            inputs = Inputs(
                variant=order.variant.name,
                tower=tower,
                engine="onnx",
                precision="fp32",
                opset=onnx_graph.OPSET,
                checkpoint_sha256=digest,
                exporter_version=exporter_version(),
            )
            if not order.force and _is_current(order, repository, inputs, report):
                continue
            with repository.staging() as staging:
                _export_tower(order, repository, staging, checkpoint, inputs, report)


def _is_current(order: Order, repository: Repository, inputs: Inputs, report: Report) -> bool:
    """Whether the newest version was made from the same inputs and is whole; its configuration is then renewed."""
    model = order.variant.model_name(inputs_tower(inputs))
    version = repository.latest_version(model)
    directory = repository.version_directory(model, version)
    if version == 0 or not (directory / "parity.json").is_file():
        return False
    certificate = Certificate.read(directory)
    if certificate.inputs != inputs or not certificate.matches_files(directory):
        return False
    config = _config(order, certificate)
    if repository.read_config(model) != config:
        repository.write_config(model, config)
        report(f"{model}/{version}  configuration rewritten")
    else:
        report(f"{model}/{version}  up to date")
    return True


def inputs_tower(inputs: Inputs) -> Tower:
    return "vision" if inputs.tower == "vision" else "text"


def _export_tower(
    order: Order, repository: Repository, staging: Path, checkpoint: Checkpoint, inputs: Inputs, report: Report
) -> None:
    tower = inputs_tower(inputs)
    model = order.variant.model_name(tower)
    staged = staging / "version"
    staged.mkdir()
    with _timed(report, f"{tower:6}  load"):
        network = load_tower(order.variant, tower, checkpoint)
    test_inputs = parity.samples(order.variant, tower)
    with _timed(report, f"{tower:6}  torch FP32 on {len(test_inputs)} samples"):
        expected = parity.embed_with_torch(network, test_inputs)
    with _timed(report, f"{tower:6}  export"):
        input_name, _ = triton_config.INPUTS[tower]
        example = torch.from_numpy(test_inputs[:2])
        graph = onnx_graph.export_graph(network, input_name, example, staged / "model.onnx")
    del network  # the runtime opens its own copy of the weights next: never hold two
    gc.collect()
    with _timed(report, f"{tower:6}  onnxruntime on {len(test_inputs)} samples"):
        figures = parity.compare(expected, parity.embed_with_onnxruntime(graph.path, test_inputs))
    parity.require(figures, inputs.precision)
    certificate = Certificate(
        inputs=inputs,
        checkpoint_source=order.checkpoint_source,
        logit_scale=read_logit_scale(checkpoint),
        parity=figures,
        min_cosine_required=parity.MIN_COSINE[inputs.precision],
        runtime=f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider",
        command=order.command,
        files={file.name: sha256_of(file) for file in graph.files},
        versions=library_versions(),
    )
    certificate.write(staged)
    size = graph.size
    version = repository.publish(model, staged, _config(order, certificate))
    report(
        f"{model}/{version}  {size / 1e6:.1f} MB, minimum cosine {figures.min_cosine:.8f}, "
        f"maximum error {figures.max_abs_error:.1e} over {figures.samples} samples"
    )


def _config(order: Order, certificate: Certificate) -> str:
    return triton_config.describe(
        order.variant,
        inputs_tower(certificate.inputs),
        backend="onnxruntime",
        max_batch_size=order.max_batch_size,
        parameters=certificate.parameters(order.variant.notice),
    ).to_text()


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


@contextmanager
def _timed(report: Report, what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    report(f"{what}  {time.perf_counter() - start:.1f} s")
