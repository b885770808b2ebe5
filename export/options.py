"""Parse the command line of `pe-export`: which of its commands is run, and the options of that command."""

import argparse
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

from export.engines import DEFAULT_ENGINE, ENGINES
from export.graph.spec import Precision
from export.variants import DEFAULT_VARIANT, TOWERS, VARIANTS, Tower

_DESCRIPTIONS: Final = {
    "": "Export both towers of a Perception Encoder, compare their embeddings with torch's, and add them to a Triton "
    "model repository.",
    "list": "List the variants that can be exported, and the models in the repository.",
    "check": "Check the files and configuration of each model, run it, and compare with the recorded embeddings.",
    "preflight": "List the TensorRT plans in the repository that this machine cannot load.",
}

# Triton infers the largest batch once before a model is ready. A larger batch would exhaust the memory of any GPU.
_LARGEST_BATCH: Final = 1024


def parse(arguments: Sequence[str]) -> tuple[str, argparse.Namespace]:
    """Parse the arguments after the program's name.

    Returns:
        The command: "" for an export, or `list`, `check` or `preflight`. Its options, with the whole line as `command`.

    Raises:
        SystemExit: with status 2, if an argument is invalid.
    """
    command = arguments[0] if arguments and arguments[0] in _DESCRIPTIONS else ""
    options = _parser(command).parse_args(arguments[1:] if command else arguments)
    options.command = shlex.join(["pe-export", *arguments])
    return command, options


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the epilog, and does not break a variant's name at its hyphens."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def _parser(command: str) -> argparse.ArgumentParser:
    others = "".join(f"  pe-export {name:10} {description}\n" for name, description in _DESCRIPTIONS.items() if name)
    parser = argparse.ArgumentParser(
        prog=f"pe-export {command}".rstrip(),
        description=textwrap.fill(_DESCRIPTIONS[command]),
        epilog="" if command else f"other commands (--help after one shows its options):\n{others}",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument(
        "--repository",
        type=_path,
        default=Path("model_repository"),
        metavar="DIR",
        help="model repository (default: %(default)s)",
    )
    if not command:
        _add_export_options(parser)
    return parser


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "variant",
        nargs="?",
        metavar="VARIANT",
        help=f"{', '.join(VARIANTS)} (default: that of the file of --checkpoint, or else {DEFAULT_VARIANT})",
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--checkpoint",
        type=_path,
        metavar="FILE",
        help="weights in open_clip's layout (safetensors or torch) or in Meta's (PE-Core-*.pt)",
    )
    weights.add_argument(
        "--from",
        dest="source",
        choices=["hub"],
        help="download the published weights, unless they are in the hub's cache",
    )
    parser.add_argument(
        "--revision",
        metavar="COMMIT",
        help="commit, branch or tag on the hub (default: the commit of the models in the repository, or main)",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default=DEFAULT_ENGINE, help="engine that serves it (default: %(default)s)"
    )
    precisions = ", ".join(f"{engine.precisions[0]} with {name}" for name, engine in ENGINES.items())
    parser.add_argument(
        "--precision", choices=get_args(Precision), help=f"precision of the matrix products (default: {precisions})"
    )
    parser.add_argument(
        "--max-batch-size",
        type=_batch_size,
        metavar="N",
        help="largest batch that Triton may form (default: 16 to 64, less for larger variants)",
    )
    parser.add_argument(
        "--towers", type=_towers, default=TOWERS, metavar="TOWERS", help="vision, text or vision,text (default: both)"
    )
    parser.add_argument("--unverified", action="store_true", help="publish an artifact that this machine cannot run")
    parser.add_argument("--force", action="store_true", help="export again even if nothing has changed")


def _path(text: str) -> Path:
    if not text:  # As from an unset variable. `Path("")` would be the current directory.
        raise argparse.ArgumentTypeError("must not be empty")
    try:
        text.encode()
    except UnicodeEncodeError:  # torch, safetensors and the certificate's JSON refuse such a name.
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8: rename it") from None
    return Path(text)


def _batch_size(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _LARGEST_BATCH):
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {_LARGEST_BATCH}")
    return int(text)


def _towers(text: str) -> tuple[Tower, ...]:
    names = text.split(",")
    for name in names:
        if name not in TOWERS:
            raise argparse.ArgumentTypeError(f"unknown tower {name!r}: choose from {', '.join(TOWERS)}")
    return tuple(tower for tower in TOWERS if tower in names)
