"""Run a program that ends when the process that started it ends, even by SIGKILL.

    python end_with_parent.py PARENT_PID PROGRAM [ARGUMENT ...]

`Child` starts this file instead of passing `preexec_fn` to `subprocess`. With `preexec_fn`, the start is a `fork`, and
gRPC's fork handlers run in the new process. They use file descriptors that are closed already, and abort it. Without
`preexec_fn`, the start is a `vfork`, which runs no handlers.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Ask the kernel for SIGTERM at the parent's death, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # It died before the call above.
        sys.exit(1)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
