"""`pe-export`: export a checkpoint to a Triton model repository, and check the repository.

- `pe-export [VARIANT] [options]` exports a variant.
- `pe-export list` prints the variants and the models in the repository.
- `pe-export check` checks that every model still matches its certificate.
- `pe-export preflight` checks that Triton can load every TensorRT plan on this machine.
"""

import argparse
import difflib
import errno
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from export.engines import ENGINES
from export.errors import CheckpointError, ExportError
from export.gpu_memory import WEIGHT_BYTES
from export.graph.spec import Precision
from export.options import parse
from export.variants import DEFAULT_VARIANT, Variant, find_variant

if TYPE_CHECKING:
    from export.progress import Progress

# Modules of the extra `export`. An environment that only serves does not have them.
_EXTRA: Final = {
    "huggingface_hub",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "open_clip",
    "PIL",
    "safetensors",
    "timm",
    "torch",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the arguments after the program's name; by default those of this process.

    Returns:
        The exit status: 0 if all is well, 1 if the command failed or found a problem, 130 after SIGINT or SIGTERM.
        `preflight` also returns 2 if it cannot read the repository.

    Raises:
        SystemExit: with status 2, if an argument is invalid.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    command, options = parse(arguments)
    # Containers are stopped by SIGTERM. Clean up as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _COMMANDS[command](options)
    except ExportError as error:
        print(f"pe-export: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        # Without a file's name, it is a model that is written.
        place = error.filename or (options.repository if error.errno in (errno.ENOSPC, errno.EDQUOT) else "")
        where = f" ({place})" if place else ""
        print(f"pe-export: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        print(
            f"pe-export: {error.name} is not installed in this environment. In a checkout, `deploy/setup.sh export` "
            "makes .venv-export/bin/pe-export. Elsewhere, install this package with the extra `export`, or `gpu`.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("pe-export: stopped; the repository holds no incomplete model", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _export(options: argparse.Namespace) -> int:
    precision = _precision(options)
    variant = _variant(options)
    _require_weights(options, variant)
    from export import prerequisites
    from export.progress import Progress

    max_batch_size = options.max_batch_size or variant.max_batch_size
    prerequisites.require(options.repository, ENGINES[options.engine], precision, max_batch_size, options.unverified)
    progress = Progress(sys.stderr)
    checkpoint, source, digest = _weights(options, variant, precision, progress)
    from export import pipeline  # Importing torch takes seconds, so all that can be checked without it comes first.

    # onnxscript logs every node that it does not change.
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    pipeline.run(
        pipeline.ExportRequest(
            variant=variant,
            checkpoint=checkpoint,
            checkpoint_source=source,
            checkpoint_sha256=digest,
            repository=options.repository,
            command=options.command,
            max_batch_size=max_batch_size,
            engine=ENGINES[options.engine],
            precision=precision,
            unverified=options.unverified,
            towers=options.towers,
            force=options.force,
        ),
        progress,
    )
    return 0


def _list(options: argparse.Namespace) -> int:
    from export.repository import listing
    from export.repository.store import Repository

    print(listing.variants_table())
    if options.repository.is_dir():
        print(f"\n{listing.repository_table(Repository(options.repository))}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from export.repository.check import check
    from export.repository.store import Repository

    sound = True
    for finding in check(Repository(options.repository)):
        sound &= not finding.problem
        verdict = f"FAILED  {finding.problem}" if finding.problem else f"ok  {finding.detail}"
        print(f"{finding.model}  {verdict}", flush=True)
    return 0 if sound else 1


def _preflight(options: argparse.Namespace) -> int:
    from export import preflight

    return preflight.report(options.repository)


_COMMANDS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "": _export,
    "list": _list,
    "check": _check,
    "preflight": _preflight,
}


def _precision(options: argparse.Namespace) -> Precision:
    """Return the chosen precision, or the engine's default.

    Raises:
        ExportError: the engine does not support the precision.
    """
    engine = ENGINES[options.engine]
    precision: Precision = options.precision or engine.precisions[0]
    if precision not in engine.precisions:
        raise ExportError(
            f"the engine {engine.name} does not support {precision}: "
            f"choose --precision from {', '.join(engine.precisions)}"
        )
    return precision


def _variant(options: argparse.Namespace) -> Variant:
    """Return the named variant; without a name, that of the checkpoint file, else the default.

    Raises:
        UnknownVariant: there is no variant of this name.
        CheckpointError: there is no such file, or it is a checkpoint of no variant.
        ExportError: the name is that of a command.
    """
    if options.variant in _COMMANDS:
        raise ExportError(f"put the command first: pe-export {options.variant} --repository {options.repository}")
    if options.variant is not None:
        if near := difflib.get_close_matches(options.variant, [name for name in _COMMANDS if name], 1):
            raise ExportError(f"there is no command or variant {options.variant!r}; did you mean pe-export {near[0]}?")
        return find_variant(options.variant)
    if options.checkpoint is None:
        return find_variant(DEFAULT_VARIANT)
    _require_file(options.checkpoint)
    from export.weights.identify import identify

    variant = identify(options.checkpoint)
    print(f"{options.checkpoint.name} is a {variant.name} checkpoint", file=sys.stderr, flush=True)
    return variant


def _require_weights(options: argparse.Namespace, variant: Variant) -> None:
    """Check, before slow imports, that the weights have a source.

    Raises:
        CheckpointError: no source is given, or there is no such file.
        ExportError: a revision is given for a file.
    """
    if options.revision is not None and options.source != "hub":
        raise ExportError("--revision chooses a commit on the hub: add --from hub, or omit --revision")
    path = options.checkpoint or variant.bundled_checkpoint
    if options.source == "hub":
        if not variant.hub_repository:
            raise CheckpointError(f"{variant.name} is not on the hub: omit --from to use the weights in this package")
    elif path is None:
        raise CheckpointError(
            f"no weights given for {variant.name}: download them with --from hub, or name a file with --checkpoint FILE"
        )
    else:
        _require_file(path)


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path} is a directory: name the file in it with --checkpoint FILE")
    if not path.is_file():
        raise CheckpointError(f"no checkpoint file at {path}")


def _weights(
    options: argparse.Namespace, variant: Variant, precision: Precision, progress: "Progress"
) -> tuple[Path, str, str]:
    """Find the weights; download them if `--from hub` is given. Check first that the disk has room for the models.

    Returns:
        The file, the name of its source for the certificate, and the SHA-256 that the source publishes or "".
    """
    from export import free_space
    from export.repository.store import Repository

    repository = Repository(options.repository)
    # A tower that has a version may be up to date, and then nothing is written.
    versions = {tower: repository.latest_version(variant.model_name(tower)) for tower in options.towers}
    missing = [tower for tower, version in versions.items() if options.force or not version]
    size = sum(variant.parameters[tower] for tower in missing) * WEIGHT_BYTES[precision]
    models = free_space.Need("the models", options.repository, size, "--repository")
    if options.source == "hub":
        from export.weights import hub

        revision, why = options.revision or "main", ""
        if not options.revision and not options.force:
            recorded = hub.recorded_commit(repository, variant)
            if recorded:
                revision, why = recorded, ", as in the last export (--revision main takes the newest)"
        print(f"weights from the hub: {variant.hub_repository} at {revision}{why}", file=sys.stderr, flush=True)
        file, meta = hub.HubFile(variant.hub_repository, hub.WEIGHTS), hub.HubFile(*variant.meta_file)
        download = hub.fetch(file, revision, progress, others=[meta], also_needed=[models])
        free_space.require([models])
        return download.path, download.source, download.sha256
    free_space.require([models])
    path = options.checkpoint or variant.bundled_checkpoint
    assert path is not None  # `_require_weights` has checked this.
    return path, path.name, ""


if __name__ == "__main__":
    raise SystemExit(main())
