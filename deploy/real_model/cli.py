"""What `make serve` runs once the serving environments exist: export the wanted model if need be, then `pe-serve`.

Nothing is exported, and no environment with torch is needed, if an earlier run has exported the model.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from deploy.embedded import installation
from deploy.embedded.child import ending_with_this_process
from deploy.embedded.engine_choice import on_gpu
from deploy.embedded.errors import LaunchError
from deploy.embedded.run_directory import cache
from deploy.real_model.variables import CHECKOUT, Mistake, Wanted, read
from export.files import readable_size, sha256_of
from export.repository import holding

_SETUP: Final = CHECKOUT / "deploy/setup.sh"
_PE_EXPORT: Final = CHECKOUT / ".venv-export/bin/pe-export"
_INTERRUPTED: Final = 130
_CONTINUE: Final = "interrupted. Run the same command again: it continues where it stopped."


def main() -> int:
    """Make what the variables ask for, then become `pe-serve`.

    Returns:
        The exit status, if nothing is served: 1 if a step failed, 2 if a variable is wrong, 130 after a stop signal.
    """
    try:
        return _main()
    except Mistake as mistake:
        _say(str(mistake))
        return 2
    except KeyboardInterrupt:
        _say(_CONTINUE)
        return _INTERRUPTED


def _main() -> int:
    wanted = read(os.environ)
    if wanted.variant is None and wanted.checkpoint is None:
        return _become_pe_serve()
    repository, digest = _repository(wanted)
    held = holding.find(repository, None if wanted.checkpoint else wanted.variant)
    export = list(_export_command(wanted, repository))
    if held is None:
        _say(f"exporting to {_short(repository)}. Ctrl-C stops it, and the same command continues.")
        for command in ([str(_SETUP), "export"], export):
            if status := _run(command):
                if status == _INTERRUPTED:
                    _say(_CONTINUE)
                return status
    else:
        _require_consistent(wanted, held, digest)
        _say(f"{held.variant.name} is in {_short(repository)}: weights {held.checkpoint_source}; {held.summary}")
        if held.of_older_code:
            _say(
                f"this version exports it differently. It is served as it is; to export it again: {shlex.join(export)}"
            )
    return _become_pe_serve("--repository", str(repository))


def _repository(wanted: Wanted) -> tuple[Path, str]:
    """Return the wanted model's repository, and the SHA-256 of its checkpoint file or "".

    Each model has a repository of its own, because `pe-serve` loads all models of one. A file is known by its contents.
    """
    if wanted.checkpoint is None:
        assert wanted.variant is not None
        return wanted.models / wanted.variant.name, ""
    _say(f"hashing {wanted.checkpoint} ({readable_size(wanted.checkpoint.stat().st_size)}) ...")
    digest = sha256_of(wanted.checkpoint)
    return wanted.models / f"checkpoint-{digest[:12]}", digest


def _require_consistent(wanted: Wanted, held: holding.Holding, digest: str) -> None:
    """Check that the models that were found are those that are wanted.

    Raises:
        Mistake: they are of another variant or of other weights.
    """
    if wanted.variant not in (None, held.variant):
        raise Mistake(f"CHECKPOINT={wanted.checkpoint} is a {held.variant.name} checkpoint: omit VARIANT")
    if digest not in ("", held.space.checkpoint_sha256):
        raise Mistake(f"{wanted.models}/checkpoint-{digest[:12]} was made from another file: remove that directory")


def _export_command(wanted: Wanted, repository: Path) -> Iterator[str]:
    yield _short(_PE_EXPORT)
    if wanted.variant:
        yield wanted.variant.name
    if wanted.checkpoint:
        yield from ("--checkpoint", str(wanted.checkpoint))
    elif wanted.variant and wanted.variant.hub_repository:
        yield from ("--from", "hub")
    # On a CPU, FP32 is exported, and `pe-serve` chooses the engine and the precision that are fastest there.
    if _serves_on_gpu():
        yield from ("--precision", "fp16")
    yield from ("--repository", _short(repository))


def _serves_on_gpu() -> bool:
    try:
        found = installation.find(installation.candidate_environments(cache()))
    except LaunchError:  # `pe-serve` will say what is wrong with it.
        return False
    return on_gpu(found.cuda)


def _run(command: Sequence[str]) -> int:
    """Run a command to its end, with the output of this process.

    Stop signals are passed on. The command is in a process group of its own, so that it gets a terminal's Ctrl-C once.

    Returns:
        Its exit status; 130 if a stop signal ended it.
    """
    received: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: object) -> None:
        received.append(number)
        if process is not None:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = subprocess.Popen(ending_with_this_process(command), stdin=subprocess.DEVNULL, process_group=0)
        if received:  # before there was a process to pass it on to
            process.send_signal(received[0])
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return _INTERRUPTED if received and status else abs(status)


def _become_pe_serve(*arguments: str) -> NoReturn:
    program = _short(Path(sys.executable).with_name("pe-serve"))
    os.execv(program, [program, *arguments])


def _short(path: Path) -> str:
    """Return the path relative to the working directory, if it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _say(line: str) -> None:
    print(f"make serve: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
