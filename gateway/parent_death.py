"""End a process when its parent dies, even by SIGKILL."""

import ctypes
import os
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def end_with_parent(parent: int, signum: int) -> None:
    """Let the kernel send this process a signal when its parent dies. If the parent is dead already, end at once.

    Args:
        parent: the parent's process id. The kernel watches the thread that started this process.
        signum: the signal.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os._exit(1)
