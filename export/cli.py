"""`pe-export`: bring a checkpoint into a Triton model repository, and look after what is there.

pe-export [VARIANT] [options]      export
pe-export list                     what can be exported, and what is in the repository
pe-export check                    is everything in the repository still what was exported?
pe-export preflight                would Triton load every TensorRT plan on this machine?
"""

import argparse
import logging
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from export.engines import ENGINES
from export.errors import CheckpointError, ExportError
from export.graph.spec import Precision
from export.variants import DEFAULT_VARIANT, TOWERS, VARIANTS, Tower, Variant, find_variant

# Modules of the extra `export`, which an environment that only serves has not.
_EXTRA = {"numpy", "onnx", "onnx_ir", "onnxruntime", "open_clip", "PIL", "safetensors", "timm", "torch"}

_LARGEST_BATCH = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 it could not be done, 2 the arguments make no sense."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[0] if arguments and arguments[0] in _COMMANDS else ""
    options = _parser(command).parse_args(arguments[1:] if command else arguments)
    options.command = shlex.join(["pe-export", *arguments])
    # A container is stopped with SIGTERM: leave as tidily as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _COMMANDS[command](options)
    except ExportError as error:
        print(f"pe-export: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"pe-export: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        print(
            f"pe-export: {error.name} is not installed: pip install 'perception-encoder-server[export]'",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("pe-export: stopped; nothing half-made is left in the repository", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _export(options: argparse.Namespace) -> int:
    variant = find_variant(options.variant)
    precision = _precision(options)
    _require_weights(options, variant)
    from export import pipeline  # torch takes seconds to import: not before the arguments make sense
    from export.progress import Progress

    # onnxscript notes every node that it leaves as it is.
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    checkpoint, source, digest = _weights(options, variant)
    pipeline.run(
        pipeline.ExportRequest(
            variant=variant,
            checkpoint=checkpoint,
            checkpoint_source=source,
            checkpoint_sha256=digest,
            repository=options.repository,
            command=options.command,
            max_batch_size=options.max_batch_size or variant.max_batch_size,
            engine=ENGINES[options.engine],
            precision=precision,
            unverified=options.unverified,
            towers=options.towers,
            force=options.force,
        ),
        Progress(sys.stderr),
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


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "": _export,
    "list": _list,
    "check": _check,
    "preflight": _preflight,
}


def _precision(options: argparse.Namespace) -> Precision:
    """What was asked for, or the engine's own; ExportError if the engine does not have it."""
    engine = ENGINES[options.engine]
    precision: Precision = options.precision or engine.precisions[0]
    if precision not in engine.precisions:
        raise ExportError(f"{engine.name} has no {precision}, only {', '.join(engine.precisions)}")
    return precision


def _require_weights(options: argparse.Namespace, variant: Variant) -> None:
    """CheckpointError at once if there is nothing to export from."""
    path = options.checkpoint or variant.bundled_checkpoint
    if options.source == "hub":
        if not variant.hub_repository:
            raise CheckpointError(f"{variant.name} is not on the hub; its weights come with this package")
    elif path is None:
        raise CheckpointError(
            f"{variant.name} needs its weights: --from hub downloads them, --checkpoint FILE reads a file"
        )
    elif path.is_dir():
        raise CheckpointError(f"{path} is a directory: --checkpoint takes the file in it")
    elif not path.is_file():
        raise CheckpointError(f"no checkpoint file at {path}")


def _weights(options: argparse.Namespace, variant: Variant) -> tuple[Path, str, str]:
    """The file, what to call its source, and its digest if the source states one."""
    if options.source == "hub":
        from export.repository.store import Repository
        from export.weights import hub

        revision, why = options.revision or "main", ""
        if not options.revision and not options.force:
            recorded = hub.recorded_commit(Repository(options.repository), variant)
            revision, why = recorded or revision, " (exported before; --revision main: the newest)" if recorded else ""
        print(f"{variant.hub_repository} at {revision}{why}, from the hub or its cache", file=sys.stderr, flush=True)
        download = hub.fetch(hub.HubFile(variant.hub_repository, hub.WEIGHTS), revision)
        return download.path, download.source, download.sha256
    path = options.checkpoint or variant.bundled_checkpoint
    assert path is not None  # _require_weights has seen to it
    return path, path.name, ""


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"pe-export {command}".rstrip(),
        description={
            "": "Export both towers of a Perception Encoder to ONNX, prove that they embed as torch does, and put them "
            "into a Triton model repository. Also: pe-export list, check, preflight.",
            "list": "Show what can be exported, and what is in the model repository.",
            "check": "Verify the model repository: files, hashes and configuration, and that a fresh run of each model "
            "still gives the recorded answers.",
            "preflight": "Say which TensorRT plans in the repository this machine could not load.",
        }[command],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), metavar="DIR", help="where it is")
    if command:
        return parser
    parser.add_argument("variant", nargs="?", default=DEFAULT_VARIANT, metavar="VARIANT", help=", ".join(VARIANTS))
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="weights in open_clip's layout (safetensors or torch) or Meta's (PE-Core-*.pt)",
    )
    weights.add_argument(
        "--from",
        dest="source",
        choices=["hub"],
        help="download the published weights, or take them from the hub's cache",
    )
    parser.add_argument(
        "--revision",
        metavar="COMMIT",
        help="which of the hub's revisions; unset, the one that the models in the repository are from, else main",
    )
    parser.add_argument("--engine", choices=ENGINES, default="onnx", help="what serves it")
    parser.add_argument(
        "--precision", choices=get_args(Precision), help="of the matrix products (the engine's default)"
    )
    parser.add_argument("--max-batch-size", type=_batch_size, metavar="N", help="largest batch Triton may form")
    parser.add_argument("--towers", type=_towers, default=TOWERS, metavar="vision,text", help="which towers to export")
    parser.add_argument("--unverified", action="store_true", help="publish what nothing on this machine can run")
    parser.add_argument("--force", action="store_true", help="export again even if nothing has changed")
    return parser


def _batch_size(text: str) -> int:
    # The largest is inferred once before a model is ready: beyond reason, it would exhaust any GPU's memory.
    if not (text.isdecimal() and 1 <= int(text) <= _LARGEST_BATCH):
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {_LARGEST_BATCH}")
    return int(text)


def _towers(text: str) -> tuple[Tower, ...]:
    names = text.split(",")
    for name in names:
        if name not in TOWERS:
            raise argparse.ArgumentTypeError(f"there is no tower {name!r}, only {' and '.join(TOWERS)}")
    return tuple(tower for tower in TOWERS if tower in names)


if __name__ == "__main__":
    raise SystemExit(main())
