"""`pe-export`: bring a checkpoint into a Triton model repository."""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from export.errors import CheckpointError, ExportError
from export.variants import DEFAULT_VARIANT, TOWERS, VARIANTS, Tower, Variant, find_variant


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 it could not be done, 2 the arguments make no sense."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    try:
        _export(options, shlex.join(["pe-export", *arguments]))
    except ExportError as error:
        print(f"pe-export: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"pe-export: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pe-export: stopped; nothing half-made is left in the repository", file=sys.stderr)
        return 130
    return 0


def _export(options: argparse.Namespace, command: str) -> None:
    variant = find_variant(options.variant)
    checkpoint = _checkpoint(options.checkpoint, variant)
    from export import pipeline  # torch takes seconds to import: not before the arguments make sense

    # onnxscript notes every node that it leaves as it is.
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    pipeline.run(
        pipeline.Order(
            variant=variant,
            checkpoint=checkpoint,
            checkpoint_source=checkpoint.name,
            repository=options.repository,
            command=command,
            max_batch_size=options.max_batch_size or variant.max_batch_size,
            towers=options.towers,
            force=options.force,
        ),
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )


def _checkpoint(given: Path | None, variant: Variant) -> Path:
    path = given or variant.bundled_checkpoint
    if path is None:
        raise CheckpointError(
            f"{variant.name} needs its weights: pass --checkpoint FILE (open_clip's or Meta's layout)"
        )
    if not path.is_file():
        raise CheckpointError(f"no checkpoint file at {path}")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pe-export",
        description="Export both towers of a Perception Encoder to ONNX, prove that they embed as torch does, "
        "and put them into a Triton model repository.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("variant", nargs="?", default=DEFAULT_VARIANT, metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="weights in open_clip's layout (safetensors or torch) or Meta's (PE-Core-*.pt)",
    )
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), metavar="DIR", help="where to put it"
    )
    parser.add_argument("--max-batch-size", type=_positive, metavar="N", help="largest batch Triton may form")
    parser.add_argument("--towers", type=_towers, default=TOWERS, metavar="vision,text", help="which towers to export")
    parser.add_argument("--force", action="store_true", help="export again even if nothing has changed")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _towers(text: str) -> tuple[Tower, ...]:
    names = text.split(",")
    for name in names:
        if name not in TOWERS:
            raise argparse.ArgumentTypeError(f"there is no tower {name!r}, only {' and '.join(TOWERS)}")
    return tuple(tower for tower in TOWERS if tower in names)


if __name__ == "__main__":
    raise SystemExit(main())
