"""Run a program whose files only its own user can read.

    python keep_private.py PROGRAM [ARGUMENT ...]

Triton's Python backend passes every request through files in `/dev/shm`. Boost creates them and then sets their mode
to 0644 by `fchmod`, whatever the umask is, so any user of the machine could read them. A mode set afterwards would come
too late for a process that has opened the file before. This program sets the umask, and a seccomp filter that makes the
kernel skip each `fchmod` that would admit other users: the call reports success and changes nothing.

A filter also needs `no_new_privs`, so the program cannot gain rights by a setuid program.
"""

import ctypes
import os
import platform
import struct
import sys

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2  # linux/seccomp.h
_ALLOW, _SUCCEED = 0x7FFF_0000, 0x0005_0000  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with the error 0
# linux/bpf_common.h: load a word, jump if equal, jump if any bit is set, return.
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
# Offsets in `struct seccomp_data`.
_NUMBER, _ARCHITECTURE, _MODE = 0, 4, 24
# By machine: AUDIT_ARCH_* of linux/audit.h, and the number of fchmod.
_FCHMOD = {"x86_64": (0xC000_003E, 91), "aarch64": (0xC000_00B7, 52)}
_OTHERS = 0o077


class _Program(ctypes.Structure):
    """`struct sock_fprog` of linux/filter.h."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def _filter(architecture: int, fchmod: int) -> bytes:
    """Assemble the filter. A jump names how many instructions to skip if the test holds, and if it does not."""
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 0, 5, architecture),
        (_LOAD, 0, 0, _NUMBER),
        (_IF_EQUAL, 0, 3, fchmod),
        (_LOAD, 0, 0, _MODE),
        (_IF_ANY_BIT, 0, 1, _OTHERS),
        (_RETURN, 0, 0, _SUCCEED),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def main() -> None:
    """Set the umask and the filter, then become the program. Exit with a message if the kernel has no filters."""
    os.umask(_OTHERS)
    code = _filter(*_FCHMOD[platform.machine()])
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        reason = os.strerror(ctypes.get_errno())
        sys.exit(f"the kernel accepts no seccomp filter ({reason}), so other users could read Triton's shared memory")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
