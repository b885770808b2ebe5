"""Landlock: take all access to files, and where the kernel knows it TCP, from this process.

Source: https://docs.kernel.org/userspace-api/landlock.html. The system calls have the same numbers on all processors.
"""

import ctypes
import os
import struct
from typing import Final

_CREATE_RULESET: Final = 444
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1  # LANDLOCK_CREATE_RULESET_VERSION
# Access to files that each version of the interface added, and of version 4 access to TCP.
_FILE_ACCESS_BITS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
_TCP_SINCE: Final = 4
_TCP_BIND_AND_CONNECT: Final = 0b11


def restrict() -> bool:
    """Take all access that Landlock knows from this process, for good. Open descriptors stay usable.

    Returns:
        False if the kernel does not offer Landlock.
    """
    libc = ctypes.CDLL(None)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return False
    bits = max(count for since, count in _FILE_ACCESS_BITS.items() if since <= version)
    attributes = struct.pack("<Q", (1 << bits) - 1)
    if version >= _TCP_SINCE:
        attributes += struct.pack("<Q", _TCP_BIND_AND_CONNECT)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)
